//! See `counterfoil_fuzz::forwarded`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| counterfoil_fuzz::forwarded::run(input));
