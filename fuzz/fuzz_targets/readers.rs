//! Lists, other containers and archives: all that the targets with names of their own do not read.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::data::readers_seeds),
    |input: &[u8]| fuzz::data::readers(input)
);
