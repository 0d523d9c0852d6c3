//! Bundles: what is in one, and how it gets in. RAUC checks signatures, writes slots and calls
//! [`crate::backend::called_by_rauc`].

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use osimage::slots::State;
use serde::Deserialize;

use crate::backend::Boot;
use crate::files;
use crate::place::Place;
use crate::watch;

/// Where the certificates of the operator's own update server are, if it has some.
pub const SERVER_CA: &str = "/run/stile/updates-ca.pem";

/// What a bundle says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its version.
    pub version: String,
    /// For which boards.
    pub compatible: String,
    /// When it was released, seconds since 1970: its waves count from then. None: everybody at once.
    pub released: Option<u64>,
}

/// RAUC's own description of a bundle, as far as it is of interest; both of its forms.
#[derive(Deserialize)]
struct Described {
    version: Option<String>,
    compatible: Option<String>,
    update: Option<Box<Described>>,
    #[serde(default)]
    meta: serde_json::Value,
}

impl Bundle {
    /// Reads what `rauc info --output-format=json-2` prints.
    ///
    /// # Errors
    /// When it is not that.
    pub fn parse(text: &str) -> Result<Self> {
        let described: Described =
            serde_json::from_str(text).context("rauc describes the bundle otherwise")?;
        let released = match &described.meta["stile"]["released"] {
            serde_json::Value::Number(number) => number.as_u64(),
            serde_json::Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let Described { version, compatible, .. } = match described.update {
            Some(update) => *update,
            None => described,
        };
        Ok(Self {
            version: version.context("the bundle has no version")?,
            compatible: compatible.context("the bundle does not say for which boards it is")?,
            released,
        })
    }
}

/// The boards that bundles must be for, as RAUC's configuration has it.
///
/// # Errors
/// Without a configuration.
pub fn compatible(place: &Place) -> Result<String> {
    let path = place.at("/etc/rauc/system.conf");
    let text = files::text(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let found = text.lines().find_map(|line| line.trim().strip_prefix("compatible="));
    found.map(|it| it.trim().to_owned()).with_context(|| format!("{} names no board", path.display()))
}

/// What is in a bundle; its signature is checked.
///
/// # Errors
/// RAUC's own words.
pub fn inspect(place: &Place, bundle: &str) -> Result<Bundle> {
    let mut command = Command::new("rauc");
    command.args(["info", "--output-format=json-2"]).args(server(place, bundle)).arg(bundle);
    let output = command.output().context("cannot run rauc")?;
    if !output.status.success() {
        bail!("{bundle} is refused: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Bundle::parse(&String::from_utf8_lossy(&output.stdout))
}

/// What RAUC must know of the server that a bundle comes from.
fn server(place: &Place, bundle: &str) -> Option<String> {
    let ca = place.at(SERVER_CA);
    (bundle.starts_with("https://") && ca.exists()).then(|| format!("--tls-ca={}", ca.display()))
}

/// `caretaker update`: installs a bundle, says each step, and leaves the restart to `watch`.
///
/// # Errors
/// Why the bundle is refused, or what failed.
pub fn command(place: &Place, bundle: &str, at_once: bool, out: &mut impl Write) -> Result<()> {
    let mut say = |text: &str| {
        writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
    };
    say("step: check")?;
    {
        let boot = Boot::open(place)?;
        let slot = boot.running.slot;
        match boot.state(slot)? {
            State::Good => {}
            state => bail!("slot {slot} is {state}: it must prove itself before it is updated"),
        }
    }
    let Bundle { version, compatible: wanted, .. } = inspect(place, bundle)?;
    let board = compatible(place)?;
    if wanted != board {
        bail!("{bundle} is for {wanted}, this box is {board}");
    }
    say(&format!("step: install {version}"))?;
    let mut command = Command::new("rauc");
    command.arg("install").args(server(place, bundle)).arg(bundle).stdin(Stdio::null());
    let status = command.status().context("cannot run rauc")?;
    if !status.success() {
        bail!("{bundle} is not installed: rauc ended with {status}");
    }
    say("step: activated")?;
    let boot = Boot::open(place)?;
    let primary = boot.primary()?;
    if primary != Some(boot.running.slot.other()) {
        bail!(
            "rauc has installed {version}, and the next start would still be that of slot {}",
            boot.running.slot
        );
    }
    drop(boot);
    if at_once {
        watch::ask_at_once(place)?;
    }
    say(match (watch::runs(), at_once) {
        (true, true) => "step: restart, as soon as nobody is at a lane",
        (true, false) => "step: restart, in its hours and when nobody is at a lane",
        (false, _) => "caretaker-watch does not run: restart the box yourself",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions() {
        let want =
            Bundle { version: "7".to_owned(), compatible: "stile-x86-64".to_owned(), released: Some(5) };
        for text in [
            r#"{"update":{"compatible":"stile-x86-64","version":"7"},"meta":{"stile":{"released":"5"}},"images":[]}"#,
            r#"{"compatible":"stile-x86-64","version":"7","meta":{"stile":{"released":5}}}"#,
        ] {
            assert_eq!(Bundle::parse(text).unwrap(), want);
        }
        let bundle = Bundle::parse(r#"{"compatible":"x","version":"7"}"#).unwrap();
        assert_eq!(bundle.released, None);
        for text in ["", "{}", r#"{"version":"7"}"#, "[]"] {
            assert!(Bundle::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_description(text in "\\PC{0,80}", value in "[0-9]{0,30}") {
            let _ = Bundle::parse(&text);
            let near = format!(r#"{{"update":{{"version":{text:?}}},"meta":{{"stile":{{"released":"{value}"}}}}}}"#);
            let _ = Bundle::parse(&near);
        }
    }

    #[test]
    fn which_board() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        assert!(compatible(&place).unwrap_err().to_string().contains("system.conf"));
        let ours = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../image/reference/boot");
        for (file, want) in
            [("system.conf", "stile-x86-64"), ("system.raspberry-pi.conf", "stile-raspberry-pi")]
        {
            let text = files::text(&ours.join(file)).expect("RAUC's configuration");
            files::replace(&place.at("/etc/rauc/system.conf"), text.as_bytes(), 0o644).unwrap();
            assert_eq!(compatible(&place).unwrap(), want);
        }
    }
}
