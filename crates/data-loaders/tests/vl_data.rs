//! Vision and language on disk: the formats of the seven benchmarks, LLaVA's conversations, the small datasets, and the
//! error messages for faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::fs;
use std::path::{Path, PathBuf};

use data_loaders::vl::{
    Answers, ConversationFile, Key, Picture, PictureProtocol, Question, QuestionSource, QuestionSuite,
    SmallPart, read_conversations, read_mixture,
};
use data_loaders::{Benchmark, SmallSet};
use data_loaders::{FileHashes, dataset};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A grey image of 2 x 1 pixels, as a PNG.
const PNG: &[u8] = include_bytes!("fixtures/vl/grey.png");

fn folder(files: &[(&str, String)], images: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    files.iter().for_each(|(path, text)| write(path, text.as_bytes()));
    images.iter().for_each(|path| write(path, PNG));
    root
}

fn only(benchmark: Benchmark, root: &Path, answers: Answers) -> Question {
    let [question] = &benchmark.open(root, answers).unwrap()[..] else { panic!("expected one question") };
    let protocol = PictureProtocol { image_size: 4, ..PictureProtocol::LLAVA };
    assert_eq!(protocol.read("a", &[&question.picture]).unwrap().len(), 48);
    question.clone()
}

#[test]
fn vqav2_answers_on_the_server_are_withheld() {
    let asked =
        json!({"questions": [{"image_id": 42, "question": "Is it?", "question_id": 42000}]}).to_string();
    let answers: Vec<Value> = (0..10).map(|id| json!({"answer": "yes", "answer_id": id})).collect();
    let annotations = json!({"annotations": [{"question_id": 42000, "answers": answers}]}).to_string();
    let root = folder(
        &[
            ("vqav2/v2_OpenEnded_mscoco_test-dev2015_questions.json", asked.clone()),
            ("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", asked),
            ("vqav2/v2_mscoco_val2014_annotations.json", annotations),
        ],
        &["vqav2/test2015/COCO_test2015_000000000042.jpg", "vqav2/val2014/COCO_val2014_000000000042.jpg"],
    );
    let server = only(Benchmark::Vqav2, root.path(), Answers::Server);
    assert_eq!(server.prompt, "Is it?\nAnswer the question using a single word or phrase.");
    assert_eq!((server.id.as_str(), &server.key), ("42000", &Key::Withheld));
    assert!(server.conversation().is_none());
    let (name, file) = Benchmark::Vqav2.submission(&[server.answered("Yes.")]).unwrap();
    assert_eq!(name, "vqav2_test-dev.json");
    assert_eq!(file.unwrap(), br#"[{"question_id":42000,"answer":"yes"}]"#);
    let local = only(Benchmark::Vqav2, root.path(), Answers::Local);
    assert_eq!(local.key.judge("yes").score, Some(1.0));
}

#[test]
fn gqa_vizwiz_and_textvqa_use_the_prompts_of_llava() {
    let person: Vec<Value> = vec![json!({"answer": "a can", "answer_confidence": "yes"}); 10];
    let root = folder(
        &[
            (
                "gqa/testdev_balanced_questions.json",
                json!({"201": {"imageId": "n1", "question": "Who?", "answer": "boy", "isBalanced": true}}).to_string(),
            ),
            ("vizwiz/test.json", json!([{"image": "t.jpg", "question": "What is it?"}]).to_string()),
            (
                "vizwiz/val.json",
                json!([{"image": "v.jpg", "question": "What?", "answers": person, "answerable": 1}]).to_string(),
            ),
            (
                "textvqa/TextVQA_0.5.1_val.json",
                json!({"data": [{"question_id": 3, "image_id": "x", "question": "which brand?", "answers": ["Nokia"]}]})
                    .to_string(),
            ),
            (
                "textvqa/TextVQA_Rosetta_OCR_v0.2_val.json",
                json!({"data": [{"image_id": "x", "ocr_tokens": ["NOKIA", "5"], "ocr_info": []}]}).to_string(),
            ),
        ],
        &["gqa/images/n1.jpg", "vizwiz/test/t.jpg", "vizwiz/val/v.jpg", "textvqa/train_images/x.jpg"],
    );
    let gqa = only(Benchmark::Gqa, root.path(), Answers::Server);
    assert_eq!((gqa.id.as_str(), gqa.key.judge("Boy.").score), ("201", Some(1.0)));
    let vizwiz = only(Benchmark::Vizwiz, root.path(), Answers::Server);
    let hint = "When the provided information is insufficient, respond with 'Unanswerable'.";
    assert_eq!(
        vizwiz.prompt,
        format!("What is it?\n{hint}\nAnswer the question using a single word or phrase.")
    );
    let (_, file) = Benchmark::Vizwiz.submission(&[vizwiz.answered("A can")]).unwrap();
    assert_eq!(file.unwrap(), br#"[{"image":"t.jpg","answer":"can"}]"#);
    // As in the reference, annotators' articles are kept if all annotators agree.
    assert_eq!(only(Benchmark::Vizwiz, root.path(), Answers::Local).key.judge("can").score, Some(0.0));
    let textvqa = only(Benchmark::Textvqa, root.path(), Answers::Server);
    assert_eq!(
        textvqa.prompt,
        "which brand?\nReference OCR token: NOKIA, 5\nAnswer the question using a single word or phrase."
    );
}

#[test]
fn scienceqa_and_mmbench_list_lettered_options() {
    let problem = |image: Value| {
        json!({"question": "Which?", "choices": ["red", "blue"], "answer": 1, "hint": "Look.", "image": image,
               "split": "test"})
    };
    let base64 =
        json!({"index": 7, "hint": "", "question": "Which one?", "A": "cat", "B": "dog", "C": "", "D": ""});
    let row = |image: &str, answer: &str| {
        format!("{}\t\tWhich one?\tcat\tdog\t\t\t{answer}\t{image}\n", base64["index"])
    };
    let encoded = base64_of(PNG);
    let table = format!("index\thint\tquestion\tA\tB\tC\tD\tanswer\timage\n{}", row(&encoded, "B"));
    let root = folder(
        &[
            (
                "scienceqa_img/problems.json",
                json!({"1": problem(json!("image.png")), "2": problem(Value::Null)}).to_string(),
            ),
            ("scienceqa_img/pid_splits.json", json!({"train": [], "test": ["2", "1"]}).to_string()),
            ("mmbench/mmbench_dev_20230712.tsv", table),
        ],
        &["scienceqa_img/images/test/1/image.png"],
    );
    let science = only(Benchmark::ScienceqaImg, root.path(), Answers::Server);
    let suffix = "Answer with the option's letter from the given choices directly.";
    assert_eq!(science.prompt, format!("Context: Look.\nWhich?\nA. red\nB. blue\n{suffix}"));
    assert_eq!((science.id.as_str(), science.key.judge("B. blue").score), ("1", Some(1.0)));
    assert_eq!(science.conversation().unwrap().turns[0].answer, "B");
    let mmbench = only(Benchmark::Mmbench, root.path(), Answers::Local);
    assert_eq!(mmbench.prompt, format!("Which one?\nA. cat\nB. dog\n{suffix}"));
    assert_eq!(mmbench.key, Key::Letter { right: 1, options: 2 });
    let (name, file) = Benchmark::Mmbench.submission(&[mmbench.answered("B")]).unwrap();
    assert!(name.ends_with(".xlsx") && file.unwrap().starts_with(b"PK"));
}

fn base64_of(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .map(|chunk| {
            let number = (0..3).fold(0_u32, |sum, at| (sum << 8) | u32::from(*chunk.get(at).unwrap_or(&0)));
            let digit = |at: usize| char::from(DIGITS[(number >> (18 - 6 * at)) as usize & 63]);
            (0..4).map(|at| if at > chunk.len() { '=' } else { digit(at) }).collect::<String>()
        })
        .collect()
}

#[test]
fn pope_has_three_parts() {
    let line = |label: &str| {
        json!({"question_id": 1, "image": "i.jpg", "text": "Is there a cat in the image?", "label": label})
            .to_string()
    };
    let files = ["random", "popular", "adversarial"].map(|part| format!("pope/coco_pope_{part}.json"));
    let files: Vec<_> =
        files.iter().map(|file| (file.as_str(), format!("{}\n{}\n", line("yes"), line("no")))).collect();
    let root = folder(&files, &["pope/val2014/i.jpg"]);
    let questions = Benchmark::Pope.open(root.path(), Answers::Server).unwrap();
    assert_eq!(questions.len(), 6);
    assert_eq!((questions[3].part.as_str(), &questions[3].key), ("popular", &Key::YesNo(false)));
    let broken = folder(
        &[("pope/coco_pope_random.json", format!("{}\n{}", line("yes"), line("perhaps")))],
        &["pope/val2014/i.jpg"],
    );
    let message = Benchmark::Pope.open(broken.path(), Answers::Server).unwrap_err().to_string();
    assert!(message.contains("coco_pope_random.json:2: ") && message.contains("`perhaps`"), "{message}");
}

fn row(image: Option<&str>, turns: &[(&str, &str)]) -> Value {
    let turns: Vec<Value> = turns.iter().map(|(from, value)| json!({"from": from, "value": value})).collect();
    match image {
        Some(image) => json!({"id": 1, "image": image, "conversations": turns}),
        None => json!({"id": "a", "conversations": turns}),
    }
}

#[test]
fn conversations_are_read_with_their_images_and_a_mixture_takes_rows_of_each_file() {
    let asked = [("human", "What is it?\n<image>"), ("gpt", "A cat."), ("human", "Sure?"), ("gpt", "Yes.")];
    let text = [("gpt", "unasked"), ("human", "Hi"), ("gpt", "Hello")];
    let rows = json!([row(Some("a.png"), &asked), row(None, &text)]).to_string();
    let root = folder(&[("one.json", rows.clone()), ("two.json", rows)], &["images/a.png"]);
    let read = read_conversations("mix", &root.path().join("one.json"), &root.path().join("images")).unwrap();
    let turns = &read[0].turns;
    assert_eq!((turns[0].question.as_str(), turns[0].image, turns[1].image), ("What is it?", true, false));
    assert_eq!(read[1].turns.len(), 1);
    let file = |name: &str, rows| ConversationFile { file: name.into(), images: "images".into(), rows };
    let files = [file("one.json", None), file("two.json", Some(1))];
    let mixed = |seed| read_mixture("mix", root.path(), &files, seed).unwrap();
    assert_eq!(mixed(1).len(), 3);
    let sampled: Vec<usize> = (0..20).map(|seed| mixed(seed)[2].origin.row).collect();
    assert!(sampled.contains(&1) && sampled.contains(&2), "{sampled:?}");
    let message = read_mixture("mix", root.path(), &[file("two.json", Some(3))], 0).unwrap_err().to_string();
    assert!(message.contains("3 rows") && message.contains("two.json"), "{message}");
}

#[test]
fn replacing_an_image_by_one_of_the_same_length_changes_the_checksum() {
    let questions = json!([["What is it?", "cat", 0], ["What is it?", "dog", 1]]).to_string();
    let files =
        [("easy_vqa/train/questions.json", questions.clone()), ("easy_vqa/test/questions.json", questions)];
    let conversation = json!([row(Some("mixed.png"), &[("human", "<image>\nWhat?"), ("gpt", "A cat.")])]);
    let mixture = [("mixture.json", conversation.to_string())];
    let images =
        [0, 1].map(|image| ["train", "test"].map(|part| format!("easy_vqa/{part}/images/{image}.png")));
    let images: Vec<&str> = images.iter().flatten().map(String::as_str).chain(["images/mixed.png"]).collect();
    let root = folder(&[&files[..], &mixture].concat(), &images);
    let file = ConversationFile { file: "mixture.json".into(), images: "images".into(), rows: None };
    let source = QuestionSource {
        answers: Answers::Server,
        mixture: vec![file],
        val_questions: 1,
        seed: 0,
        at_most: None,
    };
    let hashes = FileHashes::cached_in(root.path().join("hashes"));
    let checksum = || {
        let entries = [dataset("easy_vqa").unwrap()];
        QuestionSuite::open(&entries, root.path(), &source, &hashes).unwrap().checksum().to_owned()
    };
    let mut checksums = vec![checksum()];
    assert_eq!(checksum(), checksums[0]);
    for (count, image) in images.iter().enumerate() {
        let mut altered = PNG.to_vec();
        *altered.last_mut().unwrap() = u8::try_from(count).unwrap();
        fs::write(root.path().join(image), altered).unwrap();
        let now = checksum();
        assert!(!checksums.contains(&now), "{image}");
        checksums.push(now);
    }
}

#[test]
fn an_invalid_row_is_reported_in_one_sentence_with_file_and_row() {
    let good = row(Some("a.png"), &[("human", "<image>\nWhat?"), ("gpt", "A cat.")]);
    let cases = [
        (row(Some("b.png"), &[("human", "<image>\nWhat?"), ("gpt", "x")]), "b.png does not exist"),
        (row(Some("a.png"), &[("human", "What?"), ("gpt", "x")]), "no `<image>`"),
        (row(Some("a.png"), &[("human", "<image> <image>"), ("gpt", "x")]), "2 times"),
        (row(Some("a.png"), &[("human", "What?"), ("gpt", "<image>")]), "in an answer"),
        (row(None, &[("human", "<image>\nWhat?"), ("gpt", "x")]), "no image"),
        (row(Some("a.png"), &[("human", "<image>\nWhat?"), ("gpt", " \n")]), "an answer is empty"),
        (row(Some("a.png"), &[("human", "<image>\nWhat?")]), "does not end with an answer"),
        (row(Some("a.png"), &[("human", "<image>"), ("human", "x")]), "`gpt`, found one of `human`"),
        (row(None, &[]), "does not end with an answer"),
    ];
    for (bad, reason) in cases {
        let root = folder(&[("train.json", json!([good, bad]).to_string())], &["a.png"]);
        let message =
            read_conversations("mix", &root.path().join("train.json"), root.path()).unwrap_err().to_string();
        assert!(message.starts_with("mix: ") && message.contains("train.json:2: "), "{message}");
        assert!(message.contains(reason) && message.lines().count() == 1, "{message}");
    }
    let root = folder(&[("train.json", "[{\"id\": 1}]".into())], &[]);
    let message =
        read_conversations("mix", &root.path().join("train.json"), root.path()).unwrap_err().to_string();
    assert!(message.contains("train.json: ") && message.contains("conversations"), "{message}");
}

#[test]
fn a_missing_data_set_is_reported_with_its_name() {
    let root = tempfile::tempdir().unwrap();
    for benchmark in Benchmark::ALL {
        let message = benchmark.open(root.path(), Answers::Server).unwrap_err().to_string();
        assert!(message.contains(benchmark.name()), "{message}");
    }
}

fn data() -> Option<PathBuf> {
    let root = std::env::var_os("SAN_DATA").map(|root| PathBuf::from(root).join("vl"));
    if root.as_ref().is_none_or(|root| !root.is_dir()) {
        skipped::report("SAN_DATA holds no folder vl");
        return None;
    }
    root
}

/// Share of questions answered correctly by the most frequent answer to the same question.
fn question_only_prior(train: &[Question], test: &[Question]) -> f64 {
    use std::collections::HashMap;
    let mut counts: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
    for question in train {
        let answer = question.answer.as_deref().unwrap();
        *counts.entry(&question.prompt).or_default().entry(answer).or_default() += 1;
    }
    let guess = |prompt: &str| {
        counts
            .get(prompt)
            .and_then(|answers| answers.iter().max_by_key(|(answer, count)| (**count, **answer)))
    };
    let right = test.iter().filter(|question| {
        guess(&question.prompt).is_some_and(|(answer, _)| question.key.judge(answer).score == Some(1.0))
    });
    right.count() as f64 / test.len() as f64
}

#[test]
fn the_small_data_sets_are_read_completely() {
    let Some(root) = data() else { return };
    let open = |set: SmallSet, part| set.open(&root, part).unwrap();
    let (train, test) = (open(SmallSet::EasyVqa, SmallPart::Train), open(SmallSet::EasyVqa, SmallPart::Test));
    assert_eq!((train.len(), test.len()), (38_575, 9_673));
    let prior = question_only_prior(&train, &test);
    assert!((prior - 0.67).abs() < 0.01, "question-only prior {prior}");
    let (train, test) = (open(SmallSet::Nlvr, SmallPart::Train), open(SmallSet::Nlvr, SmallPart::Test));
    assert_eq!((train.len(), test.len()), (989, 990));
    let train = open(SmallSet::PopeCoco128, SmallPart::Train);
    let test = open(SmallSet::PopeCoco128, SmallPart::Test);
    assert_eq!((train.len(), test.len()), (1_042, 3 * 598));
    let protocol = PictureProtocol { image_size: 28, ..PictureProtocol::LLAVA };
    let pictures: Vec<&Picture> = test.iter().step_by(97).map(|question| &question.picture).collect();
    let planes = protocol.read("pope_coco128", &pictures).unwrap();
    assert!(planes.iter().all(|value| value.is_finite()));
}
