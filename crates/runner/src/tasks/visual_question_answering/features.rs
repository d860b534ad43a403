//! The tower's features of pictures, in one of three ways: all of them in memory, computed once; computed for each
//! batch, whose pictures are decoded ahead by other threads; or read from a file that any later run reads too.
//!
//! Features are the same in each way, up to the rounding of products of other shapes: a forward pass of the tower has
//! [`TOWER_BATCH`] pictures in memory and in the file, and those of one micro-batch when they are computed for it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use data_loaders::Prefetch;
use indicatif::HumanBytes;
use tch::Tensor;

use super::pictures::{Batch, BatchReader, Pictures};
use super::tower::{TOWER_BATCH, Tower};
use crate::messages::message;
use crate::resources::{FeatureCache, FeatureFile, FeatureTable, Features};
use crate::tasks::language::data::{ImageFeatures, PictureTimes};
use crate::train::trainer::RunControl;

/// How often a line is printed while features are computed, if standard error is not a terminal with a bar.
const LINE_EVERY: Duration = Duration::from_mins(1);

/// Where features are kept.
pub(super) enum Kept {
    /// In memory on the device, for the next run too: the key of everything that they depend on.
    InMemory(String),
    /// Nowhere.
    Nowhere,
    /// In a file of this folder.
    InFile(PathBuf, FeatureTable),
}

/// The features of all pictures of a task.
pub(super) struct FeatureSource {
    pub(super) tower: Tower,
    /// Reads the pictures.
    pub(super) reader: BatchReader,
    pub(super) pictures: Arc<Pictures>,
    pub(super) kept: Kept,
    pub(super) opened: OnceCell<Open>,
}

/// What features are taken from.
pub(super) enum Open {
    /// All features, `[pictures, tokens, width]`.
    All(Tensor),
    /// What is read for each batch.
    Batches(BatchReader),
}

impl FeatureSource {
    /// Computes or opens what features are taken from.
    fn open(&self, cache: &mut FeatureCache, control: &mut RunControl<'_>) -> Result<PictureTimes> {
        let mut times = PictureTimes::default();
        let open = match &self.kept {
            Kept::Nowhere => Open::Batches(self.reader.clone()),
            Kept::InMemory(key) => {
                if let Some(Features { tensor, computing, data_wait }) = cache.get(key) {
                    times = PictureTimes { computing: *computing, data_wait: *data_wait };
                    Open::All(tensor.shallow_clone())
                } else {
                    let mut parts = Vec::new();
                    times = self.encode(0, control, &mut |some| {
                        parts.push(some.shallow_clone());
                        Ok(())
                    })?;
                    let tensor = Tensor::f_cat(&parts, 0)?;
                    let PictureTimes { computing, data_wait } = times;
                    let features = Features { tensor: tensor.shallow_clone(), computing, data_wait };
                    cache.insert(key.clone(), features);
                    Open::All(tensor)
                }
            }
            Kept::InFile(folder, table) => {
                let stop = control.stop;
                let make = |rows: u64, append: &mut dyn FnMut(&Tensor) -> Result<()>| {
                    let (size, path) = (HumanBytes(table.bytes()), table.path(folder));
                    let count = self.pictures.all().len();
                    message(format_args!(
                        "san: the features of {count} pictures are written to {}, {size}; {rows} are there",
                        path.display()
                    ));
                    times = self.encode(usize::try_from(rows)?, control, append)?;
                    Ok(())
                };
                let mut wait = || Ok(stop.check()?);
                let file = FeatureFile::open_or_make(folder, table, TOWER_BATCH as u64, &mut wait, make)?;
                Open::Batches(BatchReader::Features(Arc::new(file)))
            }
        };
        // Nobody else has opened it: this is called only where it is not open.
        let _ = self.opened.set(open);
        Ok(times)
    }

