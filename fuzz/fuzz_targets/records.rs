//! Records of finished runs.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::program::records_seeds),
    |input: &[u8]| fuzz::program::records(input)
);
