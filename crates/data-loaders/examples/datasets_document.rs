//! Prints DATASETS.md, for `san datasets --markdown` without the whole program.

fn main() -> Result<(), data_loaders::DataError> {
    print!("{}", data_loaders::catalogue(data_loaders::datasets()?));
    Ok(())
}
