//! NumPy archives of arrays.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::data::npz_seeds),
    |input: &[u8]| fuzz::data::npz(input)
);
