//! Runs of vision and language: one model learns from the questions of all sets and is read on each; drawn or on disk;
//! and what is said where a file is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::{Bench, done, refusal};
use report::record::{Metrics, Record};
use serde_json::{Value, json};

const EXPERIMENT: i32 = 3;
const DATA: i32 = 4;

/// Two drawn sets and three methods: seconds. The benches of these tests name every experiment `vtab`.
const SYNTHETIC: &str = "
name: vtab
suite: vl
profiles:
  embedded:
    data: {synthetic: {train: 6, val: 3, test: 5}}
    sets: [gqa, pope]
    backbones: [llava_micro]
    methods:
      - {method: frozen}
      - {method: fft, learning_rate: 1.0e-3}
      - {method: san, learning_rate: [1.0e-3, 1.0e-2], options: {wiring: full}}
    seeds: [0]
    unequal_budgets: true
    protocol:
      epochs: 2
      batch_size: 8
      visual_question_answering:
        picture: {image_size: 32, square: stretch, filter: bilinear, normalisation: half}
        template: bare
        max_length: 160
        warmup_ratio: 0.03
        language:
          decoding: greedy
          max_new_tokens: 3
          evaluation: {sequences: 4}
";

fn records(bench: &Bench) -> Vec<(PathBuf, Record)> {
    let read = |run: PathBuf| (run.clone(), Record::read(&run.join("record.json")).unwrap());
    bench.runs().into_iter().map(read).collect()
}

/// What runs trained and answered.
fn results(bench: &Bench) -> Vec<Vec<Vec<u8>>> {
    let files = ["adapter.safetensors", "gqa.predictions.parquet", "gqa.texts.jsonl", "pope.texts.jsonl"];
    let read = |run: PathBuf| files.map(|file| std::fs::read(run.join(file)).unwrap()).to_vec();
    bench.runs().into_iter().map(read).collect()
}

#[test]
fn one_model_is_trained_on_all_sets_and_evaluated_on_each() {
    let bench = Bench::new(SYNTHETIC);
    let table = done(&bench, &["run", "vtab.yaml", "--workers", "1"]);
    assert!(table.contains("mini/gqa") && table.contains("mini/pope"), "{table}");
    assert!(table.contains("Question-only prior"), "{table}");
    assert!(
        table.contains("mini/pope: the score is the F1 of yes; accuracy / precision / recall / yes ratio"),
        "{table}"
    );
    let records = records(&bench);
    // Three rows of the table, and the two rates of SAN, read on val.
    assert_eq!(records.len(), 5);
    let finals: Vec<_> =
        records.iter().filter(|(_, record)| !record.metrics.evaluations.is_empty()).collect();
    assert_eq!(finals.len(), 3);
    for (run, record) in finals {
        let [gqa, pope] = &record.metrics.evaluations[..] else { panic!("{record:?}") };
        assert_eq!((gqa.dataset.name.as_str(), gqa.dataset.train, gqa.dataset.test), ("mini/gqa", 18, 5));
        assert_eq!(pope.dataset.classes, 0);
        for number in ["accuracy", "precision", "recall", "f1", "yes_ratio", "question_only_prior"] {
            assert!((0.0..=1.0).contains(&pope.further[number]), "{number}");
        }
        assert_eq!(pope.accuracy, pope.further["f1"]);
        assert_eq!(gqa.further.keys().collect::<Vec<_>>(), ["question_only_prior"]);
        assert!(record.metrics.merge_difference.unwrap() < 1e-3);
        assert!(record.metrics.forgetting.is_some());
        assert_eq!(record.metrics.truncation.unwrap().truncated, 0);
        let texts = std::fs::read_to_string(run.join("pope.texts.jsonl")).unwrap();
        assert_eq!(texts.lines().count(), 5);
    }
    let frozen = records.iter().find(|(_, record)| record.method.name == "frozen").unwrap();
    assert_eq!((frozen.1.metrics.steps, frozen.1.parameters.trainable), (0, 0));
}

