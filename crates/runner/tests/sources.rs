//! `san fetch` from a server on the loopback interface that behaves as the Hugging Face Hub and Google Drive do, with
//! small copies of what they serve; then `san plan` finds nothing missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../data-loaders/tests/common/server.rs"]
mod server;

use std::io::{Cursor, Write};
use std::path::Path;

use backbones::language::configure;
use common::{Bench, ROWS, SYNTHETIC, bench_on, refusal, row};
use san_core::Weights;
use san_core::io::safetensors::write_tensors;
use serde_json::{Value, json};
use server::{Page, Server};
use tch::Kind;

const DATA: i32 = 4;
const FETCH: i32 = 9;
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Name of each set, its name in the published archive, and its number of classes.
const VTAB: [(&str, &str, u8); 19] = [
    ("cifar100", "cifar", 100),
    ("caltech101", "caltech101", 102),
    ("dtd", "dtd", 47),
    ("oxford_flowers102", "oxford_flowers102", 102),
    ("oxford_iiit_pet", "oxford_iiit_pet", 37),
    ("svhn", "svhn", 10),
    ("sun397", "sun397", 200),
    ("patch_camelyon", "patch_camelyon", 2),
    ("eurosat", "eurosat", 10),
    ("resisc45", "resisc45", 45),
    ("diabetic_retinopathy", "diabetic_retinopathy", 5),
    ("clevr_count", "clevr_count", 8),
    ("clevr_distance", "clevr_dist", 6),
    ("dmlab", "dmlab", 6),
    ("kitti_distance", "kitti", 4),
    ("dsprites_location", "dsprites_loc", 16),
    ("dsprites_orientation", "dsprites_ori", 16),
    ("smallnorb_azimuth", "smallnorb_azi", 18),
    ("smallnorb_elevation", "smallnorb_ele", 9),
];

