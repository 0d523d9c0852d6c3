//! Whether this machine can write Hangul: without such a font every Korean letter is an empty box.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use skrifa::string::StringId;
use skrifa::{FontRef, MetadataProvider};

/// Folders where Linux systems keep fonts (fontconfig's defaults).
const FOLDERS: [&str; 3] = ["/usr/share/fonts", "/usr/local/share/fonts", "/opt/fonts"];
/// Folders within folders that are looked into; font packages use three.
const DEPTH_MAX: usize = 6;
/// Letters that a font for Korean surely has.
const SAMPLE: &str = "가힣ㄱㅣ";

/// A font file with Hangul, judged by its character table; `None` when there is none.
#[must_use]
pub fn hangul() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share/fonts"));
    FOLDERS.iter().map(PathBuf::from).chain(home).find_map(|folder| find(&folder, DEPTH_MAX, SAMPLE))
}

/// A font file in `folder` that has every letter of `text`. Files with CJK in their name are read first, as
/// fonts for Korean are large and named so.
fn find(folder: &Path, depth: usize, text: &str) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let likely = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        ["cjk", "kr", "nanum", "pretendard"].iter().any(|part| name.contains(part))
    };
    entries.sort_by_key(|path| (!likely(path), path.clone()));
    entries.iter().find_map(|path| {
        if path.is_dir() {
            return depth.checked_sub(1).and_then(|depth| find(path, depth, text));
        }
        let kind = path.extension()?.to_str()?.to_lowercase();
        let font = matches!(kind.as_str(), "ttf" | "otf" | "ttc" | "otc");
        (font && has(&std::fs::read(path).ok()?, text)).then(|| path.clone())
    })
}

/// Whether the font in `bytes` has every letter of `text`.
#[must_use]
pub fn has(bytes: &[u8], text: &str) -> bool {
    let Ok(font) = FontRef::from_index(bytes, 0) else { return false };
    let map = font.charmap();
    text.chars().all(|letter| letter == ' ' || map.map(letter).is_some())
}

/// The family of a font with Hangul, by its own name; where there is none, the one that should be there.
#[must_use]
pub fn family() -> &'static str {
    static FAMILY: OnceLock<String> = OnceLock::new();
    FAMILY.get_or_init(|| {
        let wanted = || "Noto Sans CJK KR".to_owned();
        let Some(path) = hangul() else { return wanted() };
        // Its files hold the fonts of several countries, Japan's first.
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("NotoSansCJK")) {
            return wanted();
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        family_of(&bytes).unwrap_or_else(wanted)
    })
}

fn family_of(bytes: &[u8]) -> Option<String> {
    let font = FontRef::from_index(bytes, 0).ok()?;
    let own = |id| font.localized_strings(id).english_or_first().map(|name| name.to_string());
    own(StringId::TYPOGRAPHIC_FAMILY_NAME).or_else(|| own(StringId::FAMILY_NAME))
}

/// Warns in the log when Korean cannot be shown.
pub fn warn_without_hangul() {
    if hangul().is_none() {
        tracing::warn!("no font with Hangul found: Korean texts will show as boxes; install fonts-noto-cjk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_a_font() {
        let mut seed = 3_u64;
        for length in 0..300 {
            let mut bytes = b"ttcf\0\x02\0\0\0\0\0\x01".to_vec();
            for _ in 0..length {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                bytes.push((seed >> 40) as u8);
            }
            assert!(!has(&bytes, "가"));
        }
    }

    #[test]
    fn every_letter_of_every_text_is_in_the_font() {
        let Some(path) = hangul() else {
            eprintln!("skipped: no font with Hangul on this machine");
            return;
        };
        let bytes = std::fs::read(path).unwrap();
        let source = concat!(
            include_str!("words.rs"),
            include_str!("keyboard.rs"),
            include_str!("technician/words.rs")
        );
        let missing: String = source
            .chars()
            .filter(|letter| !letter.is_control() && *letter != crate::keyboard::DELETE)
            .filter(|letter| !has(&bytes, &letter.to_string()))
            .collect();
        assert_eq!(missing, "");
    }
}
