//! The images of a synthetic dataset, rendered on first use: a plan only needs their number and labels.

use std::sync::OnceLock;

use rayon::prelude::*;

use crate::error::DataError;
use crate::registry::{DatasetEntry, MiniTask};
use crate::split::{Part, SplitCounts};
use crate::transform::resize;
use crate::vision::image_set::{ImageSet, PictureSource};

/// RGB bytes of `image_size` x `image_size`, interleaved, of each image of a part.
type Drawn = [Vec<Vec<u8>>; 3];

/// The images of a task.
pub(crate) struct Pictures {
    task: MiniTask,
    name: String,
    counts: [usize; 3],
    /// Side of an image in pixels.
    image_size: u32,
    drawn: OnceLock<Drawn>,
    checksum: OnceLock<String>,
}

impl Pictures {
    /// `counts` images for the parts of the dataset `name`.
    fn new(task: MiniTask, name: &str, counts: [usize; 3], image_size: u32) -> Self {
        let (drawn, checksum) = (OnceLock::new(), OnceLock::new());
        Self { task, name: name.to_owned(), counts, image_size, drawn, checksum }
    }

    /// The labels of each part.
    fn labels(&self) -> [Vec<u32>; 3] {
        Part::ALL.map(|part| {
            let places = 0..self.counts[part as usize];
            places.map(|index| self.task.label(&self.name, part, index)).collect()
        })
    }

    /// The rendered images.
    fn drawn(&self) -> &Drawn {
        self.drawn.get_or_init(|| {
            Part::ALL.map(|part| {
                let places = (0..self.counts[part as usize]).into_par_iter();
                places.map(|index| self.task.draw(&self.name, part, index, self.image_size)).collect()
            })
        })
    }
}

impl PictureSource for Pictures {
    fn image_size(&self) -> u32 {
        self.image_size
    }

    fn bytes(&self, part: Part, index: usize) -> Vec<u8> {
        self.drawn()[part as usize][index].clone()
    }

    fn checksum(&self) -> &str {
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

impl ImageSet {
    /// The stand-in `mini/<name>` of a dataset, `image_size` pixels wide; deterministic in its arguments. It is
    /// rendered when an image or the checksum is first requested.
    ///
    /// # Errors
    /// [`DataError::NoStandIn`] if the registry defines none, [`DataError::ImageSize`].
    pub fn draw(entry: &DatasetEntry, counts: SplitCounts, image_size: u32) -> Result<Self, DataError> {
        resize::check_size(image_size)?;
        let task = entry.mini.ok_or_else(|| DataError::NoStandIn { set: entry.name.clone() })?;
        let name = format!("mini/{}", entry.name);
        let SplitCounts { train, val, test } = counts;
        let pictures = Pictures::new(task, &name, [train, val, test], image_size);
        let labels = pictures.labels();
        Ok(Self::synthetic(name, entry, task.classes(), labels, Box::new(pictures)))
    }
}
