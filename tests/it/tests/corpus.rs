//! The fuzzers' corpora, replayed without a fuzzer: every file in tests/fuzz/corpus/TARGET goes through its target.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::tidy::root;

/// The corpora's bounds, so that a checkout and this test stay small.
const FILES_MAX: usize = 200;
const FILE_BYTES_MAX: u64 = 4096;

#[test]
fn every_parser_survives_its_corpus() {
    let folder = root().join("tests/fuzz/corpus");
    let known: BTreeSet<&str> = fuzz::TARGETS.iter().map(|(target, _)| *target).collect();
    for entry in std::fs::read_dir(&folder).expect("tests/fuzz/corpus").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        assert!(known.contains(&*name), "corpus {name} belongs to no target of tests/fuzz/src/lib.rs");
    }
    for (target, run) in fuzz::TARGETS {
        let start = Instant::now();
        let files = std::fs::read_dir(folder.join(target))
            .unwrap_or_else(|error| panic!("tests/fuzz/corpus/{target}: {error}"));
        let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
        paths.sort();
        assert!((1..=FILES_MAX).contains(&paths.len()), "{target} has {} files", paths.len());
        for path in &paths {
            let bytes = std::fs::read(path).expect("a readable file");
            assert!(bytes.len() as u64 <= FILE_BYTES_MAX, "{} is too long", path.display());
            println!("{}", path.display());
            run(&bytes);
        }
        println!("{target}: {} files in {:.1?}", paths.len(), start.elapsed());
    }
    for (target, name, bytes) in fuzz::seeds() {
        println!("seed {target}/{name}");
        fuzz::TARGETS.iter().find(|(known, _)| *known == target).expect("a target").1(&bytes);
    }
}
