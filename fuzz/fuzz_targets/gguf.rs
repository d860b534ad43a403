//! GGUF files: header, vocabulary and weights.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::models::gguf_seeds),
    |input: &[u8]| fuzz::models::gguf(input)
);
