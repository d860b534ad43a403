//! Scoring of vision-and-language answers against the benchmarks' own evaluation code: tools/vqa_fixtures.py wrote the
//! expected values.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use data_loaders::vl::{Key, evalai_answer, vqa_accuracy, vqa_answer};
use serde_json::Value;

fn cases(rule: &str) -> Vec<Vec<Value>> {
    let all: Value = serde_json::from_str(include_str!("fixtures/vl/hard_answers.json")).unwrap();
    serde_json::from_value(all[rule].clone()).unwrap()
}

fn all_equal(rule: &str, ours: impl Fn(&[Value]) -> Value) {
    let cases = cases(rule);
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let (expected, ours) = (case.last().unwrap(), ours(case));
            (ours != *expected).then(|| format!("{case:?} gives {ours}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{rule}: {} of {}: {wrong:#?}", wrong.len(), cases.len());
}

#[test]
fn answers_are_normalised_like_the_vqa_evaluation() {
    all_equal("vqa", |case| vqa_answer(case[0].as_str().unwrap()).into());
}

#[test]
fn answers_are_normalised_like_evalai() {
    all_equal("evalai", |case| evalai_answer(case[0].as_str().unwrap()).into());
}

#[test]
fn soft_accuracy_equals_the_vqa_evaluation() {
    for case in cases("accuracy") {
        let people: Vec<String> = serde_json::from_value(case[1].clone()).unwrap();
        let ours = vqa_accuracy(case[0].as_str().unwrap(), &people);
        assert!((ours - case[2].as_f64().unwrap()).abs() < 1e-9, "{case:?} gives {ours}");
    }
}

#[test]
fn no_is_detected_as_a_word_of_the_first_sentence_only() {
    all_equal("pope", |case| Key::YesNo(true).judge(case[0].as_str().unwrap()).answer.into());
}

#[test]
fn letters_are_extracted_by_the_rules_of_scienceqa() {
    all_equal("scienceqa", |case| {
        let options = usize::try_from(case[1].as_u64().unwrap()).unwrap();
        Key::Choice { right: 0, options }.judge(case[0].as_str().unwrap()).answer.into()
    });
}

#[test]
fn one_answer_is_compared_as_in_gqa() {
    all_equal("gqa", |case| Key::Exact(String::new()).judge(case[0].as_str().unwrap()).answer.into());
}

#[test]
fn mmbench_accepts_only_a_single_letter() {
    let key = Key::Letter { right: 1, options: 4 };
    for (text, score, answered) in [("B", 1.0, true), ("A", 0.0, true), ("B.", 0.0, false), ("E", 0.0, false)]
    {
        let judged = key.judge(text);
        assert_eq!((judged.score, judged.answered), (Some(score), answered), "{text}");
    }
}

#[test]
fn textvqa_normalises_both_sides() {
    let people: Vec<String> = ["The Dog's"; 10].map(str::to_owned).into();
    assert_eq!(Key::TextVqa(people.clone()).judge("dog's").score, Some(1.0));
    assert_eq!(Key::Vqa(people).judge("dog's").score, Some(0.0));
}