#[test]
fn a_synthetic_set_of_a_benchmark_with_a_server_is_scored_and_not_submitted() {
    let bench = Bench::new(&SYNTHETIC.replace("[gqa, pope]", "[vqav2, vizwiz, mmbench]"));
    done(&bench, &["run", "vtab.yaml", "--methods", "frozen"]);
    let [(run, record)] = &records(&bench)[..] else { panic!("{:?}", records(&bench)) };
    assert_eq!((record.metrics.evaluations.len(), record.metrics.pending.len()), (3, 0));
    let files = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name());
    let is_submission = |name: &std::ffi::OsString| {
        ["vqav2_", "mmbench_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix))
    };
    assert!(!files.into_iter().any(|name| is_submission(&name)));
}

#[test]
fn answers_do_not_depend_on_the_number_of_workers_or_the_evaluation_batch_size() {
    let methods = ["--methods", "fft"];
    let run = |text: &str, workers: &str| {
        let bench = Bench::new(text);
        done(&bench, &[&["run", "vtab.yaml", "--workers", workers][..], &methods].concat());
        results(&bench)
    };
    let one = run(SYNTHETIC, "1");
    assert_eq!(one, run(SYNTHETIC, "2"));
    // Another evaluation is another run with the same weights and answers.
    assert_eq!(one, run(&SYNTHETIC.replace("sequences: 4", "sequences: 1"), "1"));
}

#[test]
fn an_untrained_model_is_evaluated_once_for_all_seeds() {
    let bench = Bench::new(&SYNTHETIC.replace("seeds: [0]", "seeds: [0, 1, 2]"));
    done(&bench, &["run", "vtab.yaml", "--methods", "frozen", "--workers", "2"]);
    let records = records(&bench);
    let seeds: Vec<u64> = records.iter().map(|(_, record)| record.seed).collect();
    assert_eq!(seeds.iter().sum::<u64>(), 3, "{seeds:?}");
    assert!(records.iter().all(|(_, record)| record.cost.group_size == 3));
    let answers = results(&bench);
    assert!(answers[1..].iter().all(|other| *other == answers[0]));
    // The same as alone.
    let alone = Bench::new(&SYNTHETIC.replace("seeds: [0]", "seeds: [2]"));
    done(&alone, &["run", "vtab.yaml", "--methods", "frozen", "--group", "1"]);
    assert_eq!(results(&alone), answers[..1]);
}

#[test]
fn a_merged_model_answers_as_the_fine_tuned_one() {
    let run = |text: &str| {
        let bench = Bench::new(text);
        done(&bench, &["run", "vtab.yaml", "--method", "san(wiring=full, learning_rate=0.001)"]);
        let [(_, record)] = &records(&bench)[..] else { panic!("{:?}", records(&bench)) };
        (results(&bench), record.metrics.clone())
    };
    let (answers, metrics) = run(SYNTHETIC);
    let field = "evaluation: {sequences: 4}";
    let merged = SYNTHETIC.replace(field, &format!("{field}\n          evaluate_merged: true"));
    let (merged_answers, merged_metrics) = run(&merged);
    assert_eq!(answers, merged_answers);
    assert_eq!(metrics.loss_history, merged_metrics.loss_history);
    assert!(merged_metrics.merge_difference.unwrap() < 1e-3);
    // In bf16 the merged weights are rounded: it is another model that is evaluated.
    let in_bf16 = |text: &str| run(&text.replace("epochs: 2", "epochs: 2\n      precision: bf16")).1;
    let loss = |metrics: Metrics| metrics.forgetting.unwrap().after;
    let difference = (loss(in_bf16(SYNTHETIC)) - loss(in_bf16(&merged))).abs();
    assert!(difference > 0.0 && difference < 1e-2, "{difference}");
}

#[test]
fn a_tuned_vision_language_model_is_merged_into_plain_weights() {
    let bench = Bench::new(SYNTHETIC);
    done(&bench, &["run", "vtab.yaml", "--methods", "fft"]);
    let run = bench.runs()[0].display().to_string();
    done(&bench, &["merge", &run, "--output", "merged.safetensors"]);
    let merged = san_core::io::safetensors::TensorFile::read(&bench.path("merged.safetensors")).unwrap();
    assert!(merged.tensors.contains_key("multi_modal_projector.linear_1.weight"));
    assert!(merged.tensors.contains_key("model.layers.0.self_attn.q_proj.weight"));
}

