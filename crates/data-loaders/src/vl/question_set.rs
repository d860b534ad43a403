//! One interface to questions on disk and synthetic ones: questions by split, for each dataset, and the training data
//! of a suite.
//!
//! Synthetic and small datasets have their own training questions; a small one's validation questions are held out by
//! whole images, so that no image is on both sides. The seven benchmarks are used for testing only, and the training
//! data is a separate mixture of conversations (LLaVA-1.5's, of 665 thousand).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::io::file_hashes::FileHashes;
use crate::random::Stream;
use crate::registry::{DatasetEntry, QuestionForm};
use crate::split::{Split, SplitCounts, Splits};
use crate::text::RowLimits;
use crate::vl::benchmark::Answers;
use crate::vl::conversation::{Conversation, ConversationFile, read_mixture};
use crate::vl::local::SmallPart;
use crate::vl::picture::Picture;
use crate::vl::question::Question;

/// The name of a mixture in messages.
const MIXTURE: &str = "mixture";

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
        let (train, val, mut test) = match form_of(entry)? {
            QuestionForm::Benchmark(benchmark) => {
                (Vec::new(), Vec::new(), benchmark.open(root, source.answers)?)
            }
            QuestionForm::Small(small) => {
                let questions = small.open(root, SmallPart::Train)?;
                let val = Stream::new("questions/val", &[source.seed]);
                let (mut train, val) = by_picture(questions, source.val_questions, val);
                if let Some(RowLimits { train: limit, .. }) = source.at_most {
                    (_, train) = by_picture(train, limit, Stream::new("questions/train", &[source.seed]));
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
        Ok(Self { name: entry.name.clone(), entry: entry.clone(), questions, checksum })
    }

    /// A dataset of generated questions.
    pub(crate) fn synthetic(
        name: String,
        entry: &DatasetEntry,
        questions: [Vec<Question>; 3],
        checksum: String,
    ) -> Self {
        Self { name, entry: entry.clone(), questions: Splits::new(questions), checksum }
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

    /// blake3 (hex) of prompts, answers, keys, and the names and contents of images.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }
}

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

    fn assemble(
        sets: Vec<QuestionSet>,
        mixture: Vec<Conversation>,
        hashes: &FileHashes,
    ) -> Result<Self, DataError> {
        let mut hasher = blake3::Hasher::new();
        for set in &sets {
            hasher.update(set.checksum.as_bytes());
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

/// The form of a dataset's questions.
pub(crate) fn form_of(entry: &DatasetEntry) -> Result<QuestionForm, DataError> {
    let questions = entry.questions.ok_or_else(|| DataError::NoQuestions { set: entry.name.clone() })?;
    Ok(questions.form)
}

/// Splits off the questions of randomly sampled images until there are at least `count` of them; returns the rest and
/// those split off, both in their original order.
fn by_picture(questions: Vec<Question>, count: usize, mut stream: Stream) -> (Vec<Question>, Vec<Question>) {
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
    let (mut held, mut theirs) = (HashSet::new(), 0);
    for place in stream.permutation(pictures.len()) {
        if theirs >= count {
            break;
        }
        held.insert(pictures[place].0.clone());
        theirs += pictures[place].1;
    }
    questions.into_iter().partition(|question| !held.contains(&question.picture.identity()))
}

/// At most `limit` questions, sampled with the seed, in their original order.
fn at_most(questions: Vec<Question>, limit: Option<usize>, seed: u64) -> Vec<Question> {
    let Some(limit) = limit.filter(|limit| *limit < questions.len()) else { return questions };
    let drawn = Stream::new("questions/part", &[seed]).permutation(questions.len());
    let drawn: HashSet<usize> = drawn.into_iter().take(limit).collect();
    let numbered = questions.into_iter().enumerate();
    numbered.filter(|(place, _)| drawn.contains(place)).map(|(_, question)| question).collect()
}

fn checksum_of(set: &str, parts: &[&[Question]], hashes: &FileHashes) -> Result<String, DataError> {
    let all = parts.iter().copied().flatten().map(|question| &question.picture);
    let pictures = PictureHashes::of(set, all, hashes)?;
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        for Question { prompt, answer, key, picture, .. } in *part {
            update(&mut hasher, prompt.as_bytes());
            update(&mut hasher, answer.as_deref().unwrap_or_default().as_bytes());
            update(&mut hasher, format!("{key:?}").as_bytes());
            pictures.update(&mut hasher, picture);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The hashes of the image files of questions; each file is hashed once, however many questions share it.
struct PictureHashes<'a>(HashMap<&'a Path, blake3::Hash>);

impl<'a> PictureHashes<'a> {
    fn of(
        set: &str,
        pictures: impl Iterator<Item = &'a Picture>,
        hashes: &FileHashes,
    ) -> Result<Self, DataError> {
        let file = |picture: &'a Picture| match picture {
            Picture::File(path) => Some(path.as_path()),
            Picture::Inside(..) | Picture::Pixels(..) => None,
        };
        let files: Vec<&Path> = pictures.filter_map(file).collect::<BTreeSet<_>>().into_iter().collect();
        let found = hashes.of(&files).map_err(|(path, source)| DataError::Read {
            set: set.to_owned(),
            path,
            source,
        })?;
        Ok(Self(files.into_iter().zip(found).collect()))
    }

    fn update(&self, hasher: &mut blake3::Hasher, picture: &Picture) {
        update(hasher, picture.file_name().as_bytes());
        match picture {
            Picture::File(path) => update(hasher, self.0[path.as_path()].as_bytes()),
            Picture::Inside(_, bytes) | Picture::Pixels(_, bytes) => update(hasher, bytes),
        }
    }
}

fn update(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::dataset;
    use crate::vl::conversation::Origin;
    use crate::vl::judge::Key;

    fn question(number: u8, answer: Option<&str>) -> Question {
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
        let drawn = |seed| by_picture(questions.clone(), 7, Stream::new("a", &[seed]));
        let (train, val) = drawn(1);
        assert_eq!((train.len(), val.len()), (21, 9));
        let identities = |part: &[Question]| -> HashSet<String> {
            part.iter().map(|question| question.picture.identity()).collect()
        };
        assert!(identities(&train).is_disjoint(&identities(&val)));
        let ids = |part: &[Question]| part.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&val), ids(&drawn(1).1));
        assert_ne!(ids(&val), ids(&drawn(2).1));
        let part = at_most(questions, Some(5), 1);
        assert_eq!(part.len(), 5);
        assert!(ids(&part).iter().map(|id| id.parse::<u8>().unwrap()).is_sorted());
    }

    #[test]
    fn a_training_question_without_an_answer_is_reported_with_file_and_row() {
        let entry = dataset("gqa").unwrap().clone();
        let train = vec![question(0, Some("cat")), question(1, None)];
        let parts = [train, Vec::new(), Vec::new()];
        let set = QuestionSet::synthetic(entry.name.clone(), &entry, parts, String::new());
        let suite = QuestionSuite { sets: vec![set], mixture: Vec::new(), checksum: String::new() };
        let refused = suite.conversations(Split::Train).unwrap_err().to_string();
        assert_eq!(refused, "a: a.json:2: the question has no answer to train on");
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

    #[test]
    fn a_data_set_without_questions_or_stand_in_is_rejected_with_its_name() {
        let counts = SplitCounts { train: 1, val: 1, test: 1 };
        let refused = |name| QuestionSet::draw(dataset(name).unwrap(), counts, 16).unwrap_err().to_string();
        assert!(refused("boolq").contains("boolq: this data set has no questions"), "{}", refused("boolq"));
        assert!(refused("easy_vqa").contains("no synthetic stand-in"), "{}", refused("easy_vqa"));
    }
}
