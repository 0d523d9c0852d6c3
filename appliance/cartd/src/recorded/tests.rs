use std::path::PathBuf;

use super::*;

/// Folder of real recordings, `STILE_DATA` or beside the workspace; `None` in a plain clone.
fn recorded(name: &str) -> Option<PathBuf> {
    let data = std::env::var_os("STILE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let dir = data.join("autocheckout").join(name);
    dir.is_dir().then_some(dir)
}

#[test]
fn benchmark_1_gives_exactly_its_receipt() {
    let Some(dir) = recorded("BENCHMARK-1") else {
        eprintln!("skipped: no data");
        return;
    };
    let replay = replay(&dir).unwrap();
    let receipts: Vec<_> = replay
        .receipts
        .iter()
        .map(|receipt| {
            let lines: Vec<_> = receipt.lines.iter().map(|line| (line.product.as_str(), line.quantity)).collect();
            (receipt.shopper.as_str(), lines)
        })
        .collect();
    assert_eq!(receipts, [("3325379692103139202", vec![("071142008582", 1)])]);
    assert!(replay.reviews.is_empty() && replay.warnings.is_empty(), "{replay:?}");
    assert!(replay.receipts[0].lines[0].confidence > 0.98, "{replay:?}");
}
