/* Coverage of C code for libFuzzer where the compiler is GCC, which reports program counters one by one: each is
   counted in the section that libFuzzer reads beside Rust's counters. libFuzzer has a function of this name that
   only says that it is out of use; the linker puts this one in its place. */
#include <stdint.h>

#define COUNTERS 16384

__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

__attribute__((no_sanitize_coverage)) void __wrap___sanitizer_cov_trace_pc(void)
{
	uintptr_t at = (uintptr_t)__builtin_return_address(0);
	uint8_t *counter = &counters[(at ^ at >> 14) % COUNTERS];

	if (*counter != UINT8_MAX)
		++*counter;
}
