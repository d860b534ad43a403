//! The question datasets of a suite, and their training data: a mixture of conversations (LLaVA-1.5's, of 665 thousand)
//! and the datasets' own training questions.

use std::path::Path;

use crate::error::DataError;
use crate::io::file_hashes::FileHashes;
use crate::registry::DatasetEntry;
use crate::split::Split;
use crate::vl::conversation::{Conversation, read_mixture};
use crate::vl::image_hashes::{PictureHashes, update};
use crate::vl::question_set::{QuestionSet, QuestionSource};

/// The name of a mixture in messages.
const MIXTURE: &str = "mixture";

/// The datasets of a suite, and the conversations of the mixture.
#[derive(Debug, Clone)]
pub struct QuestionSuite {
    sets: Vec<QuestionSet>,
    mixture: Vec<Conversation>,
    checksum: String,
}

impl QuestionSuite {
    /// Datasets of generated questions.
    pub(crate) fn synthetic(sets: Vec<QuestionSet>) -> Result<Self, DataError> {
        Self::assemble(sets, Vec::new(), &FileHashes::default())
    }

    /// The datasets on disk, as [`QuestionSet::open`], and the mixture.
    ///
    /// # Errors
    /// As [`QuestionSet::open`] and [`read_mixture`].
    pub fn open(
        entries: &[&DatasetEntry],
        root: &Path,
        source: &QuestionSource,
        hashes: &FileHashes,
    ) -> Result<Self, DataError> {
        let sets = entries.iter().map(|entry| QuestionSet::open(entry, root, source, hashes));
        let mixture = read_mixture(MIXTURE, root, &source.mixture, source.seed)?;
        Self::assemble(sets.collect::<Result<_, _>>()?, mixture, hashes)
    }

    pub(super) fn assemble(
        sets: Vec<QuestionSet>,
        mixture: Vec<Conversation>,
        hashes: &FileHashes,
    ) -> Result<Self, DataError> {
        let mut hasher = blake3::Hasher::new();
        for set in &sets {
            hasher.update(set.checksum().as_bytes());
        }
        let pictures = mixture.iter().filter_map(|conversation| conversation.picture.as_ref());
        let pictures = PictureHashes::of(MIXTURE, pictures, hashes)?;
        for Conversation { picture, turns, .. } in &mixture {
            for text in turns.iter().flat_map(|turn| [&turn.question, &turn.answer]) {
                update(&mut hasher, text.as_bytes());
            }
            if let Some(picture) = picture {
                pictures.update(&mut hasher, picture);
            }
        }
        Ok(Self { checksum: hasher.finalize().to_hex().to_string(), sets, mixture })
    }

    /// The datasets, in the requested order.
    pub fn sets(&self) -> &[QuestionSet] {
        &self.sets
    }

    /// The training data: the mixture, then each dataset's own questions of the split.
    ///
    /// # Errors
    /// If a training question has no answer.
    pub fn conversations(&self, split: Split) -> Result<Vec<Conversation>, DataError> {
        let own = self.sets.iter().flat_map(|set| set.questions(split)).map(|question| {
            question
                .conversation()
                .ok_or_else(|| question.origin.fault("the question has no answer to train on"))
        });
        self.mixture.iter().cloned().map(Ok).chain(own).collect()
    }

    /// blake3 (hex) of all datasets and the mixture.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::dataset;
    use crate::split::SplitCounts;
    use crate::vl::question_set::tests::question;

    #[test]
    fn a_training_question_without_an_answer_is_reported_with_file_and_row() {
        let entry = dataset("gqa").unwrap().clone();
        let train = vec![question(0, Some("cat")), question(1, None)];
        let parts = [train, Vec::new(), Vec::new()];
        let set = QuestionSet::synthetic(entry.name.clone(), &entry, parts, String::new());
        let suite = QuestionSuite { sets: vec![set], mixture: Vec::new(), checksum: String::new() };
        let rejection = suite.conversations(Split::Train).unwrap_err().to_string();
        assert_eq!(rejection, "a: a.json:2: the question has no answer to train on");
    }

    #[test]
    fn a_synthetic_suite_trains_on_the_questions_of_all_its_data_sets() {
        let entries: Vec<_> = ["gqa", "pope"].map(|name| dataset(name).unwrap()).to_vec();
        let counts = SplitCounts { train: 6, val: 3, test: 4 };
        let suite = QuestionSuite::draw(&entries, counts, 16).unwrap();
        assert_eq!(suite.conversations(Split::TrainVal).unwrap().len(), 18);
        assert_eq!(suite.sets()[1].name(), "mini/pope");
        assert_eq!(suite.sets()[1].counts(), counts);
        assert_eq!(suite.checksum(), QuestionSuite::draw(&entries, counts, 16).unwrap().checksum());
        assert_ne!(suite.checksum(), QuestionSuite::draw(&entries[..1], counts, 16).unwrap().checksum());
    }
}
