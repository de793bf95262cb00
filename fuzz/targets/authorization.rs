//! See `counterfoil_fuzz::authorization`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| counterfoil_fuzz::authorization::run(input));
