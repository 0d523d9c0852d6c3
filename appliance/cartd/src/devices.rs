//! The load-cell lines that a role manifest may name: the one place that knows every kind.

use load_cell::serial;
use runtime::manifest::LoadCellSettings;
use serde::Deserialize;

use crate::Open;

/// A line as the manifest describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum LineSettings {
    /// A serial port.
    Serial(serial::Settings),
}

/// A line's table is not valid; the source names the key.
#[derive(Debug, thiserror::Error)]
#[error("load cells of gondola {gondola}: the line is not valid")]
pub struct BadLine {
    /// Which line.
    pub gondola: u16,
    /// Why.
    #[source]
    pub source: Box<toml::de::Error>,
}

/// The lines of a manifest by gondola, for [`crate::run`].
///
/// # Errors
/// Names the gondola and the key at fault.
pub fn lines(settings: &[LoadCellSettings]) -> Result<Vec<(u16, Open<serial::Port>)>, BadLine> {
    settings
        .iter()
        .map(|LoadCellSettings { gondola, line }| {
            let gondola = *gondola;
            let line = line.clone().try_into();
            let LineSettings::Serial(settings) =
                line.map_err(|source| BadLine { gondola, source: Box::new(source) })?;
            let open: Open<serial::Port> = Box::new(move || serial::open(&settings));
            Ok((gondola, open))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let settings =
            |line: &str| vec![LoadCellSettings { gondola: 3, line: toml::from_str(line).expect("a table") }];
        let good = "kind = \"serial\"\npath = \"/dev/serial/by-path/none\"\n";
        let mut lines_of = lines(&settings(good)).expect("good settings");
        assert_eq!(lines_of[0].0, 3);
        assert_eq!((lines_of[0].1)().unwrap_err().kind(), std::io::ErrorKind::NotFound);
        for (bad, named) in [
            (good.replace("serial\"", "seriel\""), "seriel"),
            (good.replace("path", "pat"), "pat"),
            (format!("{good}parity = \"mark\""), "mark"),
        ] {
            let error = lines(&settings(&bad)).err().expect("refused");
            let text = format!("{error}: {}", error.source().expect("a cause"));
            assert!(text.contains("gondola 3") && text.contains(named), "{text}");
        }
    }
}
