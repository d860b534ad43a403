//! LLaVA-1.5's recipe on files in the benchmarks' formats and a small LLaVA in a published folder: one epoch of a
//! mixture, the projector trained in addition to the method, sets with public answers scored, a submission file for one
//! without, and a merged folder that loads like the published one, here and in transformers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::path::Path;
use std::sync::Arc;

use backbones::Architecture as _;
use backbones::language::decoder::Config;
use backbones::language::generate::{Decoding, Limits, generate};
use backbones::language::llama::llama;
use backbones::vision::clip;
use backbones::vlm::llava::{Architecture, Llava, Parts};
use backbones::weights::{self, LlavaCheckpoint, Target};
use common::{Bench, done, refusal};
use report::record::{Pending, Record};
use san_core::Weights;
use san_core::io::safetensors::write_tensors;
use san_core::nn::builder::{AdapterSet, ModelBuilder};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};

/// The profile `paper` of `vl`, on a small model and two of its sets.
const RECIPE: &str = "
name: vtab
suite: vl
profiles:
  embedded:
    data: {questions: {folder: vl, source: {answers: server, mixture: [{file: mix.json, images: images}], val_questions: 0, seed: 0}}}
    sets: [gqa, vizwiz]
    backbones: [small_llava]
    methods:
      - {method: dora, learning_rate: 1.0e-3, options: {rank: 2, alpha: 4, dropout: 0.05, targets: [q, k, v, proj, gate, up, down]}}
    seeds: [0]
    protocol:
      epochs: 1
      precision: bf16
      batch_size: 4
      visual_question_answering:
        picture: {image_size: 32, square: pad, filter: bicubic, normalisation: clip}
        projector: {learning_rate: 2.0e-4}
        template: bare
        max_length: 160
        warmup_ratio: 0.03
        language:
          decoding: greedy
          max_new_tokens: 4
          evaluation: {sequences: 4}
          memory: {micro_batch_size: 2, gradient_checkpointing: true}
";

/// Writes random weights and the bundled vocabulary into the folder of a published LLaVA.
fn publish(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let tower = clip::Config::new(32, 8, 16, 3, 2);
    let language = Arc::new(llama(Config {
        num_key_value_heads: Some(2),
        max_position_embeddings: 512,
        ..Config::new(24, 40, 2, 4, 1025)
    }));
    let architecture = Architecture { tower: Box::new(tower.clone()), language, image_token: 1024 };
    let parts = Parts {
        tower: Weights::random(&tower.model_spec("tower"), 1).unwrap(),
        rest: Weights::random(&architecture.model_spec("small_llava"), 2).unwrap(),
    };
    // The classification head is dropped; LLaVA's tower has none.
    let tensors = Architecture::published(&parts);
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(&folder.join("model.safetensors"), named, ("format", "pt".into()), Kind::Float).unwrap();
    std::fs::write(folder.join("config.json"), architecture.published_config().unwrap().to_string()).unwrap();
    let vocabulary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/llama_micro.tokenizer.json");
    std::fs::copy(vocabulary, folder.join("tokenizer.json")).unwrap();
}

