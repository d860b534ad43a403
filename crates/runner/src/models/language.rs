//! A language model in memory with its vocabulary, and with a vision tower if it takes images: bundled, or from its
//! folder under `SAN_WEIGHTS`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use backbones::registry::{self, BundledLlava};
use backbones::tokenizer::Tokenizer;
use backbones::vlm::llava;
use backbones::weights::{self, LanguageCheckpoint, LlavaCheckpoint, Published, Target};
use data_loaders::TextStream;
use san_core::io::safetensors::TensorFile;
use san_core::{ModelSpec, Weights};
use tch::Tensor;

use crate::error::RunError;
use crate::models::backbone::{LoadedBackbone, RANDOM, RANDOM_WEIGHTS_SEED};
use crate::models::place;
use crate::models::reader::ReaderArchitecture;

/// A text that is in no data set.
const NEUTRAL: &str = include_str!("../../../../assets/neutral.txt");
/// The seed of its counterpart in the small synthetic language.
const NEUTRAL_SEED: u64 = u64::MAX - 1;
/// Number of passages in that text.
const NEUTRAL_PASSAGES: u64 = 24;

/// A language model, with or without a vision tower, with its frozen weights and its vocabulary.
#[derive(Debug)]
pub struct LoadedLanguageModel {
    /// The configuration.
    pub architecture: ReaderArchitecture,
    /// Tensors, sites and norms that a method sees.
    pub model_spec: ModelSpec,
    /// The frozen weights, on the device.
    pub weights: Weights,
    /// Its vocabulary.
    pub tokenizer: Tokenizer,
    /// The end-of-sequence token, which answers are trained to end with.
    pub end: u32,
    /// Further tokens that end a generated text.
    pub other_end_tokens: Vec<i64>,
    /// A text that is in no data set, on which forgetting is measured.
    pub neutral: String,
    /// blake3 of the files.
    pub checksum: String,
}

impl LoadedLanguageModel {
    /// A text-only model: bundled, or in its folder under `root`.
    ///
    /// # Errors
    /// When it is unknown, or its files are missing or do not fit.
    pub(crate) fn read(name: &str, root: Option<&Path>, target: Target) -> Result<Self> {
        let published = name.strip_suffix(RANDOM).unwrap_or(name);
        let (checkpoint, tokenizer, neutral, folder) = match registry::bundled_language(published) {
            Some((architecture, files)) => {
                let path = |ending| PathBuf::from(format!("assets/{published}.{ending}"));
                let checkpoint =
                    weights::parse_language(files.weights, &path("safetensors"), architecture, target)?;
                let tokenizer = Tokenizer::parse(files.vocabulary, &path("tokenizer.json"))?;
                // The neutral text of the small language: passages that pre-training never generates.
                let passages = TextStream::new(NEUTRAL_SEED);
                let neutral: Vec<String> =
                    (0..NEUTRAL_PASSAGES).map(|index| passages.passage(index)).collect();
                (checkpoint, tokenizer, neutral.join("\n"), None)
            }
            None => {
                let path = place::of_model(published, root)?;
                let checkpoint = match weights::architecture(&path)? {
                    // The folder needs no weights then.
                    Published::Language(architecture) if name.ends_with(RANDOM) => {
                        let (weights, checksum) = (Weights::default(), String::new());
                        LanguageCheckpoint { architecture, weights, checksum }
                    }
                    _ => weights::language(&path, target)?,
                };
                (checkpoint, Tokenizer::read(&path)?, NEUTRAL.to_owned(), Some(path))
            }
        };
        let LanguageCheckpoint { architecture, weights, checksum } = checkpoint;
        tokenizer.fits(architecture.vocabulary())?;
        let model_spec = architecture.model_spec(name);
        let architecture = ReaderArchitecture::Language(architecture);
        let end = end(&tokenizer, name)?;
        let other_end_tokens = other_end_tokens(folder.as_deref(), end)?;
        let mut model = Self {
            architecture,
            model_spec,
            weights,
            end,
            neutral,
            checksum: with_end_tokens(format!("{checksum}+{}", tokenizer.checksum()), &other_end_tokens),
            other_end_tokens,
            tokenizer,
        };
        if name.ends_with(RANDOM) {
            model.forget(name, target)?;
        }
        Ok(model)
    }

