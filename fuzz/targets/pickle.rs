//! See `counterfoil_fuzz::pickle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| counterfoil_fuzz::pickle::run(input));