fn picture(shade: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let pixels = image::RgbImage::from_fn(6, 6, |x, y| image::Rgb([shade, (x * 40) as u8, (y * 40) as u8]));
    pixels.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        archive.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The published archive, with four images of each set; the lists are in another order than train800val200.txt.
fn vtab(folder: impl Fn((&'static str, &'static str, u8)) -> &'static str) -> Vec<u8> {
    let mut files = Vec::new();
    for (number, set) in VTAB.into_iter().enumerate() {
        let place = format!("vtab-1k/{}", folder(set));
        let line = |index: u8| format!("images/{index:06}.png {}\n", index % set.2);
        for (list, indices) in
            [("train800", &[0, 1][..]), ("val200", &[2]), ("train800val200", &[2, 1, 0]), ("test", &[3])]
        {
            let text: String = indices.iter().copied().map(line).collect();
            files.push((format!("{place}/{list}.txt"), text.into_bytes()));
        }
        for index in 0..4_u8 {
            files.push((format!("{place}/images/{index:06}.png"), picture(number as u8 * 4 + index)));
        }
    }
    zip(&files)
}

/// A page that is cut once in the middle and can be resumed.
fn cut_once(body: Vec<u8>) -> Page {
    Page { cuts: vec![body.len() / 2], ranges: true, etag: Some("\"1\""), body, ..Page::default() }
}

fn redirect(to: String) -> Page {
    Page { redirect: Some(to), ..Page::default() }
}

/// An experiment on files, with all sets of VTAB.
fn on_files(folder: &str) -> Bench {
    let names: Vec<&str> = VTAB.iter().map(|(name, ..)| *name).collect();
    Bench::new(
        &SYNTHETIC
            .replace("{synthetic: {train: 24, val: 12, test: 30}}", &format!("{{files: {folder}}}"))
            .replace("[patch_camelyon]", &format!("[{}]", names.join(", "))),
    )
}

#[track_caller]
fn done(bench: &Bench, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = bench.run_with(arguments, variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_archive_of_vtab_is_fetched_once_for_all_sets_whatever_its_folders_are_called() {
    type Set = (&'static str, &'static str, u8);
    let namings: [fn(Set) -> &'static str; 2] = [|(ours, ..)| ours, |(_, theirs, _)| theirs];
    for naming in namings {
        let store = Server::new([("blob", cut_once(vtab(naming)))]);
        // As the Hub, which redirects to its storage.
        let path = "datasets/XiN0919/VTAB-1k/resolve/main/vtab-1k.zip";
        let hub = Server::new([(path, redirect(format!("{}/blob", store.url)))]);
        let bench = on_files("vision/vtab");
        let missing = refusal(&bench.run(&["plan", "vtab.yaml"]), DATA);
        assert!(missing.contains("cifar100"), "{missing}");
        let variables = [("HF_ENDPOINT", hub.url.as_str())];
        let said = refusal(&bench.run_with(&["fetch", "vtab"], &variables), FETCH);
        assert!(said.contains("vtab-1k: its terms must be accepted first"), "{said}");
        let fetch = ["fetch", "vtab", "--accept-licence"];
        let said = done(&bench, &fetch, &variables);
        assert!(said.contains("cut off after") && said.contains("retrying"), "{said}");
        assert!(said.contains("`san verify vtab`"), "{said}");
        let ranges = store.requests().iter().filter(|request| request.start().is_some()).count();
        assert_eq!((store.requests().len(), ranges), (2, 1), "resumed, not repeated");
        let plan = done(&bench, &["plan", "vtab.yaml"], &[]);
        assert!(plan.contains("cifar100") && plan.contains("19 sets"), "{plan}");
        assert_eq!(
            plan.matches("VTAB-1k style").count(),
            19,
            "the sizes are not those of the benchmark: {plan}"
        );
        assert!(done(&bench, &fetch, &variables).contains("was already fetched"));
        assert_eq!(store.requests().len(), 2);
        std::fs::remove_dir_all(bench.path("data/vision/vtab/kitti_distance")).unwrap();
        let said = refusal(&bench.run_with(&fetch, &variables), FETCH);
        assert!(said.contains("already exists"), "an incomplete copy is not called complete: {said}");
    }
}

#[test]
fn an_archive_that_lacks_a_set_is_refused_and_nothing_is_put_in_place() {
    let files = vec![("vtab-1k/cifar/test.txt".to_owned(), b"images/0.png 0\n".to_vec())];
    let server = Server::new([("vtab-1k.zip", Page { body: zip(&files), ..Page::default() })]);
    let bench = on_files("vision/vtab");
    let fetch = ["fetch", "vtab", "--accept-licence", "--from", &server.url];
    let said = refusal(&bench.run(&fetch), FETCH);
    assert!(said.contains("it has no folder of the data set caltech101"), "{said}");
    assert!(!bench.path("data/vision/vtab/cifar100").exists());
}

#[test]
fn the_other_copy_of_the_archive_comes_from_google_drive_by_its_own_name() {
    let bench = on_files("vision/vtab");
    let said = done(&bench, &["fetch", "vtab-1k-drive", "--dry-run"], &[]);
    assert!(
        said.contains("https://drive.usercontent.google.com/download?id=1yZKwiKdsBzTfBgnStRveYMokc7GMMd5p")
    );
    let server = Server::new([
        ("vtab-1k.zip", redirect("/download?id=1&confirm=t".into())),
        (
            "download?id=1&confirm=t",
            Page { body: vtab(|set| set.1), kind: Some("application/octet-stream"), ..Page::default() },
        ),
    ]);
    done(&bench, &["fetch", "vtab-1k-drive", "--accept-licence", "--from", &server.url], &[]);
    assert!(done(&bench, &["plan", "vtab.yaml"], &[]).contains("19 sets"));
    // The warning that Drive shows instead of a large file.
    let page = Page { body: b"<html>".to_vec(), kind: Some("text/html; charset=utf-8"), ..Page::default() };
    let server = Server::new([("vtab-1k.zip", page)]);
    let bench = on_files("vision/vtab");
    let fetch = ["fetch", "vtab-1k-drive", "--accept-licence", "--from", &server.url];
    assert!(refusal(&bench.run(&fetch), FETCH).contains("a web page instead of the file"));
}

/// The Hub's list of the files of a repository.
fn listing(files: &[(&str, &[u8])]) -> Page {
    let sibling = |(name, content): &(&str, &[u8])| {
        let sha256 = sha256(content);
        json!({
            "rfilename": name, "size": content.len(), "blobId": "1",
            "lfs": {"sha256": sha256, "size": content.len(), "pointerSize": 130},
        })
    };
    let siblings: Vec<Value> = files.iter().map(sibling).collect();
    let body = json!({"id": "x/y", "sha": COMMIT, "gated": "manual", "siblings": siblings}).to_string();
    Page { body: body.into_bytes(), kind: Some("application/json"), ..Page::default() }
}

fn sha256(content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn tables_are_fetched_from_the_hub_at_the_commit_that_it_names() {
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../data-loaders/tests/fixtures/originals/hub_clevr/data");
    let names =
        ["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001"];
    let files: Vec<(String, Vec<u8>)> = names
        .iter()
        .map(|name| {
            (format!("data/{name}.parquet"), std::fs::read(fixtures.join(format!("{name}.parquet"))).unwrap())
        })
        .collect();
    let mut listed: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    listed.push(("README.md", b"# CLEVR"));
    let id = "datasets/dpdl-benchmark/clevr";
    let api = format!("api/{id}/revision/main?blobs=true");
    let paths: Vec<String> = files.iter().map(|(name, _)| format!("{id}/resolve/{COMMIT}/{name}")).collect();
    let mut pages = vec![(api.as_str(), listing(&listed))];
    for (path, (_, content)) in paths.iter().zip(&files) {
        pages.push((path.as_str(), cut_once(content.clone())));
    }
    let hub = Server::new(pages);
    let variables = [("HF_ENDPOINT", hub.url.as_str())];
    let text = SYNTHETIC
        .replace("{synthetic: {train: 24, val: 12, test: 30}}", "{files: vision/vtab}")
        .replace("[patch_camelyon]", "[clevr_count]");
    let bench = Bench::new(&text);
    let said = done(&bench, &["fetch", "clevr_count", "--source", "hub", "--dry-run"], &variables);
    assert!(said.contains("train-00001-of-00002.parquet") && said.contains("sha256"), "{said}");
    assert!(!said.contains("README.md") && !bench.path("data").exists(), "{said}");
    done(&bench, &["fetch", "clevr_count", "--source", "hub"], &variables);
    let plan = done(&bench, &["plan", "vtab.yaml"], &[]);
    assert!(plan.contains("clevr_count") && plan.contains("VTAB-1k style"), "{plan}");
    let requests = hub.requests().len();
    assert!(
        done(&bench, &["fetch", "clevr_count", "--source", "hub"], &variables).contains("already fetched")
    );
    assert_eq!(hub.requests().len(), requests + 1, "only the list is asked for");
    let said =
        refusal(&bench.run_with(&["fetch", "diabetic_retinopathy", "--source", "hub"], &variables), FETCH);
    assert!(said.contains("not on the Hugging Face Hub as tables"), "{said}");
}

/// A small LLaMA as files of a repository.
fn llama() -> Vec<(&'static str, Vec<u8>)> {
    let config = json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "rms_norm_eps": 1e-6,
        "rope_theta": 1e4, "max_position_embeddings": 1024, "tie_word_embeddings": false, "hidden_act": "silu",
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let weights = Weights::random(&configure(config.clone()).unwrap().model_spec("x"), 0).unwrap();
    write_tensors(&path, weights.iter(), ("k", String::new()), Kind::Float).unwrap();
    let vocabulary =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../backbones/tests/fixtures/tokenizer/qwen2");
    vec![
        ("config.json", config.to_string().into_bytes()),
        ("model.safetensors", std::fs::read(path).unwrap()),
        ("tokenizer.json", std::fs::read(vocabulary.join("tokenizer.json")).unwrap()),
        ("tokenizer_config.json", std::fs::read(vocabulary.join("tokenizer_config.json")).unwrap()),
    ]
}

/// A page for requests with the token alone.
fn gated(then: Page) -> Page {
    Page::raw(move |request, stream| {
        let Some(target) = &then.redirect else { panic!("a gated page redirects") };
        let head = match request.headers.get("authorization").map(String::as_str) {
            Some("Bearer hf_secret") => format!("302 Found\r\nLocation: {target}"),
            _ => "401 Unauthorized".to_owned(),
        };
        stream.write_all(
            format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    })
}

#[test]
fn gated_weights_are_fetched_with_a_token_that_the_storage_behind_the_hub_never_sees() {
    let files = llama();
    let names: Vec<String> = files.iter().map(|(name, _)| format!("blobs/{name}")).collect();
    let blobs =
        names.iter().zip(&files).map(|(path, (_, content))| (path.as_str(), cut_once(content.clone())));
    let store = Server::new(blobs);
    let id = "meta-llama/Llama-2-7b-hf";
    let api = format!("api/models/{id}/revision/main?blobs=true");
    let mut listed: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
    listed.extend([
        ("pytorch_model.bin", &b"PK"[..]),
        ("pytorch_model.bin.index.json", b"{}"),
        ("LICENSE.md", b"x"),
    ]);
    let paths: Vec<String> = files.iter().map(|(name, _)| format!("{id}/resolve/{COMMIT}/{name}")).collect();
    let mut pages = vec![(api.as_str(), listing(&listed))];
    for (path, blob) in paths.iter().zip(&names) {
        pages.push((path.as_str(), gated(redirect(format!("{}/{blob}", store.url)))));
    }
    let hub = Server::new(pages);
    let rows: Vec<_> = (0..4).map(|n| row(&format!("is {n} even"), "true")).collect();
    let bench = bench_on(&ROWS.replace("BACKBONE", "llama2-7b"), &rows, &rows);
    let address = ("HF_ENDPOINT", hub.url.as_str());
    let said = refusal(&bench.run_with(&["fetch", "llama2-7b"], &[address]), FETCH);
    assert!(said.contains("401 Unauthorized") && said.contains("HF_TOKEN"), "{said}");
    assert!(!bench.path("weights/llama2-7b").exists());
    let said = done(&bench, &["fetch", "llama2-7b"], &[address, ("HF_TOKEN", "hf_secret\n")]);
    assert!(said.contains("retrying") && said.contains("is in") && !said.contains("hf_secret"), "{said}");
    assert!(!said.contains("pytorch_model"), "the pickles are left out: {said}");
    let seen = store.requests();
    assert!(seen.len() >= 2 * files.len());
    assert!(seen.iter().all(|request| !request.headers.contains_key("authorization")));
    let plan = done(&bench, &["plan", "vtab.yaml"], &[]);
    assert!(plan.contains("llama2-7b") && plan.contains("= 1 runs"), "{plan}");
}

#[test]
fn pickled_weights_are_answered_with_the_command_that_converts_them() {
    let files: [(&str, &[u8]); 2] = [
        ("config.json", br#"{"model_type": "llama"}"#),
        ("pytorch_model.bin", b"PK\x03\x04 a pickle in a zip"),
    ];
    let id = "lmsys/vicuna-7b-v1.5";
    let api = format!("api/models/{id}/revision/main?blobs=true");
    let paths: Vec<String> = files.iter().map(|(name, _)| format!("{id}/resolve/{COMMIT}/{name}")).collect();
    let mut pages = vec![(api.as_str(), listing(&files))];
    for (path, (_, content)) in paths.iter().zip(files) {
        pages.push((path.as_str(), Page { body: content.to_vec(), ..Page::default() }));
    }
    let hub = Server::new(pages);
    let bench = Bench::new(SYNTHETIC);
    let said = done(&bench, &["fetch", "vicuna-7b-v1.5"], &[("HF_ENDPOINT", &hub.url)]);
    let folder = bench.path("weights/vicuna-7b-v1.5");
    assert!(said.contains(&format!("python tools/convert_weights.py {}", folder.display())), "{said}");
    let said = refusal(&bench.run(&["wiring", "vicuna-7b-v1.5"]), 5);
    assert!(!said.is_empty());
}

/// Answers of a benchmark's own form, one image each.
fn gqa() -> Vec<u8> {
    let question = json!({"1": {"imageId": "n1", "question": "What is it?", "answer": "cat"}});
    zip(&[("testdev_balanced_questions.json".into(), question.to_string().into_bytes())])
}

#[test]
fn the_mixture_and_its_five_picture_sources_are_laid_out_as_llava_has_them() {
    let images = [
        "coco/train2017/000000000009.jpg",
        "gqa/images/2354786.jpg",
        "ocr_vqa/images/193955653X.jpg",
        "textvqa/train_images/c1ed.jpg",
        "vg/VG_100K/1.jpg",
        "vg/VG_100K_2/2.jpg",
    ];
    let conversation = |image: &&str| {
        json!({"id": image, "image": image, "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]})
    };
    let mixture: Vec<Value> = images.iter().map(conversation).collect();
    let one = |name: &str| cut_once(zip(&[(name.to_owned(), picture(7))]));
    let mixture_server = Server::new([
        (
            "llava_v1_5_mix665k.json",
            Page { body: json!(mixture).to_string().into_bytes(), ..Page::default() },
        ),
        ("train2017.zip", one("train2017/000000000009.jpg")),
        ("images.zip", one("VG_100K/1.jpg")),
        ("images2.zip", one("VG_100K_2/2.jpg")),
    ]);
    let pictures =
        vec![("images/2354786.jpg".to_owned(), picture(1)), ("images/n1.jpg".to_owned(), picture(2))];
    let gqa_server = Server::new([
        ("questions1.2.zip", Page { body: gqa(), ..Page::default() }),
        ("images.zip", Page { body: zip(&pictures), ..Page::default() }),
    ]);
    let textvqa_server = Server::new([
        ("TextVQA_0.5.1_val.json", Page { body: br#"{"data": []}"#.to_vec(), ..Page::default() }),
        ("TextVQA_Rosetta_OCR_v0.2_val.json", Page { body: br#"{"data": []}"#.to_vec(), ..Page::default() }),
        ("train_val_images.zip", one("train_images/c1ed.jpg")),
    ]);
    let bench = Bench::new(MIXTURE);
    let fetch = |name: &str, server: &Server| {
        done(&bench, &["fetch", name, "--accept-licence", "--from", &server.url], &[])
    };
    let said = fetch("llava_v1_5_mix665k", &mixture_server);
    assert!(said.contains("manual download: the images of OCR-VQA") && said.contains("retrying"), "{said}");
    fetch("gqa", &gqa_server);
    let missing = refusal(&bench.run(&["plan", "vtab.yaml"]), DATA);
    assert!(missing.contains("ocr_vqa/images/193955653X.jpg"), "{missing}");
    let by_hand = bench.path("data/vl/ocr_vqa/images");
    std::fs::create_dir_all(&by_hand).unwrap();
    std::fs::write(by_hand.join("193955653X.jpg"), picture(3)).unwrap();
    fetch("textvqa", &textvqa_server);
    for image in images {
        assert!(bench.path("data/vl").join(image).is_file(), "{image}");
    }
    let plan = done(&bench, &["plan", "vtab.yaml"], &[]);
    assert!(plan.contains("gqa"), "{plan}");
    assert!(fetch("llava_v1_5_mix665k", &mixture_server).contains("already fetched"));
}

/// One method on the mixture and one benchmark.
const MIXTURE: &str = "
name: vtab
suite: vl
profiles:
  embedded:
    data: {questions: {folder: vl, source: {answers: local, mixture: [{file: llava_v1_5_mix665k.json, images: .}], val_questions: 0, seed: 0}}}
    sets: [gqa]
    backbones: [llava_micro]
    methods:
      - {method: fft, learning_rate: 1.0e-3}
    seeds: [0]
    protocol:
      epochs: 1
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

#[test]
fn commonsense_is_fetched_with_its_training_rows() {
    let rows = json!([row("is it", "true"), row("was it", "false"), row("will it", "true")]).to_string();
    let server = Server::new([("commonsense_170k.json", cut_once(rows.into_bytes()))]);
    let bench = Bench::new(SYNTHETIC);
    let said = done(&bench, &["fetch", "commonsense", "--dry-run"], &[]);
    assert!(said.contains("ft-training_set/commonsense_170k.json") && said.contains("winogrande"), "{said}");
    done(&bench, &["fetch", "commonsense_170k", "--from", &server.url], &[]);
    assert!(bench.path("data/commonsense/ft-training_set/commonsense_170k.json").is_file());
}

#[test]
fn a_dry_run_of_all_of_vl_prints_sizes_and_terms_and_the_space_that_it_needs() {
    let bench = Bench::new(SYNTHETIC);
    let said = done(&bench, &["fetch", "vl", "--dry-run"], &[]);
    for part in [
        "llava_v1_5_mix665k.json",
        "train2017.zip",
        "VG_100K_2/images2.zip",
        "mmbench_dev_20230712.tsv",
        "terms to accept: the terms of OpenAI",
        "manual download: the images of OCR-VQA",
        "disk space needed: at least",
        "free:",
    ] {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}

#[test]
fn a_fetch_that_does_not_fit_the_disk_is_refused_with_the_numbers_before_anything_is_downloaded() {
    let bench = Bench::new(SYNTHETIC);
    // A file system without any free space.
    let fetch = ["fetch", "svhn", "--accept-licence", "--data", "/proc/sets", "--from", "http://192.0.2.1"];
    let said = refusal(&bench.run(&fetch), FETCH);
    let size = 182_040_794 + 64_275_384;
    assert!(said.contains(&format!("/proc/sets has 0 bytes free, but at least {size} are needed")), "{said}");
    assert!(said.contains(&format!("{size} to download, 0 to unpack")), "{said}");
}
