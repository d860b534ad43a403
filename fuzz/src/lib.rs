//! Code shared by the fuzz targets. With `SEEDS=<folder>` a target first writes valid files into that folder, from
//! which libFuzzer starts.

pub mod data;
#[cfg(feature = "models")]
pub mod models;
#[cfg(feature = "program")]
pub mod program;
mod scratch;

/// Writes the files from `seeds` into the folder named by `SEEDS`.
pub fn write_seeds(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("SEEDS").map(std::path::PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("the folder of seeds can be made");
    for (number, seed) in seeds().into_iter().enumerate() {
        std::fs::write(folder.join(format!("sound-{number:02}")), seed).expect("a seed can be written");
    }
}
