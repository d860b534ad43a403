//! What a process opens once and uses for many cells: data sets, backbones, frozen features.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use backbones::Architecture;
use backbones::registry::{self, Origin};
use backbones::weights::{self, Checkpoint, Target};
use data_loaders::text::TextSet;
use data_loaders::vl::QuestionSuite;
use data_loaders::{FileHashes, ImageSet, dataset};
use san_core::{Layout, Weights};
use tch::{Device, Tensor};

use crate::config::experiment::{Compute, DataSource, Input};
use crate::error::RunError;
pub use crate::models::language::LoadedLanguageModel;
use crate::resources::synthetic_checksums::DrawnChecksums;

/// The seed of a backbone with random weights.
pub(crate) const RANDOM_WEIGHTS_SEED: u64 = 0;
/// What marks one.
pub(crate) const RANDOM: &str = "@random";

/// Name of the file in the results folder that keeps hashes of pictures.
const FILE_HASHES: &str = ".file-hashes";

/// A backbone with its frozen weights.
#[derive(Debug)]
pub struct LoadedBackbone {
    /// The configuration at the protocol's image size.
    pub architecture: Box<dyn Architecture>,
    /// Tensors, sites and norms.
    pub layout: Layout,
    /// The frozen weights, on the device.
    pub weights: Weights,
    /// blake3 of the file, or `random:<seed>`.
    pub checksum: String,
}

/// What a frozen backbone makes of one split.
#[derive(Debug)]
pub struct Features {
    /// `[images, features]`, on the device.
    pub tensor: Tensor,
    /// Time of the forward passes.
    pub computing: Duration,
    /// Time of reading the images.
    pub reading: Duration,
}

/// Everything that cells share.
pub struct Context {
    device: Device,
    data_root: Option<PathBuf>,
    weights_root: Option<PathBuf>,
    sets: HashMap<String, Arc<ImageSet>>,
    texts: Option<(String, Vec<Rc<TextSet>>)>,
    questions: Option<(String, Rc<QuestionSuite>)>,
    language: Option<(String, Rc<LoadedLanguageModel>)>,
    backbones: HashMap<(String, u32), Rc<LoadedBackbone>>,
    features: HashMap<String, Features>,
    drawn_checksums: Option<DrawnChecksums>,
    hashes: FileHashes,
}

