//! The camera decode path over pictures that others took (`STILE_DATA`), through the worker.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use code_reader::worker::Program;
use gated::decode::Stills;

fn stills() -> Stills {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_gated"));
    Stills::new(Program { path, arguments: vec!["code-reader".to_owned()] })
}

fn pictures(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            pictures(&path, found);
        } else if path.extension().is_some_and(|ext| ["png", "jpg", "webp"].iter().any(|known| ext == *known))
        {
            found.push(path);
        }
    }
}

/// Counts exact texts per folder. The floors are what was measured, less a little for other decoder versions.
#[test]
fn pictures_that_others_took() {
    let data = std::env::var_os("STILE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let root = data.join("qr");
    if !root.is_dir() {
        eprintln!("skipped: no data");
        return;
    }
    let mut stills = stills();
    let mut files = Vec::new();
    pictures(&root, &mut files);
    let (mut right, mut all, mut ms_sum) = (0, 0, 0.0);
    let mut folders: BTreeMap<PathBuf, (u32, u32)> = BTreeMap::new();
    let mut false_reads = 0;
    for file in files {
        let Ok(want) = fs::read(file.with_extension("txt")) else {
            if file.components().any(|part| part.as_os_str().to_string_lossy().starts_with("falsepositives"))
            {
                false_reads += stills.decode_file(&file).map_or(0, |(codes, _)| codes.len());
            }
            continue;
        };
        let want = String::from_utf8_lossy(&want).replace("\r\n", "\n");
        let (codes, ms) = stills.decode_file(&file).unwrap();
        let exact = codes.iter().any(|code| code.text.replace("\r\n", "\n") == want);
        let folder =
            folders.entry(file.parent().unwrap().strip_prefix(&root).unwrap().to_owned()).or_default();
        folder.0 += u32::from(exact);
        folder.1 += 1;
        if std::env::var_os("STILE_MISSED").is_some() && !exact {
            let texts: Vec<&str> = codes.iter().map(|code| code.text.as_str()).collect();
            eprintln!("missed {} {texts:?} wants {want:?}", file.display());
        }
        let folder = file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        if folder.starts_with("qrcode") {
            right += u32::from(exact);
            all += 1;
            ms_sum += ms;
        }
    }
    for (folder, (exact, all)) in &folders {
        eprintln!("{}: {exact} of {all}", folder.display());
    }
    let rate = f64::from(right) / f64::from(all);
    eprintln!(
        "qrcode folders: {right} of {all} ({:.1} %), mean {:.2} ms",
        rate * 100.0,
        ms_sum / f64::from(all)
    );
    eprintln!("codes read in false-positive pictures: {false_reads}");
    assert!(rate >= 0.94, "{right} of {all}");
    assert_eq!(false_reads, 0);
}
