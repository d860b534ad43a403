//! The tower's features of the images of questions: each image is encoded once, however many questions it has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use data_loaders::text::Example;
use data_loaders::vl::{Picture, PictureProtocol};
use tch::{Device, Tensor, no_grad};

use crate::models::reader::Reader;
use crate::resources::{FeatureCache, Features};
use crate::tasks::Run;
use crate::tasks::language::data::ImageFeatures;

/// Images per forward pass of the tower.
const TOWER_BATCH: usize = 64;

/// Groups up to `most` examples about the same image into one, in their original order.
pub(super) fn share_passes(
    examples: Vec<Example>,
    pictures: PictureFeatures,
    most: usize,
) -> (Vec<Example>, PictureFeatures) {
    if most == 1 {
        return (examples, pictures);
    }
    let mut groups: Vec<(Option<i64>, Vec<Example>)> = Vec::new();
    let mut open: HashMap<i64, usize> = HashMap::new();
    for (example, picture) in examples.into_iter().zip(&pictures.places) {
        let group =
            picture.and_then(|picture| open.get(&picture)).filter(|group| groups[**group].1.len() < most);
        if let Some(&group) = group {
            groups[group].1.push(example);
            continue;
        }
        picture.map(|picture| open.insert(picture, groups.len()));
        groups.push((*picture, vec![example]));
    }
    let (places, examples) = groups
        .into_iter()
        .map(|(picture, mut group)| {
            let example = if group.len() == 1 { group.remove(0) } else { Example::sharing(&group) };
            (picture, example)
        })
        .unzip();
    (examples, PictureFeatures { places, ..pictures })
}

/// Each image once, in the order of first use.
#[derive(Default)]
pub(super) struct PictureCache {
    pictures: Vec<Picture>,
    places: HashMap<String, usize>,
}

impl PictureCache {
    pub(super) fn add(&mut self, picture: &Picture) {
        if let Entry::Vacant(place) = self.places.entry(picture.identity()) {
            place.insert(self.pictures.len());
            self.pictures.push(picture.clone());
        }
    }

    /// The tower's features `[pictures, tokens, width]` of all images, cached for the next run.
    pub(super) fn encode_images(
        &self,
        run: &Run,
        protocol: &PictureProtocol,
        reader: &Reader,
        device: Device,
        features: &mut FeatureCache,
    ) -> Result<Tensor> {
        let Reader::Llava(llava) = reader else {
            bail!("a language model without a vision tower cannot take images")
        };
        let key = format!("{} {} {:?} {protocol:?}", run.data_checksum, run.weights_checksum, run.stage);
        if let Some(known) = features.get(&key) {
            return Ok(known.tensor.shallow_clone());
        }
        let size = i64::from(protocol.image_size);
        let (start, mut data_wait, mut parts) = (Instant::now(), Duration::ZERO, Vec::new());
        for some in self.pictures.chunks(TOWER_BATCH) {
            let start = Instant::now();
            let pixels = protocol.read(&run.set_label(), &some.iter().collect::<Vec<_>>())?;
            data_wait += start.elapsed();
            let images = Tensor::f_from_slice(&pixels)?.f_view([-1, 3, size, size])?.f_to_device(device)?;
            parts.push(no_grad(|| llava.encode_images(&images)));
        }
        let tensor = Tensor::f_cat(&parts, 0)?;
        let computing = start.elapsed().saturating_sub(data_wait);
        features.insert(key, Features { tensor: tensor.shallow_clone(), computing, data_wait });
        Ok(tensor)
    }

    /// The features of the images of examples or prompts, some of which may have none.
    pub(super) fn features_of<'a>(
        &self,
        pictures: impl Iterator<Item = Option<&'a Picture>>,
        tokens: &Tensor,
    ) -> PictureFeatures {
        let place = |picture: &Picture| self.places.get(&picture.identity()).map(|place| *place as i64);
        let places = pictures.map(|picture| picture.and_then(place)).collect();
        PictureFeatures { tokens: tokens.shallow_clone(), places }
    }
}

/// The tower's features of the images of examples or prompts: indices into the features of all images.
pub(super) struct PictureFeatures {
    tokens: Tensor,
    places: Vec<Option<i64>>,
}

impl ImageFeatures for PictureFeatures {
    fn features(&self, examples: &[usize]) -> Result<Option<Tensor>> {
        let places: Vec<i64> = examples.iter().filter_map(|&example| self.places[example]).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let places = Tensor::f_from_slice(&places)?.f_to_device(self.tokens.device())?;
        Ok(Some(self.tokens.f_index_select(0, &places)?))
    }

    fn has_images(&self, example: usize) -> bool {
        self.places[example].is_some()
    }
}