impl Context {
    /// Roots are taken from `SAN_DATA` and `SAN_WEIGHTS`.
    pub fn new(device: Device) -> Self {
        let root = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            device,
            data_root: root("SAN_DATA"),
            weights_root: root("SAN_WEIGHTS"),
            sets: HashMap::new(),
            texts: None,
            questions: None,
            language: None,
            backbones: HashMap::new(),
            features: HashMap::new(),
            drawn_checksums: None,
            hashes: FileHashes::default(),
        }
    }

    /// Keeps the checksums of drawn sets in a results folder, and with `believed` uses those that are there; hashes of
    /// pictures are kept there too.
    #[must_use]
    pub fn keeping_checksums(self, results: &Path, believed: bool) -> Self {
        let kept = if believed { DrawnChecksums::open(results) } else { DrawnChecksums::anew(results) };
        Self { drawn_checksums: Some(kept), ..self }.keeping_file_hashes(results)
    }

    /// Keeps hashes of pictures in a results folder, and uses those of files that have not changed since.
    #[must_use]
    pub fn keeping_file_hashes(self, results: &Path) -> Self {
        Self { hashes: FileHashes::kept_in(results.join(FILE_HASHES)), ..self }
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Opens or draws a set. The last few stay open, for cells come set by set.
    ///
    /// # Errors
    /// When the set is unknown, its folder is missing, or its lists are wrong.
    pub fn set(&mut self, name: &str, source: &DataSource, image_size: u32) -> Result<Arc<ImageSet>> {
        let key = format!("{name} {source:?} {image_size}");
        if let Some(set) = self.sets.get(&key) {
            return Ok(set.clone());
        }
        let entry = dataset(name)?;
        let set = match source {
            DataSource::Drawn(counts) => ImageSet::draw(entry, *counts, image_size)?,
            DataSource::Files(folder) => ImageSet::open(entry, &self.data_folder(name)?.join(folder))?,
            _ => bail!("`{name}` holds images: `data` must be `drawn` or `files`"),
        };
        if self.sets.len() >= 2 {
            self.sets.clear();
            self.features.clear();
        }
        let set = Arc::new(set);
        self.sets.insert(key, set.clone());
        Ok(set)
    }

    /// The checksum of a set that [`Self::set`] gave; a drawn set is drawn for it only where it is not kept.
    pub fn checksum(&mut self, set: &ImageSet, image_size: u32) -> String {
        match &mut self.drawn_checksums {
            Some(kept) if set.is_drawn() => kept.of(set, image_size),
            _ => set.checksum().to_owned(),
        }
    }

    /// Opens or writes the sets of a suite, in the order of `names`; the last suite stays open.
    ///
    /// # Errors
    /// When a set is unknown, its folder is missing, or a row is wrong.
    pub fn texts(&mut self, names: &[String], source: &DataSource) -> Result<Vec<Rc<TextSet>>> {
        let key = format!("{names:?} {source:?}");
        if let Some((known, sets)) = &self.texts
            && *known == key
        {
            return Ok(sets.clone());
        }
        let open = |name: &String| -> Result<Rc<TextSet>> {
            let entry = dataset(name)?;
            Ok(Rc::new(match source {
                DataSource::Drawn(counts) => TextSet::draw(entry, *counts)?,
                DataSource::Rows { folder, source } => {
                    TextSet::open(entry, &self.data_folder(name)?.join(folder), source)?
                }
                _ => bail!("`{name}` holds rows: `data` must be `drawn` or `rows`"),
            }))
        };
        let sets = names.iter().map(open).collect::<Result<Vec<_>>>()?;
        self.texts = Some((key, sets.clone()));
        Ok(sets)
    }

    /// Opens or draws the sets of a suite of questions, in the order of `names`; the last suite stays open.
    ///
    /// # Errors
    /// When a set is unknown, its folder is missing, or an entry is wrong.
    pub fn questions(
        &mut self,
        names: &[String],
        source: &DataSource,
        image_size: u32,
    ) -> Result<Rc<QuestionSuite>> {
        let key = format!("{names:?} {source:?} {image_size}");
        if let Some((known, suite)) = &self.questions
            && *known == key
        {
            return Ok(suite.clone());
        }
        let entries = names.iter().map(|name| dataset(name)).collect::<Result<Vec<_>, _>>()?;
        let suite = match source {
            DataSource::Drawn(counts) => QuestionSuite::draw(&entries, *counts, image_size)?,
            DataSource::Questions { folder, source } => {
                let root = self.data_folder(&names.join(", "))?.join(folder);
                QuestionSuite::open(&entries, &root, source, &self.hashes)?
            }
            _ => bail!("{} hold questions: `data` must be `drawn` or `questions`", names.join(", ")),
        };
        let suite = Rc::new(suite);
        self.questions = Some((key, suite.clone()));
        self.features.clear();
        Ok(suite)
    }

    fn data_folder(&self, set: &str) -> Result<&Path, RunError> {
        self.data_root.as_deref().ok_or_else(|| RunError::Missing {
            what: format!("data set `{set}`"),
            reason: "set SAN_DATA to the folder that holds the data".into(),
        })
    }

    /// The language model that reads `input`, with eyes for questions about pictures, its weights on the device; the
    /// last one stays loaded.
    ///
    /// # Errors
    /// When it is unknown, or its files are missing or do not fit.
    pub fn language(&mut self, name: &str, input: &Input) -> Result<Rc<LoadedLanguageModel>> {
        let (image_size, compute) = match input {
            Input::Questions(questions) => (Some(questions.picture.image_size), questions.compute),
            Input::Text(text) => (None, text.compute),
            Input::Image(_) => (None, Compute::default()),
        };
        let target = Target { kind: compute.kind(), device: self.device };
        let key = format!("{name} {image_size:?} {compute:?}");
        if let Some((known, model)) = &self.language
            && *known == key
        {
            return Ok(model.clone());
        }
        let model = Rc::new(match image_size {
            Some(size) => self.load_llava(name, size, target)?,
            None => self.load_language(name, target)?,
        });
        self.language = Some((key, model.clone()));
        Ok(model)
    }

    /// Features that another cell computed.
    pub fn features(&self, key: &str) -> Option<&Features> {
        self.features.get(key)
    }

    /// Keeps features while their set is open.
    pub fn remember_features(&mut self, key: String, features: Features) {
        self.features.insert(key, features);
    }

    /// A backbone with its weights on the device.
    ///
    /// # Errors
    /// When it is unknown, or its weights are missing or do not fit.
    pub fn backbone(&mut self, name: &str, image_size: u32) -> Result<Rc<LoadedBackbone>> {
        let key = (name.to_owned(), image_size);
        if let Some(backbone) = self.backbones.get(&key) {
            return Ok(backbone.clone());
        }
        let backbone = Rc::new(self.load(name, image_size)?);
        self.backbones.insert(key, backbone.clone());
        Ok(backbone)
    }

    fn load(&self, name: &str, image_size: u32) -> Result<LoadedBackbone> {
        let published = name.strip_suffix(RANDOM).unwrap_or(name);
        let entry = registry::find(published)?;
        let architecture = entry.architecture.at_image_size(i64::from(image_size))?;
        let layout = architecture.layout(name);
        let checkpoint = if name.ends_with(RANDOM) {
            Checkpoint {
                weights: Weights::random(&layout, RANDOM_WEIGHTS_SEED)?,
                checksum: format!("random:{RANDOM_WEIGHTS_SEED}"),
            }
        } else {
            match entry.origin {
                Origin::Bundled(bytes) => {
                    let path = PathBuf::from(format!("assets/{published}.safetensors"));
                    weights::parse(bytes, &path, &*architecture, &layout)?
                }
                Origin::File => weights::read(&self.weights_file(published)?, &*architecture, &layout)?,
            }
        };
        let weights =
            checkpoint.weights.to_device(self.device).context("moving the weights to the device")?;
        Ok(LoadedBackbone { architecture, layout, weights, checksum: checkpoint.checksum })
    }

    fn load_language(&self, name: &str, target: Target) -> Result<LoadedLanguageModel> {
        LoadedLanguageModel::read(name, self.weights_root.as_deref(), target)
    }

    /// A bundled LLaVA, a published one in its folder, or `<tower>+<language model>`, whose projector has its first
    /// values until `san align` was run.
    fn load_llava(&mut self, name: &str, image_size: u32, target: Target) -> Result<LoadedLanguageModel> {
        let published = name.strip_suffix(RANDOM).unwrap_or(name);
        let mut model = if let Some((_, files)) = registry::bundled_llava(published) {
            let tower = self.backbone(files.tower, image_size)?;
            let language = self.load_language(files.language, target)?;
            LoadedLanguageModel::bundled_llava(published, &tower, language, target)?
        } else if let Some((tower, language)) = published.split_once('+') {
            let tower = self.backbone(tower, image_size)?;
            let language = self.load_language(language, target)?;
            let projector = self.projector_file(published).ok().filter(|path| path.is_file());
            LoadedLanguageModel::joined_llava(published, &tower, language, projector.as_deref(), target)?
        } else {
            LoadedLanguageModel::read_llava(published, self.weights_root.as_deref(), target, image_size)?
        };
        if name.ends_with(RANDOM) {
            model.forget(name)?;
        }
        Ok(model)
    }

    /// Where the aligned projector of `<tower>+<language model>` lies, there or not.
    ///
    /// # Errors
    /// Without `SAN_WEIGHTS`.
    pub fn projector_file(&self, name: &str) -> Result<PathBuf, san_core::Error> {
        let missing = || san_core::Error::MissingWeights {
            backbone: name.into(),
            place: "SAN_WEIGHTS, which is not set".into(),
        };
        Ok(self.weights_root.as_deref().ok_or_else(missing)?.join(name).join("projector.safetensors"))
    }

    fn weights_file(&self, name: &str) -> Result<PathBuf, san_core::Error> {
        let missing = |place: String| san_core::Error::MissingWeights { backbone: name.into(), place };
        let root =
            self.weights_root.as_deref().ok_or_else(|| missing("SAN_WEIGHTS, which is not set".into()))?;
        let file = root.join(name).join("model.safetensors");
        if file.is_file() { Ok(file) } else { Err(missing(display(&file))) }
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
