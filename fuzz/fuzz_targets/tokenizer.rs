//! Vocabularies.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::models::tokenizer_seeds),
    |input: &[u8]| fuzz::models::tokenizer(input)
);
