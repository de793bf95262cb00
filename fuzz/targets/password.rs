//! See `counterfoil_fuzz::password`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| counterfoil_fuzz::password::run(input));
