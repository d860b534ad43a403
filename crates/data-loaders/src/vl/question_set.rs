//! One interface to questions on disk and synthetic ones: the questions of a dataset by split.
//!
//! Synthetic and small datasets have their own training questions; a small one's validation questions are held out by
//! whole images, so that no image is on both sides. The seven benchmarks are used for testing only.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::io::file_hashes::FileHashes;
use crate::random::Stream;
use crate::registry::{DatasetEntry, QuestionForm};
use crate::split::{Split, SplitCounts, Splits};
use crate::text::RowLimits;
use crate::vl::benchmark::Answers;
use crate::vl::conversation::ConversationFile;
use crate::vl::image_hashes::checksum_of;
use crate::vl::local::SmallPart;
use crate::vl::question::Question;

/// Selection of questions on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionSource {
    /// Where the answers of the benchmarks' tests are.
    pub answers: Answers,
    /// Training conversations, in addition to the small datasets' own questions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixture: Vec<ConversationFile>,
    /// Number of validation questions held out from each small dataset's training part; rounded up to whole images.
    pub val_questions: usize,
    /// The seed for sampling them, and any subset.
    pub seed: u64,
    /// A subset of the questions; training questions are sampled by whole images, like validation ones. All if left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<RowLimits>,
}

/// An opened question dataset.
#[derive(Debug, Clone)]
pub struct QuestionSet {
    name: String,
    entry: DatasetEntry,
    questions: Splits<Question>,
    also_submitted: Vec<String>,
    checksum: String,
}

impl QuestionSet {
    /// Opens `<root>/<name>`; every entry is checked, every image is hashed.
    ///
    /// # Errors
    /// [`DataError`] with the dataset, the file and the row; [`DataError::NoQuestions`] for an image or text dataset.
    pub fn open(
        entry: &DatasetEntry,
        root: &Path,
        source: &QuestionSource,
        hashes: &FileHashes,
    ) -> Result<Self, DataError> {
        let empty =
            |part| DataError::EmptyPart { set: entry.name.clone(), part, path: root.join(entry.folder()) };
        let mut also_submitted = Vec::new();
        let (train, val, mut test) = match form_of(entry)? {
            QuestionForm::Benchmark(benchmark) => {
                also_submitted = benchmark.also_submitted(root, source.answers)?;
                (Vec::new(), Vec::new(), benchmark.open(root, source.answers)?)
            }
            QuestionForm::Small(small) => {
                let questions = small.open(root, SmallPart::Train)?;
                let val = Stream::new("questions/val", &[source.seed]);
                let (mut train, val) = split_by_image(questions, source.val_questions, val);
                if let Some(RowLimits { train: limit, .. }) = source.at_most {
                    (_, train) = split_by_image(train, limit, Stream::new("questions/train", &[source.seed]));
                }
                if train.is_empty() {
                    return Err(empty("train"));
                }
                (train, val, small.open(root, SmallPart::Test)?)
            }
        };
        test = at_most(test, source.at_most.map(|limits| limits.test), source.seed);
        if test.is_empty() {
            return Err(empty("test"));
        }
        let checksum = checksum_of(&entry.name, &[&train, &val, &test], hashes)?;
        let questions = Splits::new([train, val, test]);
        Ok(Self { name: entry.name.clone(), entry: entry.clone(), questions, also_submitted, checksum })
    }

    /// A dataset of questions that were generated or read elsewhere.
    pub(crate) fn synthetic(
        name: String,
        entry: &DatasetEntry,
        questions: [Vec<Question>; 3],
        checksum: String,
    ) -> Self {
        let questions = Splits::new(questions);
        Self { name, entry: entry.clone(), questions, also_submitted: Vec::new(), checksum }
    }

    /// The name used in results: the dataset's, or `mini/<set>` for a synthetic one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry entry.
    pub fn entry(&self) -> &DatasetEntry {
        &self.entry
    }

    /// Numbers of questions in the three parts.
    pub fn counts(&self) -> SplitCounts {
        self.questions.counts()
    }

    /// The questions of a split.
    pub fn questions(&self, split: Split) -> &[Question] {
        self.questions.of(split)
    }

