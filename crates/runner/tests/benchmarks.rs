//! LLaVA-1.5's recipe on files of the benchmarks' form: one epoch of a mixture, the projector trained beside the method,
//! sets with public answers scored, and a file for the server of one without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Bench, done};
use report::record::{Pending, Record};
use serde_json::{Value, json};

/// The profile `paper` of `vl`, on the bundled model and two of its sets.
const RECIPE: &str = "
name: vtab
suite: vl
profiles:
  embedded:
    data: {questions: {folder: vl, source: {answers: server, mixture: [{file: mix.json, images: images}], val_questions: 0, seed: 0}}}
    sets: [gqa, vizwiz]
    backbones: [llava_micro]
    methods:
      - {method: dora, learning_rate: 1.0e-3, options: {rank: 2, alpha: 4, dropout: 0.05, targets: [q, k, v, proj, gate, up, down]}}
    seeds: [0]
    protocol:
      epochs: 1
      batch_size: 4
      questions:
        picture: {image_size: 32, square: pad, filter: bicubic, normalisation: clip}
        projector: {learning_rate: 2.0e-4}
        template: bare
        cutoff: 160
        warmup: 0.03
        reading: greedy
        new_tokens: 4
        evaluation: {sequences: 4}
        compute: bf16
        memory: {at_once: 2, recompute: true}
";

fn bench() -> Bench {
    let bench = Bench::new(RECIPE);
    let picture = |path: &str| {
        let path = bench.path("data/vl").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(20, 10, image::Rgb([90; 3])).save(path).unwrap();
    };
    ["images/a.png", "vizwiz/test/t.png", "gqa/images/g.jpg"].into_iter().for_each(picture);
    let write = |path: &str, value: Value| {
        std::fs::write(bench.path("data/vl").join(path), value.to_string()).unwrap();
    };
    let turn = |from: &str, value: &str| json!({"from": from, "value": value});
    let seen = json!({"image": "a.png", "conversations": [
        turn("human", "<image>\nWhat is it?"), turn("gpt", "grey"), turn("human", "Why?"), turn("gpt", "no")]});
    let unseen = json!({"conversations": [turn("human", "What is red?"), turn("gpt", "a circle")]});
    write("mix.json", Value::from(vec![seen.clone(), unseen.clone(), seen, unseen]));
    write("vizwiz/test.json", json!([{"image": "t.png", "question": "What is it?"}]));
    write(
        "gqa/testdev_balanced_questions.json",
        json!({"1": {"imageId": "g", "question": "Who?", "answer": "boy"}}),
    );
    bench
}

#[test]
fn what_only_a_server_can_score_is_pending_with_a_file_for_it() {
    let bench = bench();
    let table = done(&bench, &["run", "vtab.yaml"]);
    assert!(table.contains("gqa") && table.contains("Pending"), "{table}");
    assert!(table.contains("vizwiz (vizwiz_test.json)"), "{table}");
    let [cell] = &bench.cells()[..] else { panic!("expected one cell") };
    let record = Record::read(&cell.join("record.json")).unwrap();
    let sets: Vec<&str> = record.metrics.evaluations.iter().map(|one| one.dataset.name.as_str()).collect();
    assert_eq!(sets, ["gqa"]);
    assert_eq!(
        record.metrics.pending,
        [Pending { dataset: "vizwiz".into(), file: "vizwiz_test.json".into() }]
    );
    let submitted: Value =
        serde_json::from_slice(&std::fs::read(cell.join("vizwiz_test.json")).unwrap()).unwrap();
    assert_eq!(submitted[0]["image"], "t.png");
    assert!(submitted[0]["answer"].is_string(), "{submitted}");
}
