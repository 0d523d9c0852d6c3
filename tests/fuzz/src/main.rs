//! The fuzzer's binary: libFuzzer on one target, named by `TARGET`.
#![no_main]

use std::sync::LazyLock;

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_default();
    let found = fuzz::TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("TARGET is one of {:?}", fuzz::TARGETS.map(|(target, _)| target))).1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| RUN(bytes));
