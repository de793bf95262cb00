//! See `counterfoil_fuzz::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| counterfoil_fuzz::token::run(input));
