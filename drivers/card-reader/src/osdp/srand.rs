//! Seeds the C library's `rand`, from which libosdp draws the challenges of its secure channel.
#![expect(unsafe_code, reason = "srand is a C function")]

/// Seeds with 32 bits of the kernel's. Nobody else seeds it, so that after every start the same challenges, and
/// with them the same session keys, would come again: whoever recorded a session could play it back.
pub(super) fn reseed() {
    let mut seed = [0; 4];
    // The kernel's pool never fails once it is ready; before that the challenge is no better than the clock.
    if rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()) != Ok(seed.len()) {
        seed = super::clock::now().to_ne_bytes()[..4].try_into().unwrap_or_default();
    }
    seed_with(u32::from_ne_bytes(seed));
}

/// Seeds with a known number, so that a fuzzer's run can be repeated. Only for processes that have no reader.
pub fn seed_with(seed: u32) {
    // SAFETY: no pointers; glibc and musl guard the state with a lock.
    unsafe { libc::srand(seed) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn challenges_differ_after_every_start() {
        let draws = [(); 2].map(|()| {
            // SAFETY: as above.
            unsafe { libc::srand(1) };
            super::reseed();
            // SAFETY: no arguments; the state is guarded as above.
            [(); 4].map(|()| unsafe { libc::rand() })
        });
        assert_ne!(draws[0], draws[1]);
    }
}