#[test]
fn a_projector_is_fully_trained_in_addition_to_a_method_at_its_own_learning_rate() {
    const PROJECTOR: &str = "multi_modal_projector.linear_1.weight";
    let lora = "{method: lora, learning_rate: 1.0e-3, options: {rank: 2, targets: [q, v]}}";
    let bare = SYNTHETIC.replace("{method: fft, learning_rate: 1.0e-3}", lora);
    let run = |text: &str| {
        let bench = Bench::new(text);
        done(&bench, &["run", "vtab.yaml", "--methods", "lora"]);
        let run = bench.runs()[0].display().to_string();
        done(&bench, &["merge", &run, "--output", "merged.safetensors"]);
        let merged = san_core::io::safetensors::TensorFile::read(&bench.path("merged.safetensors")).unwrap();
        (records(&bench)[0].1.parameters.trainable, merged.tensors[PROJECTOR].shallow_clone())
    };
    let at = |rate: &str| {
        run(&bare.replace(
            "warmup_ratio: 0.03",
            &format!("warmup_ratio: 0.03\n        projector: {{learning_rate: {rate}}}"),
        ))
    };
    let ((alone, frozen), (beside, still), (_, moved)) = (run(&bare), at("1.0e-12"), at("1.0e-2"));
    // Two linears of 96 outputs, from the tower's 64 and from 96.
    assert_eq!(beside - alone, (64 + 1) * 96 + (96 + 1) * 96);
    let distance = |other: &tch::Tensor| f64::try_from((&frozen - other).abs().max()).unwrap();
    assert!(distance(&still) < 1e-6 && distance(&moved) > 1e-3, "{} {}", distance(&still), distance(&moved));
    let said = refusal(
        &Bench::new(
            &SYNTHETIC
                .replace("warmup_ratio: 0.03", "warmup_ratio: 0.03\n        projector: {learning_rate: 0.0}"),
        )
        .run_all(),
        EXPERIMENT,
    );
    assert!(said.contains("`projector` must be above 0"), "{said}");
    let twice = bare
        .replace("[q, v]", "[q, projector]")
        .replace("warmup_ratio: 0.03", "warmup_ratio: 0.03\n        projector: {learning_rate: 1.0e-3}");
    let said = refusal(&Bench::new(&twice).run_all(), EXPERIMENT);
    assert!(said.contains("lora") && said.contains("fully trained"), "{said}");
}

#[test]
fn a_projector_between_unaligned_models_is_trained_once_and_used_by_all_methods() {
    let bench = Bench::new(&SYNTHETIC.replace("[llava_micro]", "[vit_micro+llama_micro]"));
    let align = ["align", "vtab.yaml", "--profile", "embedded", "--epochs", "2"];
    let planned = |bench: &Bench| {
        done(bench, &["run", "vtab.yaml", "--methods", "frozen"]);
        bench.runs()
    };
    let is_reported =
        |bench: &Bench| done(bench, &["plan", "vtab.yaml"]).contains("is untrained: `san align vtab ");
    assert!(is_reported(&bench));
    let before = planned(&bench);
    let said = done(&bench, &align);
    assert!(said.contains("projector.safetensors") && said.contains("nats per answer token"), "{said}");
    let path = bench.path("weights/vit_micro+llama_micro/projector.safetensors");
    let aligned = std::fs::read(&path).unwrap();
    assert!(done(&bench, &align).contains("already exists") && !is_reported(&bench));
    assert_eq!(std::fs::read(&path).unwrap(), aligned);
    // Another projector is another backbone: the old run stays, and a new one is run.
    assert_eq!((before.len(), planned(&bench).len()), (1, 2));
    std::fs::remove_file(&path).unwrap();
    done(&bench, &align);
    assert_eq!(std::fs::read(&path).unwrap(), aligned, "the same each time");
    for wrong in ["--epochs=0", "--threads=0", "--learning-rate=-1", "--learning-rate=nan"] {
        let said = refusal(&bench.run(&[&align[..4], &[wrong]].concat()), 2);
        assert!(said.contains("invalid value"), "{said}");
    }
    let said = refusal(&Bench::new(SYNTHETIC).run(&align), DATA);
    assert!(said.contains("<tower>+<language model>"), "{said}");
    std::fs::write(&path, &aligned[..aligned.len() / 2]).unwrap();
    let said = refusal(&bench.run_all(), 5);
    assert!(said.contains("projector.safetensors"), "{said}");
}

