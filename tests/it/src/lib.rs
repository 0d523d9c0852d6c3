//! Stile's integration tests: one binary, `cargo test -p it`. It is deliberately no library; this file only gives the
//! package a target to build.