fn bench() -> Bench {
    let bench = Bench::new(RECIPE);
    publish(&bench.path("weights/small_llava"));
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
fn a_set_that_only_a_server_can_score_is_pending_with_a_submission_file() {
    let bench = bench();
    let table = done(&bench, &["run", "vtab.yaml"]);
    assert!(table.contains("gqa") && table.contains("Pending"), "{table}");
    assert!(table.contains("vizwiz (vizwiz_test.json)"), "{table}");
    let [run] = &bench.runs()[..] else { panic!("expected one run") };
    let record = Record::read(&run.join("record.json")).unwrap();
    let sets: Vec<&str> = record.metrics.evaluations.iter().map(|one| one.dataset.name.as_str()).collect();
    assert_eq!(sets, ["gqa"]);
    let [Pending { dataset, file, details: Some(details) }] = &record.metrics.pending[..] else {
        panic!("{:?}", record.metrics.pending)
    };
    assert_eq!((dataset.as_str(), file.as_str(), details.test), ("vizwiz", "vizwiz_test.json", 1));
    let submitted: Value =
        serde_json::from_slice(&std::fs::read(run.join("vizwiz_test.json")).unwrap()).unwrap();
    assert_eq!(submitted[0]["image"], "t.png");
    assert!(submitted[0]["answer"].is_string(), "{submitted}");
    // What the server returns completes the table, and is marked as entered.
    let run = run.file_name().unwrap().to_str().unwrap();
    let entered =
        ["score", "vtab", "--run", run, "--set", "vizwiz", "--value", "61.5", "--source", "EvalAI, no. 7"];
    done(&bench, &entered);
    let table = done(&bench, &["report", "vtab"]);
    assert!(
        table.contains("61.5") && table.contains("Entered by hand") && table.contains("EvalAI, no. 7"),
        "{table}"
    );
    assert!(!table.contains("Pending"), "{table}");
    let refused =
        bench.run(&["score", "vtab", "--run", run, "--set", "gqa", "--value", "5", "--source", "x"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no pending set `gqa`; pending: vizwiz"));
}

fn model(folder: &Path) -> Llava {
    let LlavaCheckpoint { architecture, parts, .. } = weights::llava(folder, Target::default()).unwrap();
    architecture.build(&parts.tower, &ModelBuilder::new(&parts.rest, &AdapterSet::default())).unwrap()
}

#[test]
fn a_merged_run_gives_the_same_answers_here_and_in_transformers() {
    let bench = bench();
    done(&bench, &["run", "vtab.yaml"]);
    let [run] = &bench.runs()[..] else { panic!("expected one run") };
    let texts = std::fs::read(run.join("gqa.texts.jsonl")).unwrap();
    let merged = bench.path("weights/merged_llava");
    done(&bench, &["merge", &run.display().to_string(), "--output", &merged.display().to_string()]);
    let mut again = std::fs::read_to_string(bench.path("vtab.yaml")).unwrap();
    again = again.replace("small_llava", "merged_llava").replace("method: dora,", "method: frozen}  # {");
    std::fs::write(bench.path("vtab.yaml"), again).unwrap();
    done(&bench, &["run", "vtab.yaml"]);
    let read = |run: &std::path::PathBuf| std::fs::read(run.join("gqa.texts.jsonl")).unwrap();
    assert!(bench.runs().iter().filter(|other| *other != run).all(|other| read(other) == texts));
    assert_eq!(bench.runs().len(), 2);

    let model = model(&merged);
    let images = Tensor::randn([2, 3, 32, 32], (Kind::Float, Device::Cpu));
    let prompt = |words: &[i64]| [&[1][..], &[1024; 16], words].concat();
    let prompts = [prompt(&[7, 9, 11]), prompt(&[6, 5, 300])];
    let tokens = Tensor::from_slice(&prompts.concat()).view([2, -1]);
    let features = model.encode_images(&images);
    let scores = no_grad(|| model.forward(&tokens, Some(&features), None).unwrap());
    let open = model.prompts(&prompts, Some(&features), Device::Cpu).unwrap();
    let limits = Limits { end_tokens: Vec::new(), max_new_tokens: 6 };
    let answers = generate(model.language(), &open, Decoding::Greedy, &limits).unwrap().concat();
    let answers = Tensor::from_slice(&answers).view([2, -1]).to_kind(Kind::Float);
    let valid = tokens.ones_like();
    let Some(python) = std::env::var_os("SAN_PYTHON") else {
        skipped::report("SAN_PYTHON is not set");
        return;
    };
    let expected: [(&str, &Tensor); 5] = [
        ("scores", &scores),
        ("tokens", &tokens),
        ("valid", &valid),
        ("images", &images),
        ("answers", &answers),
    ];
    let file = merged.join("expected.safetensors");
    write_tensors(&file, expected, ("format", "pt".into()), Kind::Float).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/check_llava.py");
    let output = std::process::Command::new(python).arg(script).arg(&merged).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn exporting_a_folder_for_transformers_needs_a_clip_tower() {
    let bench = Bench::new(&RECIPE.replace("small_llava", "llava_micro").replace(
        "{questions: {folder: vl, source: {answers: server, mixture: [{file: mix.json, images: images}], val_questions: 0, seed: 0}}}",
        "{synthetic: {train: 6, val: 3, test: 5}}",
    ));
    done(&bench, &["run", "vtab.yaml"]);
    let run = bench.runs()[0].display().to_string();
    let said = refusal(&bench.run(&["merge", &run, "--output", "merged"]), 3);
    assert!(said.contains("CLIP") && said.contains("*.safetensors"), "{said}");
}
