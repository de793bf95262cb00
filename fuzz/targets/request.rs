//! See `counterfoil_fuzz::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| counterfoil_fuzz::request::run(input));