/// An experiment on files: `pope_coco128` in a folder `data/vl`, with four conversations and three questions.
fn on_files() -> Bench {
    let source = "{questions: {folder: vl, source: {answers: local, val_questions: 1, seed: 0}}}";
    let text = SYNTHETIC
        .replace("{synthetic: {train: 6, val: 3, test: 5}}", source)
        .replace("[gqa, pope]", "[pope_coco128]");
    let bench = Bench::new(&text);
    let folder = bench.path("data/vl/pope_coco128");
    std::fs::create_dir_all(folder.join("images")).unwrap();
    let asked = |image: usize| {
        let picture = image::RgbImage::from_pixel(20, 10, image::Rgb([60 * image as u8; 3]));
        picture.save(folder.join(format!("images/{image}.png"))).unwrap();
        json!({"id": image.to_string(), "image": format!("{image}.png"), "conversations": [
            {"from": "human", "value": "<image>\nIs there a cat?"},
            {"from": "gpt", "value": if image.is_multiple_of(2) { "Yes" } else { "No" }}]})
    };
    std::fs::write(folder.join("train.json"), Value::from((0..4).map(asked).collect::<Vec<_>>()).to_string())
        .unwrap();
    for part in ["random", "popular", "adversarial"] {
        let line = json!({"question_id": 1, "image": "0.png", "text": "Is there a dog?", "label": "no"});
        std::fs::write(folder.join(format!("coco_pope_{part}.json")), line.to_string()).unwrap();
    }
    bench
}

#[test]
fn a_small_set_on_disk_trains_on_its_own_questions() {
    let bench = on_files();
    done(&bench, &["run", "vtab.yaml", "--methods", "fft"]);
    let records = records(&bench);
    let [(_, record)] = &records[..] else { panic!("{records:?}") };
    let evaluation = &record.metrics.evaluations[0];
    assert_eq!((evaluation.dataset.train, evaluation.dataset.test), (4, 3));
    assert_eq!(evaluation.dataset.name, "pope_coco128");
}

/// Two questions about each of two pictures: a pass over each picture, or one for each question.
#[test]
fn questions_about_one_image_share_a_forward_pass_and_have_the_same_loss_as_separately() {
    let bench = |batch: usize, together: usize| {
        let bench = on_files();
        let path = bench.path("data/vl/pope_coco128/train.json");
        let rows = std::fs::read_to_string(&path).unwrap();
        let again = rows.replace("2.png", "0.png").replace("3.png", "1.png");
        std::fs::write(&path, again.replacen("a cat?", "a small dog to be seen here?", 1)).unwrap();
        let text = std::fs::read_to_string(bench.path("vtab.yaml")).unwrap();
        let text = text.replace("val_questions: 1", "val_questions: 0").replace("[1.0e-3, 1.0e-2]", "1.0e-3");
        let protocol = format!(
            "batch_size: {batch}\n      visual_question_answering:\n        questions_per_sequence: {together}"
        );
        std::fs::write(
            bench.path("vtab.yaml"),
            text.replace("batch_size: 8\n      visual_question_answering:", &protocol),
        )
        .unwrap();
        done(&bench, &["run", "vtab.yaml", "--methods", "fft"]);
        let losses = records(&bench)[0].1.metrics.loss_history.clone();
        assert_eq!(records(&bench)[0].1.metrics.evaluations[0].dataset.train, 4);
        losses
    };
    let (apart, shared) = (bench(4, 1), bench(2, 2));
    assert_eq!((apart.len(), shared.len()), (2, 2));
    for (apart, shared) in apart.iter().zip(&shared) {
        assert!((apart - shared).abs() < 1e-5 * apart, "{apart} {shared}");
    }
}

/// Losses of the epochs of SAN's three runs, with a line more in the protocol, or in its section `language`.
fn losses_with(line: &str) -> Vec<f64> {
    let (place, indent) =
        if line.starts_with("memory") { ("max_new_tokens: 3", 10) } else { ("epochs: 2", 6) };
    let bench = Bench::new(&SYNTHETIC.replace(place, &format!("{place}\n{:indent$}{line}", "")));
    done(&bench, &["run", "vtab.yaml", "--methods", "san"]);
    records(&bench).iter().flat_map(|(_, record)| record.metrics.loss_history.clone()).collect()
}