    /// Calls `act` with the features of all pictures from `first` on, [`TOWER_BATCH`] pictures at a time.
    fn encode(
        &self,
        first: usize,
        control: &mut RunControl<'_>,
        act: &mut dyn FnMut(&Tensor) -> Result<()>,
    ) -> Result<PictureTimes> {
        let (count, reader) = (self.pictures.all().len(), self.reader.clone());
        let batches = (first..count)
            .step_by(TOWER_BATCH)
            .map(move |first| reader.read(&(first..count.min(first + TOWER_BATCH)).collect::<Vec<_>>()));
        let (start, mut times, mut batches) =
            (Instant::now(), PictureTimes::default(), Prefetch::start(batches)?);
        let (mut done, mut said) = (first, Instant::now());
        loop {
            control.stop.check()?;
            let waited = Instant::now();
            let Some(batch) = batches.next() else { break };
            times.data_wait += waited.elapsed();
            act(&self.features(&batch?)?)?;
            done = count.min(done + TOWER_BATCH);
            (control.progress)(done as u64, count as u64);
            if said.elapsed() >= LINE_EVERY && !std::io::stderr().is_terminal() {
                said = Instant::now();
                message(format_args!("san: features of {done} of {count} pictures"));
            }
        }
        times.computing = start.elapsed().saturating_sub(times.data_wait);
        Ok(times)
    }

    /// The features `[pictures, tokens, width]` of a batch.
    fn features(&self, batch: &Batch) -> Result<Tensor> {
        match batch {
            Batch::Pixels(pixels) => self.tower.encode(pixels),
            Batch::Features(file, rows) => self.tower.place(&file.tensor(rows)?),
        }
    }
}

/// The features of the pictures of examples or prompts.
pub(super) struct PictureFeatures {
    source: Rc<FeatureSource>,
    /// The picture of each example.
    places: Vec<Option<usize>>,
    ahead: RefCell<Ahead>,
    times: Cell<PictureTimes>,
}

/// The batches that are being read ahead.
#[derive(Default)]
struct Ahead {
    batches: Option<Prefetch<Result<Batch>>>,
    /// The pictures of each.
    pictures: VecDeque<Vec<usize>>,
}

impl PictureFeatures {
    /// For examples with these pictures.
    pub(super) fn new(source: &Rc<FeatureSource>, places: Vec<Option<usize>>) -> Self {
        Self { source: source.clone(), places, ahead: RefCell::default(), times: Cell::default() }
    }

    /// The pictures of some examples, with repetitions.
    fn pictures(&self, examples: &[usize]) -> Vec<usize> {
        examples.iter().filter_map(|&example| self.places[example]).collect()
    }

    /// Reads pictures, each once; they are there already if they are those of the next expected batch.
    fn read(&self, reader: &BatchReader, pictures: &[usize]) -> Result<Batch> {
        let mut ahead = self.ahead.borrow_mut();
        if ahead.pictures.front().is_none_or(|next| next != pictures) {
            return reader.read(pictures);
        }
        ahead.pictures.pop_front();
        ahead.batches.as_mut().and_then(Iterator::next).context("no batch is read ahead")?
    }
}

impl ImageFeatures for PictureFeatures {
    fn prepare(&self, cache: &mut FeatureCache, control: &mut RunControl<'_>) -> Result<()> {
        if self.source.opened.get().is_none() {
            self.times.set(self.source.open(cache, control)?);
        }
        Ok(())
    }

    fn features(&self, examples: &[usize]) -> Result<Option<Tensor>> {
        let pictures = self.pictures(examples);
        if pictures.is_empty() {
            return Ok(None);
        }
        let reader = match self.source.opened.get().context("the features of pictures are not prepared")? {
            Open::All(all) => return Ok(Some(rows(all, pictures.into_iter())?)),
            Open::Batches(reader) => reader,
        };
        let start = Instant::now();
        let (each_once, positions) = each_once(&pictures);
        let batch = self.read(reader, &each_once)?;
        let data_wait = start.elapsed();
        let features = self.source.features(&batch)?;
        let times = self.times.get();
        self.times.set(PictureTimes {
            data_wait: times.data_wait + data_wait,
            computing: times.computing + start.elapsed().saturating_sub(data_wait),
        });
        let is_repeated = each_once.len() < pictures.len();
        Ok(Some(if is_repeated { rows(&features, positions.into_iter())? } else { features }))
    }

    fn reads_ahead(&self) -> bool {
        matches!(self.source.opened.get(), Some(Open::Batches(_)))
    }

