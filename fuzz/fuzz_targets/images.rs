//! Images of every format.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::data::images_seeds),
    |input: &[u8]| fuzz::data::images(input)
);
