//! Language models in a folder: configuration and safetensors.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::models::safetensors_seeds),
    |input: &[u8]| fuzz::models::safetensors(input)
);
