//! See `counterfoil_fuzz::configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| counterfoil_fuzz::configuration::run(input));