    /// The bundled LLaVA `name` on its tower; `language` is the model that it was initialised from.
    pub(crate) fn bundled_llava(
        name: &str,
        tower: &LoadedBackbone,
        language: Self,
        target: Target,
    ) -> Result<Self> {
        let Some((architecture, BundledLlava { weights, .. })) = registry::bundled_llava(name) else {
            bail!("there is no bundled vision-language model named `{name}`")
        };
        let path = PathBuf::from(format!("assets/{name}.safetensors"));
        let file = TensorFile::parse(weights, &path)?;
        let weights = Weights::new(file.tensors);
        weights.check(&architecture.model_spec(name), &path.display().to_string())?;
        Self::seeing(name, tower, architecture, &weights, &file.checksum, language, target)
    }

    /// A tower and a language model that were not trained together. The projector between them is read from a file
    /// (with our tensor names or the original's), or has its initial values.
    ///
    /// # Errors
    /// When the file's tensors do not fit.
    pub(crate) fn joined_llava(
        name: &str,
        tower: &LoadedBackbone,
        language: Self,
        projector: Option<&Path>,
        target: Target,
    ) -> Result<Self> {
        let ReaderArchitecture::Language(model) = &language.architecture else {
            bail!("`{name}`: the part after + is not a text-only language model")
        };
        let image_token = model.vocabulary();
        let architecture = llava::Architecture { tower: same(tower)?, language: model.clone(), image_token };
        let mut weights = Weights::random(&architecture.model_spec(name), RANDOM_WEIGHTS_SEED)?;
        for (tensor, value) in language.weights.iter() {
            weights.insert(tensor, value.shallow_clone());
        }
        let mut checksum = language.checksum.clone();
        if let Some(path) = projector {
            let file = TensorFile::read(path)?;
            checksum = format!("{checksum}+{}", file.checksum);
            for tensor in llava::Architecture::projector_tensors() {
                let value = llava::projector_tensor(&file, &tensor).ok_or_else(|| {
                    let place = path.display().to_string();
                    san_core::Error::MissingTensor { name: tensor.clone(), place }
                })?;
                weights.insert(&tensor, value.shallow_clone());
            }
            weights.check(&architecture.model_spec(name), &path.display().to_string())?;
        }
        Self::seeing(name, tower, architecture, &weights, &checksum, language, target)
    }

    fn seeing(
        name: &str,
        tower: &LoadedBackbone,
        architecture: llava::Architecture,
        weights: &Weights,
        checksum: &str,
        language: Self,
        target: Target,
    ) -> Result<Self> {
        let Self { tokenizer, end, other_end_tokens, neutral, .. } = language;
        let kept = |(name, tensor): (&str, &_)| Ok((name.to_owned(), target.keep(tensor)?));
        let kept = weights.iter().map(kept).collect::<Result<_>>()?;
        let architecture = llava::Architecture { tower: same(tower)?, ..architecture };
        Ok(Self {
            model_spec: architecture.model_spec(name),
            weights: Weights::new(kept),
            checksum: with_end_tokens(
                format!("{checksum}+{}+{}", tower.checksum, tokenizer.checksum()),
                &other_end_tokens,
            ),
            architecture: ReaderArchitecture::Llava(architecture, tower.weights.shallow_clone()),
            tokenizer,
            end,
            other_end_tokens,
            neutral,
        })
    }

