//! Chooses how a run has the features of its pictures: from a file if a folder is given, otherwise in memory if they
//! fit, otherwise computed for each batch.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::{Arc, Once};

use anyhow::{Result, bail};
use backbones::Architecture;
use data_loaders::vl::{Conversation, PictureProtocol, QuestionSuite};
use indicatif::HumanBytes;

use super::features::{FeatureSource, Kept};
use super::pictures::{BatchReader, Pictures};
use super::tower::{self, Tower};
use crate::messages::message;
use crate::models::LoadedLanguageModel;
use crate::models::reader::ReaderArchitecture;
use crate::resources::{FeatureCache, Resources};
use crate::tasks::{Run, Tuned, splits};

/// What the choice depends on.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) run: &'a Run,
    pub(super) suite: &'a QuestionSuite,
    /// The training questions.
    pub(super) conversations: &'a [Conversation],
    pub(super) protocol: PictureProtocol,
    pub(super) model: &'a LoadedLanguageModel,
    pub(super) tuned: &'a Tuned<'a>,
    pub(super) resources: &'a Resources,
}

impl Choice<'_> {
    /// Where the features come from; nothing is computed yet.
    pub(super) fn source(self) -> Result<FeatureSource> {
        let ReaderArchitecture::Llava(architecture, _) = &self.model.architecture else {
            bail!("visual question answering needs a vision-language model")
        };
        let (pictures, kept) = match self.resources.features.folder() {
            Some(folder) => self.in_file(folder, &*architecture.tower)?,
            None => self.in_memory(&*architecture.tower)?,
        };
        let (pictures, set) = (Arc::new(pictures), self.run.set_label());
        Ok(FeatureSource {
            tower: Tower::new(self.model, &self.protocol, self.tuned.kind, self.tuned.device)?,
            reader: BatchReader::Pictures { set, protocol: self.protocol, all: pictures.clone() },
            pictures,
            kept,
            opened: OnceCell::new(),
        })
    }

    /// A file with the pictures of all splits, so that the runs of both stages read the same one.
    fn in_file(self, folder: &Path, tower: &dyn Architecture) -> Result<(Pictures, Kept)> {
        let pictures: Pictures = self.suite.pictures().collect();
        let contents = self.resources.data.pictures_checksum(&self.run.set_label(), pictures.all())?;
        let precision = self.run.protocol.precision.name();
        let weights = tower::checksum(self.model)?;
        let key = format!("tower {weights} in {precision}, {:?}, pictures {contents}", self.protocol);
        let table = tower::table(tower, self.tuned.kind, pictures.all().len(), key);
        Ok((pictures, Kept::InFile(folder.to_owned(), table)))
    }

    /// Memory, if the features of the run's pictures fit.
    fn in_memory(self, tower: &dyn Architecture) -> Result<(Pictures, Kept)> {
        static SAID: Once = Once::new();
        let Run { data_checksum, weights_checksum, stage, protocol, .. } = self.run;
        let evaluated = splits(*stage).1;
        let asked = self.suite.sets().iter().flat_map(|set| set.questions(evaluated)).map(|one| &one.picture);
        let trained = self.conversations.iter().filter_map(|one| one.picture.as_ref());
        let pictures: Pictures = trained.chain(asked).collect();
        let (count, kind) = (pictures.all().len(), self.tuned.kind);
        let bytes = tower::table(tower, kind, count, String::new()).bytes();
        if bytes <= FeatureCache::budget(self.tuned.device)? {
            let (precision, picture) = (protocol.precision.name(), self.protocol);
            let key = format!("{data_checksum} {weights_checksum} {stage:?} {precision} {picture:?}");
            return Ok((pictures, Kept::InMemory(key)));
        }
        // Once in a process, not for every run.
        SAID.call_once(|| {
            message(format_args!(
                "san: the features of {count} pictures would need {}, so they are computed for each batch; \
                 --cache-features keeps them in a file",
                HumanBytes(bytes)
            ));
        });
        Ok((pictures, Kept::Nowhere))
    }
}
