//! See `counterfoil_fuzz::mail`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| counterfoil_fuzz::mail::run(input));
