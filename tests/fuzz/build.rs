//! Builds the counters of C code, for the fuzzer's binary only.

fn main() {
    println!("cargo:rerun-if-changed=src/trace.c");
    #[cfg(feature = "libfuzzer")]
    {
        cc::Build::new().file("src/trace.c").compile("trace");
        println!("cargo:rustc-link-arg-bin=fuzz=-Wl,--wrap=__sanitizer_cov_trace_pc");
    }
}