    /// A published LLaVA, in its folder under `root`.
    ///
    /// # Errors
    /// When its files are missing or do not fit, or its tower reads images of another size.
    pub(crate) fn read_llava(
        name: &str,
        root: Option<&Path>,
        target: Target,
        image_size: u32,
    ) -> Result<Self> {
        let published = name.strip_suffix(RANDOM).unwrap_or(name);
        let path = place::of_model(published, root)?;
        let checkpoint = match weights::architecture(&path)? {
            // The folder needs no weights then.
            Published::Llava(architecture) if name.ends_with(RANDOM) => {
                let tower = architecture.tower.model_spec(published);
                let keep = |tensor: Tensor| tensor.f_to_device(target.device).map_err(san_core::Error::from);
                let tower = Weights::random_kept(&tower, RANDOM_WEIGHTS_SEED, keep)?;
                let parts = llava::Parts { tower, rest: Weights::default() };
                LlavaCheckpoint { architecture, parts, checksum: String::new() }
            }
            _ => weights::llava(&path, target)?,
        };
        let LlavaCheckpoint { architecture, parts, checksum } = checkpoint;
        let own = architecture.tower.image_size();
        if own != i64::from(image_size) {
            bail!(
                "the tower of `{name}` takes images of {own} px, but the protocol's `image_size` is {image_size}"
            );
        }
        let tokenizer = Tokenizer::read(&path)?;
        tokenizer.fits(architecture.language.vocabulary())?;
        let end = end(&tokenizer, name)?;
        let other_end_tokens = other_end_tokens(Some(&path), end)?;
        Ok(Self {
            model_spec: architecture.model_spec(name),
            weights: parts.rest,
            end,
            neutral: NEUTRAL.to_owned(),
            checksum: with_end_tokens(format!("{checksum}+{}", tokenizer.checksum()), &other_end_tokens),
            other_end_tokens,
            architecture: ReaderArchitecture::Llava(architecture, parts.tower),
            tokenizer,
        })
    }

    /// Replaces the weights by random ones.
    pub(crate) fn forget(&mut self, name: &str, target: Target) -> Result<()> {
        self.model_spec = self.architecture.model_spec(name);
        let random =
            Weights::random_kept(&self.model_spec, RANDOM_WEIGHTS_SEED, |tensor| target.keep(&tensor));
        self.weights = random?;
        self.checksum = format!("random:{RANDOM_WEIGHTS_SEED}+{}", self.tokenizer.checksum());
        Ok(())
    }

    /// Encodes a text, with the model's special tokens.
    ///
    /// # Errors
    /// When the text cannot be encoded.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        Ok(self.tokenizer.encode(text)?.into_iter().map(i64::from).collect())
    }

    /// Decodes tokens.
    ///
    /// # Errors
    /// When they are not valid text.
    pub fn decode(&self, tokens: &[i64]) -> Result<String> {
        let tokens = tokens.iter().map(|&token| u32::try_from(token)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.tokenizer.decode(&tokens)?)
    }
}

/// A copy of the tower's configuration; boxes cannot be cloned.
fn same(tower: &LoadedBackbone) -> Result<Box<dyn backbones::Architecture>> {
    Ok(tower.architecture.at_image_size(tower.architecture.image_size())?)
}

/// The end tokens of a published model's generations in addition to `end`.
fn other_end_tokens(folder: Option<&Path>, end: u32) -> Result<Vec<i64>> {
    let published = folder.map(weights::generation_end_tokens).transpose()?.flatten().unwrap_or_default();
    Ok(published.into_iter().filter(|token| *token != i64::from(end)).collect())
}

/// A model's checksum: what ends its texts is part of it, if that does not follow from the vocabulary.
fn with_end_tokens(checksum: String, other_end_tokens: &[i64]) -> String {
    if other_end_tokens.is_empty() { checksum } else { format!("{checksum}+end tokens {other_end_tokens:?}") }
}

fn end(tokenizer: &Tokenizer, name: &str) -> Result<u32, RunError> {
    tokenizer.end().ok_or_else(|| RunError::Missing {
        what: format!("the end-of-sequence token of `{name}`"),
        reason: "its vocabulary has none".into(),
    })
}
