//! HDF5 files.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::write_seeds(fuzz::data::hdf5_seeds),
    |input: &[u8]| fuzz::data::hdf5(input)
);
