//! Files of data sets, through the readers of `data_loaders::probe`: the first byte picks one of the target's readers.

use std::cell::OnceCell;

use data_loaders::probe::Probe;

thread_local! {
    static PROBE: OnceCell<Probe> = const { OnceCell::new() };
}

/// Words in the names of readers, by target; a reader that matches none of them belongs to the target `readers`.
const TARGETS: [(&str, &[&str]); 4] = [
    ("images", &["an image"]),
    ("mat", &["a MAT-file", "labels.mat", "setid.mat", "list.mat", "annos.mat", "32x32.mat"]),
    ("npz", &[".npz", "npy"]),
    ("hdf5", &[".h5"]),
];

fn readers_of(probe: &Probe, target: &str) -> Vec<usize> {
    let named = |reader: &usize, words: &[&str]| words.iter().any(|word| probe.name(*reader).contains(word));
    let all = 0..probe.readers();
    match TARGETS.iter().find(|(name, _)| *name == target) {
        Some((_, words)) => all.filter(|reader| named(reader, words)).collect(),
        None => all.filter(|reader| !TARGETS.iter().any(|(_, words)| named(reader, words))).collect(),
    }
}

fn with_probe<T>(work: impl FnOnce(&Probe) -> T) -> T {
    PROBE.with(|probe| work(probe.get_or_init(|| Probe::new().expect("the sets can be laid out"))))
}

fn feed(target: &str, input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else { return };
    with_probe(|probe| {
        let readers = readers_of(probe, target);
        probe.feed(readers[usize::from(*first) % readers.len()], bytes).expect("the disk takes it");
    });
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    with_probe(|probe| {
        let readers = readers_of(probe, target).into_iter().enumerate();
        let seed = |(place, reader): (usize, usize)| {
            let first = u8::try_from(place).expect("fewer than 256 readers");
            [&[first], &probe.valid_input(reader).expect("the fixtures are there")[..]].concat()
        };
        readers.map(seed).collect()
    })
}

macro_rules! targets {
    ($($target:ident, $seeds:ident: $what:literal;)*) => {$(
        #[doc = $what]
        pub fn $target(input: &[u8]) {
            feed(stringify!($target), input);
        }

        /// Valid inputs.
        pub fn $seeds() -> Vec<Vec<u8>> {
            seeds(stringify!($target))
        }
    )*};
}

targets! {
    images, images_seeds: "Decodes an image.";
    mat, mat_seeds: "Reads a MATLAB file.";
    npz, npz_seeds: "Reads an archive of arrays.";
    hdf5, hdf5_seeds: "Reads an HDF5 file.";
    readers, readers_seeds: "Reads a list, another container or an archive.";
}