#[test]
fn bf16_and_micro_batches_save_memory_and_keep_the_losses() {
    let sorted = |mut losses: Vec<f64>| {
        losses.sort_by(f64::total_cmp);
        losses
    };
    let expected = sorted(losses_with(""));
    for (line, least, most) in [
        ("precision: bf16", 1e-7, 5e-2),
        ("memory: {micro_batch_size: 3}", 0.0, 1e-4),
        ("memory: {micro_batch_size: 3, gradient_checkpointing: true}", 0.0, 1e-4),
    ] {
        let found = sorted(losses_with(line));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            let apart = (found - expected).abs() / expected;
            assert!((least..most).contains(&apart), "{line}: {found}, not {expected}");
        }
    }
}

/// Changes the training file, and wants a refusal of the run that names all of `culprits`.
#[track_caller]
fn refused(old: &str, new: &str, culprits: &[&str]) {
    let bench = on_files();
    let path = bench.path("data/vl/pope_coco128/train.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{text}");
    std::fs::write(&path, text.replacen(old, new, 1)).unwrap();
    let said = refusal(&bench.run_all(), DATA);
    for culprit in culprits {
        assert!(said.contains(culprit), "no {culprit} in: {said}");
    }
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(bench.runs().is_empty());
}

#[test]
fn a_wrong_row_of_a_training_file_is_named_with_its_file() {
    refused("\"2.png\"", "\"9.png\"", &["pope_coco128", "train.json:3", "9.png does not exist"]);
    refused("<image>\\nIs", "<image><image>\\nIs", &["train.json:1", "`<image>` occurs 2 times"]);
    refused("\"No\"", "\" \"", &["train.json:2", "an answer is empty"]);
    refused("<image>\\nIs", "Is", &["train.json:1", "no `<image>`"]);
}

#[test]
fn an_image_that_cannot_be_decoded_is_named_before_anything_is_trained() {
    let bench = on_files();
    std::fs::write(bench.path("data/vl/pope_coco128/images/3.png"), "text").unwrap();
    let said = refusal(&bench.run_all(), DATA);
    assert!(said.contains("pope_coco128") && said.contains("3.png cannot be decoded"), "{said}");
    assert!(bench.runs().is_empty());
}

#[test]
fn an_invalid_protocol_is_refused_with_the_field() {
    for (old, new, culprits) in [
        ("template: bare", "template: v0", ["template", "v0"]),
        ("template: bare", "template: plain", ["`plain`", "omits the questions"]),
        ("decoding: greedy", "decoding: likelihood", ["likelihood", "free"]),
        ("warmup_ratio: 0.03", "warmup_ratio: 3", ["`warmup_ratio`", "fraction"]),
        (
            "warmup_ratio: 0.03",
            "warmup_ratio: 0.03\n        questions_per_sequence: 0",
            ["`questions_per_sequence`", "from 1"],
        ),
        (
            "max_new_tokens: 3",
            "max_new_tokens: 3\n          memory: {micro_batch_size: 0}",
            ["micro_batch_size", "zero"],
        ),
        ("epochs: 2", "epochs: 2\n      precision: fp8", ["precision", "fp8"]),
        ("      visual_question_answering:", "      text:", ["text", "unknown field"]),
    ] {
        let said = refusal(&Bench::new(&SYNTHETIC.replace(old, new)).run_all(), EXPERIMENT);
        assert!(culprits.iter().all(|culprit| said.contains(culprit)), "{new}: {said}");
    }
}

#[test]
fn a_set_of_another_suite_and_a_model_without_vision_tower_are_refused() {
    let said = refusal(&Bench::new(&SYNTHETIC.replace("[gqa, pope]", "[boolq]")).run_all(), DATA);
    assert!(said.contains("boolq: this data set has no questions"), "{said}");
    let output = Bench::new(&SYNTHETIC.replace("[llava_micro]", "[llama_micro]")).run_all();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("llama_micro"), "{said}");
}
