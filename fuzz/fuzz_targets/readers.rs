//! Lists, other containers and archives: every reader without a target of its own.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::data::readers_seeds),
    |input: &[u8]| fuzz::data::readers(input)
);
