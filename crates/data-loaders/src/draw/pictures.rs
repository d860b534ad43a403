//! The pictures of a drawn set, drawn when one is first asked for: a plan needs their number and labels alone.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::{MiniTask, Part};

/// Parts in the order of their pictures.
const PARTS: [Part; 3] = [Part::Train, Part::Val, Part::Test];

/// RGB bytes of `image_size` x `image_size`, channels together, of each picture of a part.
type Drawn = [Vec<Vec<u8>>; 3];

/// The pictures of a task.
pub(crate) struct Pictures {
    task: MiniTask,
    name: String,
    counts: [usize; 3],
    /// Side of a picture, pixels.
    pub(crate) image_size: u32,
    drawn: OnceLock<Drawn>,
    checksum: OnceLock<String>,
}

impl Pictures {
    /// So many pictures of each part of the set `name`.
    pub(crate) fn new(task: MiniTask, name: &str, counts: [usize; 3], image_size: u32) -> Self {
        let (drawn, checksum) = (OnceLock::new(), OnceLock::new());
        Self { task, name: name.to_owned(), counts, image_size, drawn, checksum }
    }

    /// The labels of each part.
    pub(crate) fn labels(&self) -> [Vec<u32>; 3] {
        PARTS.map(|part| {
            let places = 0..self.counts[part as usize];
            places.map(|index| self.task.label(&self.name, part, index)).collect()
        })
    }

    /// The bytes of the pictures.
    pub(crate) fn drawn(&self) -> &Drawn {
        self.drawn.get_or_init(|| {
            PARTS.map(|part| {
                let places = (0..self.counts[part as usize]).into_par_iter();
                places.map(|index| self.task.draw(&self.name, part, index, self.image_size)).collect()
            })
        })
    }

    /// blake3 (hex) of name, labels and pixels.
    pub(crate) fn checksum(&self) -> &str {
        self.checksum.get_or_init(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(self.name.as_bytes());
            for (labels, pictures) in self.labels().iter().zip(self.drawn()) {
                hasher.update(&(labels.len() as u64).to_le_bytes());
                for (label, picture) in labels.iter().zip(pictures) {
                    hasher.update(&label.to_le_bytes()).update(picture);
                }
            }
            hasher.finalize().to_hex().to_string()
        })
    }
}
