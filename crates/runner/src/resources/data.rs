//! Open data sets: only the last few, because runs are ordered by set.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Result, bail};
use data_loaders::text::TextSet;
use data_loaders::vl::{Picture, QuestionSuite, pictures_checksum};
use data_loaders::{FileHashes, ImageSet, dataset};

use crate::error::RunError;
use crate::resources::DataSource;
use crate::resources::synthetic_checksums::SyntheticChecksums;

/// Name of the file in the results folder that stores image hashes.
const FILE_HASHES: &str = ".file-hashes";
/// Number of image sets that stay open.
const OPEN: usize = 2;

/// Data sets, each opened once.
pub struct DataSets {
    root: Option<PathBuf>,
    images: HashMap<String, Arc<ImageSet>>,
    texts: Option<(String, Vec<Rc<TextSet>>)>,
    questions: Option<(String, Rc<QuestionSuite>)>,
    synthetic_checksums: Option<SyntheticChecksums>,
    hashes: FileHashes,
}

impl DataSets {
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        Self {
            root,
            images: HashMap::new(),
            texts: None,
            questions: None,
            synthetic_checksums: None,
            hashes: FileHashes::default(),
        }
    }

    pub(super) fn keeping_checksums(self, results: &Path, trusted: bool) -> Self {
        let kept =
            if trusted { SyntheticChecksums::open(results) } else { SyntheticChecksums::empty(results) };
        Self { synthetic_checksums: Some(kept), ..self }.keeping_file_hashes(results)
    }

    pub(super) fn keeping_file_hashes(self, results: &Path) -> Self {
        Self { hashes: FileHashes::cached_in(results.join(FILE_HASHES)), ..self }
    }

    /// The folder that the folders of experiments are in, if `SAN_DATA` is set.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Opens or generates a set of images.
    ///
    /// # Errors
    /// When the set is unknown, its folder is missing, or its lists are wrong.
    pub fn images(&mut self, name: &str, source: &DataSource, image_size: u32) -> Result<Arc<ImageSet>> {
        let key = format!("{name} {source:?} {image_size}");
        if let Some(set) = self.images.get(&key) {
            return Ok(set.clone());
        }
        let set = match source {
            DataSource::Synthetic(counts) => ImageSet::draw(dataset(name)?, *counts, image_size)?,
            DataSource::Files(folder) => ImageSet::open(dataset(name)?, &self.folder(name)?.join(folder))?,
            DataSource::Folder(folder) => ImageSet::open_own(name, Path::new(folder))?,
            _ => bail!("`{name}` is a set of images: `data` must be `synthetic`, `files` or `folder`"),
        };
        if self.images.len() >= OPEN {
            self.images.clear();
        }
        let set = Arc::new(set);
        self.images.insert(key, set.clone());
        Ok(set)
    }

    /// The checksum of a set that [`Self::images`] returned; a synthetic set is generated for it only if the checksum
    /// is not stored.
    pub fn images_checksum(&mut self, set: &ImageSet, image_size: u32) -> String {
        match &mut self.synthetic_checksums {
            Some(kept) if set.is_synthetic() => kept.of(set, image_size),
            _ => set.checksum().to_owned(),
        }
    }

    /// Opens or generates the sets of a text suite, in the order of `names`; the last suite stays open.
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
            if let DataSource::Folder(path) = source {
                return Ok(Rc::new(TextSet::open_own(name, Path::new(path))?));
            }
            let entry = dataset(name)?;
            Ok(Rc::new(match source {
                DataSource::Synthetic(counts) => TextSet::draw(entry, *counts)?,
                DataSource::Rows { folder, source } => {
                    TextSet::open(entry, &self.folder(name)?.join(folder), source)?
                }
                _ => bail!("`{name}` is a set of text rows: `data` must be `synthetic`, `rows` or `folder`"),
            }))
        };
        let sets = names.iter().map(open).collect::<Result<Vec<_>>>()?;
        self.texts = Some((key, sets.clone()));
        Ok(sets)
    }

    /// Opens or generates the sets of a question suite, in the order of `names`; the last suite stays open.
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
        let entries = || names.iter().map(|name| dataset(name)).collect::<Result<Vec<_>, _>>();
        let suite = match source {
            DataSource::Folder(path) => {
                QuestionSuite::open_own(&names.join(", "), Path::new(path), &self.hashes)?
            }
            DataSource::Synthetic(counts) => QuestionSuite::draw(&entries()?, *counts, image_size)?,
            DataSource::Questions { folder, source } => {
                let root = self.folder(&names.join(", "))?.join(folder);
                QuestionSuite::open(&entries()?, &root, source, &self.hashes)?
            }
            _ => {
                bail!(
                    "{} are sets of questions: `data` must be `synthetic`, `questions` or `folder`",
                    names.join(", ")
                )
            }
        };
        let suite = Rc::new(suite);
        self.questions = Some((key, suite.clone()));
        Ok(suite)
    }

    /// blake3 (hex) of the contents of pictures; `set` is for messages.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn pictures_checksum(&self, set: &str, pictures: &[Picture]) -> Result<String> {
        Ok(pictures_checksum(set, pictures, &self.hashes)?)
    }

    fn folder(&self, set: &str) -> Result<&Path, RunError> {
        self.root.as_deref().ok_or_else(|| RunError::Missing {
            what: format!("data set `{set}`"),
            reason: "set SAN_DATA to the folder that contains the data".into(),
        })
    }
}
