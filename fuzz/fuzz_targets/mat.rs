//! MATLAB files.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::data::mat_seeds),
    |input: &[u8]| fuzz::data::mat(input)
);
