//! The symbol that libosdp leaves weak for its platform to define.
#![expect(unsafe_code, reason = "a C library finds it by its name")]

/// Milliseconds for every time-out of libosdp, instead of its wall clock.
#[unsafe(no_mangle)]
extern "C" fn osdp_millis_now() -> i64 {
    super::clock::now()
}
