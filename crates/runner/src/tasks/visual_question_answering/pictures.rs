//! The pictures of questions, each once however many questions it has, and how the questions about one share a forward
//! pass.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use anyhow::Result;
use data_loaders::text::Example;
use data_loaders::vl::{Picture, PictureProtocol};

use crate::resources::FeatureFile;

/// Each picture once, in the order of first use.
#[derive(Default)]
pub(super) struct Pictures {
    all: Vec<Picture>,
    places: HashMap<String, usize>,
}

impl<'a> FromIterator<&'a Picture> for Pictures {
    fn from_iter<T: IntoIterator<Item = &'a Picture>>(pictures: T) -> Self {
        let mut all = Self::default();
        for picture in pictures {
            if let Entry::Vacant(place) = all.places.entry(picture.identity()) {
                place.insert(all.all.len());
                all.all.push(picture.clone());
            }
        }
        all
    }
}

impl Pictures {
    pub(super) fn all(&self) -> &[Picture] {
        &self.all
    }

    /// Where a picture is in [`Self::all`]; `None` for none, or an unknown one.
    pub(super) fn place(&self, picture: Option<&Picture>) -> Option<usize> {
        self.places.get(&picture?.identity()).copied()
    }
}

/// Reads what the features of some pictures are computed from, on any thread.
#[derive(Clone)]
pub(super) enum BatchReader {
    /// The pictures themselves; `set` is for messages.
    Pictures { set: String, protocol: PictureProtocol, all: Arc<Pictures> },
    /// Features in a file.
    Features(Arc<FeatureFile>),
}

/// What was read.
pub(super) enum Batch {
    /// `[pictures, 3, size, size]`, normalised.
    Pixels(Vec<f32>),
    /// Rows of a file of features.
    Features(Arc<FeatureFile>, Vec<u8>),
}

impl BatchReader {
    pub(super) fn read(&self, places: &[usize]) -> Result<Batch> {
        Ok(match self {
            Self::Pictures { set, protocol, all } => {
                let pictures: Vec<&Picture> = places.iter().map(|&place| &all.all[place]).collect();
                Batch::Pixels(protocol.read(set, &pictures)?)
            }
            Self::Features(file) => Batch::Features(file.clone(), file.read(places)?),
        })
    }
}

/// Groups up to `most` examples about the same picture into one, in their original order; `places` has the picture of
/// each.
pub(super) fn share_passes(
    examples: Vec<Example>,
    places: Vec<Option<usize>>,
    most: usize,
) -> (Vec<Example>, Vec<Option<usize>>) {
    if most == 1 {
        return (examples, places);
    }
    let mut groups: Vec<(Option<usize>, Vec<Example>)> = Vec::new();
    let mut open: HashMap<usize, usize> = HashMap::new();
    for (example, picture) in examples.into_iter().zip(places) {
        let group =
            picture.and_then(|picture| open.get(&picture)).filter(|group| groups[**group].1.len() < most);
        if let Some(&group) = group {
            groups[group].1.push(example);
            continue;
        }
        picture.map(|picture| open.insert(picture, groups.len()));
        groups.push((picture, vec![example]));
    }
    let alone = |mut group: Vec<Example>| {
        if group.len() == 1 { group.remove(0) } else { Example::sharing(&group) }
    };
    groups.into_iter().map(|(picture, group)| (alone(group), picture)).unzip()
}
