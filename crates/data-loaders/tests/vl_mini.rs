//! The synthetic questions about images: the score without the image is bounded, and with the image all can be
//! answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use data_loaders::SplitCounts;
use data_loaders::vl::{
    OPTION_LETTER, Picture, Question, SHORT_ANSWER, Tally, UNANSWERABLE, question_only_prior,
};
use data_loaders::{Benchmark, Caption, CaptionStream, MiniQuestions};

fn set(benchmark: Benchmark, train: usize, test: usize) -> MiniQuestions {
    MiniQuestions::draw(benchmark, SplitCounts { train, val: 20, test }, 32).unwrap()
}

/// The dataset's own score for the answers given by `answer`.
fn score(questions: &[Question], answer: impl Fn(&Question) -> String) -> f64 {
    let mut tally = Tally::default();
    for question in questions {
        tally.add(&question.key, &question.part, &question.key.judge(&answer(question)));
    }
    tally.score().unwrap()
}

#[test]
fn a_model_that_ignores_the_image_only_reaches_the_prior() {
    let expected = [
        (Benchmark::Vqav2, 0.43),
        (Benchmark::Gqa, 0.40),
        (Benchmark::Vizwiz, 0.40),
        (Benchmark::ScienceqaImg, 0.35),
        (Benchmark::Textvqa, 0.60),
        // F1; always answering yes gives 2/3.
        (Benchmark::Pope, 0.69),
        (Benchmark::Mmbench, 0.37),
    ];
    for (benchmark, most) in expected {
        let set = set(benchmark, 1200, 600);
        let prior = question_only_prior(&set.train, &set.test).unwrap();
        println!("{}: question-only prior {prior:.3}", set.name);
        assert!(prior < most, "{}: {prior}", set.name);
        let right = score(&set.test, |question| question.answer.clone().unwrap());
        assert!((right - 1.0).abs() < 1e-9, "{}: {right}", set.name);
    }
}

#[test]
fn yes_and_no_are_equally_frequent_in_each_part_of_pope() {
    let set = set(Benchmark::Pope, 6, 600);
    for part in ["random", "popular", "adversarial"] {
        let of_part: Vec<_> = set.test.iter().filter(|question| question.part == part).collect();
        let yes = of_part.iter().filter(|question| question.answer.as_deref() == Some("Yes")).count();
        assert_eq!((of_part.len(), yes), (200, 100), "{part}");
    }
}

#[test]
fn a_synthetic_set_is_deterministic_and_its_splits_share_no_image() {
    for benchmark in Benchmark::ALL {
        let (one, other) = (set(benchmark, 40, 40), set(benchmark, 40, 40));
        assert_eq!(one.checksum, other.checksum);
        let bytes = |question: &Question| match &question.picture {
            Picture::Pixels(side, bytes) => {
                assert_eq!((*side, bytes.len()), (32, 32 * 32 * 3));
                bytes.to_vec()
            }
            other => panic!("{other:?}"),
        };
        let train: Vec<_> = one.train.iter().map(bytes).collect();
        assert!(one.test.iter().map(bytes).all(|picture| !train.contains(&picture)), "{}", one.name);
        assert!(one.train.iter().all(|question| question.conversation().is_some()));
    }
    assert!(MiniQuestions::draw(Benchmark::Gqa, SplitCounts { train: 1, val: 1, test: 1 }, 0).is_err());
}

#[test]
fn each_data_set_uses_the_question_format_of_its_benchmark() {
    let prompt = |benchmark| set(benchmark, 1, 1).test[0].prompt.clone();
    assert!(prompt(Benchmark::Vizwiz).contains("'Unanswerable'"));
    assert!(prompt(Benchmark::Textvqa).contains("\nReference OCR token: "));
    assert!(prompt(Benchmark::ScienceqaImg).contains("\nD. triangle\nAnswer with the option's letter"));
    let Some((_, file)) =
        Benchmark::Mmbench.submission(&[set(Benchmark::Mmbench, 1, 1).test[0].answered("A")])
    else {
        panic!("MMBench has a server")
    };
    assert!(file.is_ok());
}

#[test]
fn captions_describe_the_image_and_most_answer_a_question() {
    let stream = CaptionStream::new(1);
    let captions: Vec<_> = (0..800).map(|index| stream.caption(index, 32)).collect();
    let completion: Vec<&str> = captions.iter().map(|caption| caption.completion.as_str()).collect();
    for remark in
        ["in all: 3", "the red one: ", "it is missing", "left of the ", "the digit: ", "dark: ", "say "]
    {
        assert!(completion.iter().any(|completion| completion.contains(remark)), "{remark}");
    }
    let questions: Vec<&Caption> = captions.iter().filter(|caption| caption.question.is_some()).collect();
    assert!((520..600).contains(&questions.len()), "{} of 800", questions.len());
    for caption in &captions {
        let rendered = caption.rendered();
        let question = caption.question.as_deref().unwrap_or_default();
        assert!(rendered.text.starts_with(&format!("<image>{question}")), "{rendered:?}");
        let trained = &rendered.text[rendered.answers[0].clone()];
        assert_eq!(
            (trained.trim_start(), rendered.answers.len()),
            (&*format!("{}\n", caption.completion), 1)
        );
        assert_eq!(trained.starts_with(' '), caption.question.is_some());
        assert!(rendered.text.ends_with(trained));
        for line in [SHORT_ANSWER, OPTION_LETTER, UNANSWERABLE, "ASSISTANT:"] {
            assert!(!rendered.text.contains(line), "{line}");
        }
    }
    let other = CaptionStream::new(2).caption(0, 32);
    assert_ne!((&captions[0].question, &captions[0].completion), (&other.question, &other.completion));
}

#[test]
fn with_lines_half_of_the_questions_have_distractor_lines() {
    let captions = (0..400).map(|index| CaptionStream::with_lines(1).caption(index, 32));
    let questions: Vec<String> = captions.filter_map(|caption| caption.question).collect();
    let (with_distractors, without_distractors): (Vec<&String>, Vec<&String>) =
        questions.iter().partition(|questions| questions.contains('\n'));
    assert!(
        with_distractors.len().abs_diff(without_distractors.len()) < questions.len() / 5,
        "{}",
        with_distractors.len()
    );
    for line in [SHORT_ANSWER, OPTION_LETTER, UNANSWERABLE, "ASSISTANT:"] {
        assert!(questions.iter().all(|questions| !questions.contains(line)), "{line}");
    }
}
