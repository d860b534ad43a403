//! The generated language: rows are functions of their index, test rows are not training rows, answers are balanced,
//! and the pretraining stream contains neither the wrapper of the tasks nor their questions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use data_loaders::TextStream;
use data_loaders::text::{Row, TextSet, evaluation_prompt};
use data_loaders::{Split, SplitCounts, Suite, dataset, datasets};

const COUNTS: SplitCounts = SplitCounts { train: 800, val: 80, test: 200 };

fn sets() -> Vec<TextSet> {
    let entries = datasets().unwrap().iter().filter(|entry| entry.suite == Suite::Commonsense);
    let sets: Vec<TextSet> = entries.map(|entry| TextSet::draw(entry, COUNTS).unwrap()).collect();
    assert_eq!(sets.len(), 8);
    sets
}

/// The question of a row, and its options in alphabetical order.
fn question(row: &Row) -> (String, Vec<String>) {
    let (body, _) = row.instruction.split_once("Answer format: ").unwrap();
    let (lead, list) = body.split_once("\n\n").unwrap();
    let mut options: Vec<String> = Vec::new();
    for word in list.split_whitespace() {
        match options.last_mut() {
            Some(option) if !word.ends_with(':') => option.push_str(word),
            _ => options.push(String::new()),
        }
    }
    options.sort();
    (lead.to_owned(), options)
}

#[test]
fn every_row_lists_its_answer_in_the_format_of_its_data_set() {
    for set in sets() {
        assert!(set.is_synthetic() && set.name().starts_with("mini/"));
        assert_eq!(set.counts(), COUNTS);
        for row in set.rows(Split::Test) {
            assert!(row.options().contains(&row.answer.as_str()), "{}: {row:?}", set.name());
            assert_eq!(row.format(), set.format());
            assert_eq!(set.format().unwrap().extract(&row.output), Some(row.answer.as_str()));
            assert_eq!(set.format().unwrap().extract(&evaluation_prompt(row)), None);
        }
    }
}

#[test]
fn rows_are_functions_of_their_index_and_the_eight_tasks_share_training_rows() {
    let sets = sets();
    let longer = SplitCounts { train: 808, val: 80, test: 250 };
    let again = TextSet::draw(sets[3].entry(), longer).unwrap();
    assert_eq!(again.rows(Split::Train)[..800], *sets[3].rows(Split::Train));
    assert_eq!(again.rows(Split::Test)[..200], *sets[3].rows(Split::Test));
    assert_ne!(again.checksum(), sets[3].checksum());
    assert!(sets.iter().all(|set| set.rows(Split::TrainVal) == sets[0].rows(Split::TrainVal)));
    assert_eq!(sets.iter().map(TextSet::checksum).collect::<BTreeSet<_>>().len(), 8);
}

#[test]
fn no_test_row_is_a_reordered_training_row() {
    let sets = sets();
    let train: BTreeSet<_> = sets[0].rows(Split::Train).iter().map(question).collect();
    let val: BTreeSet<_> = sets[0].rows(Split::Val).iter().map(question).collect();
    assert!(train.is_disjoint(&val));
    for set in &sets {
        assert!(set.rows(Split::Test).iter().map(question).all(|question| !train.contains(&question)));
    }
}

#[test]
fn no_answer_is_right_much_more_often_than_chance() {
    for set in sets() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        set.rows(Split::Test).iter().for_each(|row| *counts.entry(&row.answer).or_default() += 1);
        let options = set.rows(Split::Test)[0].options().len();
        assert_eq!(counts.len(), options, "{}", set.name());
        let most = *counts.values().max().unwrap() as f64 / COUNTS.test as f64;
        assert!(most < 1.0 / options as f64 + 0.12, "{}: {counts:?}", set.name());
    }
}

#[test]
fn the_stream_states_the_facts_without_the_wrapper_and_rarely_in_the_answer_format() {
    let stream = TextStream::new(0);
    let passages: Vec<String> = (0..5000).map(|index| stream.passage(index)).collect();
    assert_eq!(passages[17], TextStream::new(0).passage(17));
    assert_ne!(passages[17], TextStream::new(1).passage(17));
    let all = passages.join("\n");
    for fact in ["the lemon is yellow.", "the opposite of hot is cold.", "the bear is a kind of animal."] {
        assert!(all.contains(fact), "{fact}");
    }
    let wrapper = [
        "Below is an instruction",
        "Please choose the correct",
        "### Response:\n",
        "Answer format: true",
        "Answer format: a",
        "Answer format: s",
        "Answer format: e",
        "Answer format: o",
    ];
    for words in wrapper {
        assert!(!all.contains(words), "{words}");
    }
    // The format occurs in the stream, but is not its usual answer format.
    let in_format = passages.iter().filter(|passage| passage.contains("the correct answer is")).count();
    assert!((150..350).contains(&in_format), "{in_format} of 5000");
}

#[test]
fn an_image_data_set_has_no_text_rows() {
    let message = TextSet::draw(dataset("svhn").unwrap(), COUNTS).unwrap_err().to_string();
    assert_eq!(message, "svhn: this is an image data set, not a text data set");
}