    fn expect(&self, batches: &[Vec<usize>]) -> Result<()> {
        let Some(Open::Batches(reader)) = self.source.opened.get() else { return Ok(()) };
        let reader = reader.clone();
        let pictures = batches.iter().map(|examples| each_once(&self.pictures(examples)).0);
        let pictures: VecDeque<Vec<usize>> = pictures.filter(|pictures| !pictures.is_empty()).collect();
        let to_read = pictures.clone().into_iter().map(move |pictures| reader.read(&pictures));
        // What was expected before is dropped first: two threads would read at the same time.
        drop(self.ahead.take());
        self.ahead.replace(Ahead { batches: Some(Prefetch::start(to_read)?), pictures });
        Ok(())
    }

    fn has_images(&self, example: usize) -> bool {
        self.places[example].is_some()
    }

    fn times(&self) -> PictureTimes {
        self.times.get()
    }
}

/// Each picture once, in the order of first use, and the position of each of the given ones in that order.
fn each_once(pictures: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let (mut each, mut positions) = (Vec::new(), HashMap::new());
    let mut position = |&picture: &usize| {
        *positions.entry(picture).or_insert_with(|| {
            each.push(picture);
            each.len() - 1
        })
    };
    let of_all = pictures.iter().map(&mut position).collect();
    (each, of_all)
}

/// Rows of features, by index.
fn rows(features: &Tensor, indices: impl Iterator<Item = usize>) -> Result<Tensor> {
    let indices: Vec<i64> = indices.map(|index| index as i64).collect();
    let indices = Tensor::f_from_slice(&indices)?.f_to_device(features.device())?;
    Ok(features.f_index_select(0, &indices)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use data_loaders::vl::{Picture, PictureProtocol, Square};
    use data_loaders::{Filter, Normalisation};
    use tch::{Device, Kind};

    use super::*;
    use crate::resources::Resources;

    const PROTOCOL: PictureProtocol = PictureProtocol {
        image_size: 32,
        square: Square::Stretch,
        filter: Filter::Bilinear,
        normalisation: Normalisation::Half,
    };

    /// Ten pictures that are encoded for each batch, and one example about each.
    fn streamed() -> PictureFeatures {
        let model = Resources::new(Device::Cpu).models.llava("llava_micro", 32, Kind::Float).unwrap();
        let picture = |number: u8| {
            Picture::Pixels(32, (0..3072).map(|byte| number.wrapping_mul((byte % 251) as u8)).collect())
        };
        let pictures: Vec<Picture> = (0..10).map(picture).collect();
        let pictures = Arc::new(pictures.iter().collect::<Pictures>());
        let reader = BatchReader::Pictures { set: "a".into(), protocol: PROTOCOL, all: pictures.clone() };
        let source = FeatureSource {
            tower: Tower::new(&model, &PROTOCOL, Kind::Float, Device::Cpu).unwrap(),
            opened: Open::Batches(reader.clone()).into(),
            reader,
            pictures,
            kept: Kept::Nowhere,
        };
        PictureFeatures::new(&Rc::new(source), (0..10).map(Some).collect())
    }

    #[test]
    fn expected_batches_are_read_ahead_and_others_are_read_when_they_are_needed() {
        let (expecting, other) = (streamed(), streamed());
        let batches = [vec![3, 1, 4], vec![5, 9, 5], vec![2, 6]];
        expecting.expect(&batches).unwrap();
        let waiting = || expecting.ahead.borrow().pictures.len();
        let same = |examples: &[usize]| {
            let features = expecting.features(examples).unwrap().unwrap();
            assert_eq!(features.size(), [examples.len() as i64, 16, 64]);
            features == other.features(examples).unwrap().unwrap()
        };
        assert_eq!(waiting(), 3);
        assert!(same(&batches[0]));
        assert_eq!(waiting(), 2);
        // Held-out examples in between, and a picture that two examples share.
        assert!(same(&[7, 8]) && waiting() == 2);
        assert!(same(&batches[1]) && waiting() == 1);
        assert!(same(&batches[2]) && waiting() == 0);
        assert!(same(&[0]));
    }

    #[test]
    fn a_picture_that_several_examples_share_is_read_once() {
        assert_eq!(each_once(&[7, 2, 7, 7, 5, 2]), (vec![7, 2, 5], vec![0, 1, 0, 0, 2, 1]));
        assert_eq!(each_once(&[]), (Vec::new(), Vec::new()));
    }
}
