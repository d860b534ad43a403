//! Every reader of lists, headers and archives, by libFuzzer: the first byte picks the reader, the others are what it
//! reads.
//!
//! With `SEEDS=<folder>` the program writes sound bytes for each reader into that folder first, for libFuzzer to start
//! from.
#![no_main]

use std::cell::OnceCell;
use std::path::Path;

use data_loaders::probe::Probe;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static PROBE: OnceCell<Probe> = const { OnceCell::new() };
}

/// A sound input for each reader.
fn write_seeds(folder: &Path) {
    let probe = Probe::new().expect("the sets can be laid out");
    std::fs::create_dir_all(folder).expect("the folder of seeds can be made");
    for reader in 0..probe.readers() {
        let mut input = vec![u8::try_from(reader).expect("fewer than 256 readers")];
        input.extend(probe.sound(reader).expect("the fixtures are there"));
        std::fs::write(folder.join(format!("sound-{reader:02}")), input).expect("a seed can be written");
    }
}

/// Lets panics of the parquet library pass, which the reader of tables turns into an error; any other ends the program.
fn pass_what_is_caught() {
    let aborting = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_caught = panic.location().is_some_and(|place| place.file().contains("/parquet-"));
        if !is_caught {
            aborting(panic);
        }
    }));
}

fuzz_target!(
    init: {
        pass_what_is_caught();
        if let Some(folder) = std::env::var_os("SEEDS") {
            write_seeds(Path::new(&folder));
        }
    },
    |input: &[u8]| {
        let Some((first, bytes)) = input.split_first() else { return };
        PROBE.with(|probe| {
            let probe = probe.get_or_init(|| Probe::new().expect("the sets can be laid out"));
            probe.feed(usize::from(*first) % probe.readers(), bytes).expect("the disk takes it");
        });
    }
);