    /// Identifiers of questions that the benchmark's server expects in a submission although they are not asked.
    pub fn also_submitted(&self) -> &[String] {
        &self.also_submitted
    }

    /// blake3 (hex) of prompts, answers, keys, and the names and contents of images.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }
}

/// The form of a dataset's questions.
pub(crate) fn form_of(entry: &DatasetEntry) -> Result<QuestionForm, DataError> {
    let questions = entry.questions.ok_or_else(|| DataError::NoQuestions { set: entry.name.clone() })?;
    Ok(questions.form)
}

/// Splits off the questions of randomly sampled images until there are at least `count` of them; returns the rest and
/// those split off, both in their original order.
pub(super) fn split_by_image(
    questions: Vec<Question>,
    count: usize,
    mut stream: Stream,
) -> (Vec<Question>, Vec<Question>) {
    let mut pictures: Vec<(String, usize)> = Vec::new();
    let mut places = HashMap::new();
    for question in &questions {
        let identity = question.picture.identity();
        let place = *places.entry(identity.clone()).or_insert_with(|| {
            pictures.push((identity, 0));
            pictures.len() - 1
        });
        pictures[place].1 += 1;
    }
    let (mut chosen, mut chosen_count) = (HashSet::new(), 0);
    for place in stream.permutation(pictures.len()) {
        if chosen_count >= count {
            break;
        }
        chosen.insert(pictures[place].0.clone());
        chosen_count += pictures[place].1;
    }
    questions.into_iter().partition(|question| !chosen.contains(&question.picture.identity()))
}

/// At most `limit` questions, sampled with the seed, in their original order.
fn at_most(questions: Vec<Question>, limit: Option<usize>, seed: u64) -> Vec<Question> {
    let Some(limit) = limit.filter(|limit| *limit < questions.len()) else { return questions };
    let sampled = Stream::new("questions/part", &[seed]).permutation(questions.len());
    let sampled: HashSet<usize> = sampled.into_iter().take(limit).collect();
    let numbered = questions.into_iter().enumerate();
    numbered.filter(|(place, _)| sampled.contains(place)).map(|(_, question)| question).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::dataset;
    use crate::vl::conversation::Origin;
    use crate::vl::judge::Key;
    use crate::vl::picture::Picture;

    pub(in crate::vl) fn question(number: u8, answer: Option<&str>) -> Question {
        // Three questions per image.
        let picture = Picture::Pixels(1, Arc::from([number / 3; 3]));
        let origin = Origin::new("a", Path::new("a.json"), usize::from(number) + 1);
        let key = Key::Exact("cat".into());
        let plain = Question::short(number.to_string(), picture, &format!("question {number}"), key, origin);
        Question { answer: answer.map(str::to_owned), ..plain }
    }

    #[test]
    fn training_and_validation_questions_share_no_image() {
        let questions: Vec<Question> = (0..30).map(|number| question(number, Some("cat"))).collect();
        let sampled = |seed| split_by_image(questions.clone(), 7, Stream::new("a", &[seed]));
        let (train, val) = sampled(1);
        assert_eq!((train.len(), val.len()), (21, 9));
        let identities = |part: &[Question]| -> HashSet<String> {
            part.iter().map(|question| question.picture.identity()).collect()
        };
        assert!(identities(&train).is_disjoint(&identities(&val)));
        let ids = |part: &[Question]| part.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&val), ids(&sampled(1).1));
        assert_ne!(ids(&val), ids(&sampled(2).1));
        let part = at_most(questions, Some(5), 1);
        assert_eq!(part.len(), 5);
        assert!(ids(&part).iter().map(|id| id.parse::<u8>().unwrap()).is_sorted());
    }

    #[test]
    fn a_data_set_without_questions_or_stand_in_is_rejected_with_its_name() {
        let counts = SplitCounts { train: 1, val: 1, test: 1 };
        let rejection = |name| QuestionSet::draw(dataset(name).unwrap(), counts, 16).unwrap_err().to_string();
        assert!(
            rejection("boolq").contains("boolq: this data set has no questions"),
            "{}",
            rejection("boolq")
        );
        assert!(rejection("easy_vqa").contains("no synthetic stand-in"), "{}", rejection("easy_vqa"));
    }
}
