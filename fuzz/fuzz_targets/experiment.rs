//! Experiment files.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::program::experiment_seeds),
    |input: &[u8]| fuzz::program::experiment(input)
);
