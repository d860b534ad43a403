//! `san fetch`: what it prints before it downloads, its exit codes, and the steps from an archive to a verified set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use common::{Bench, SYNTHETIC, refusal};

const DATA: i32 = 4;
const FETCH: i32 = 9;

fn printed(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_dry_run_prints_files_sizes_and_terms_and_downloads_nothing() {
    let bench = Bench::new(SYNTHETIC);
    let text = printed(&bench.run(&["fetch", "fgvc", "--dry-run"]));
    for said in [
        "CUB_200_2011.tgz",
        "1150585339",
        "sha256",
        "terms to accept: non-commercial research only",
        "nabirds must be downloaded manually: nabirds.tar.gz",
        "to download: 3.96 GiB; into",
        "data/vision/fgvc",
    ] {
        assert!(text.contains(said), "no `{said}` in: {text}");
    }
    assert!(!bench.path("data").exists());
    let text = printed(&bench.run(&["fetch", "vtab", "--source", "original", "--dry-run"]));
    assert_eq!(text.matches("CLEVR_v1.0.zip").count(), 2);
    assert!(text.contains("5 files of unpublished size"), "{text}");
    assert!(text.contains("different from the benchmark: the images are read as they are"), "{text}");
}

#[test]
fn unaccepted_terms_and_invalid_arguments_are_refused() {
    let bench = Bench::new(SYNTHETIC);
    let said = refusal(&bench.run(&["fetch", "fgvc"]), FETCH);
    assert!(said.contains("cub_200_2011: its terms must be accepted first"), "{said}");
    let said = refusal(&bench.run(&["fetch", "nabirds", "--accept-licence"]), FETCH);
    assert!(said.contains("must be downloaded manually"), "{said}");
    let said = refusal(&bench.run(&["fetch", "cub", "--dry-run"]), DATA);
    assert!(said.contains("`cub`") && said.contains("nearest"), "{said}");
    let said = refusal(&bench.run(&["fetch", "svhn", "--from", "nowhere"]), FETCH);
    assert!(said.contains("`nowhere`"), "{said}");
}

#[test]
fn a_manually_downloaded_archive_becomes_a_valid_set() {
    let bench = Bench::new(SYNTHETIC);
    let source = bench.path("NWPU-RESISC45");
    for class in 0..45_u8 {
        let folder = source.join(format!("class{class:02}"));
        std::fs::create_dir_all(&folder).unwrap();
        for index in 0..2_u8 {
            let picture = image::RgbImage::from_pixel(4, 4, image::Rgb([class, index, 9]));
            picture.save(folder.join(format!("{index}.png"))).unwrap();
        }
    }
    let packed = std::process::Command::new("tar")
        .args(["-czf", "resisc45.tar.gz", "NWPU-RESISC45"])
        .current_dir(bench.folder.path())
        .status();
    if !packed.is_ok_and(|status| status.success()) {
        skipped::report("there is no tar");
        return;
    }
    let text = printed(&bench.run(&["fetch", "resisc45", "--from", "resisc45.tar.gz", "--data", "sets"]));
    assert!(text.contains("resisc45: is in sets/resisc45; `san verify resisc45`"), "{text}");
    let text = printed(&bench.run(&["verify", "resisc45", "--data", "sets"]));
    assert!(text.contains("(VTAB-1k style)") && !text.contains("fault"), "{text}");
    assert!(bench.path("resisc45.tar.gz").is_file() && !bench.path("sets/downloads").exists());
    let again = printed(&bench.run(&["fetch", "resisc45", "--from", "resisc45.tar.gz", "--data", "sets"]));
    assert!(again.contains("was already fetched"), "{again}");
}

#[test]
fn weights_are_fetched_from_a_mirror_unless_they_are_damaged() {
    let bench = Bench::new(SYNTHETIC);
    let text = printed(&bench.run(&["fetch", "vit_base_patch16_224.augreg_in21k", "--dry-run"]));
    assert!(text.contains("2 files of unpublished size") && text.contains("weights"), "{text}");
    let mirror = bench.path("mirror");
    std::fs::create_dir(&mirror).unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::write(mirror.join(file), format!("{{\"this is\": \"{file}\"}}")).unwrap();
    }
    std::fs::write(mirror.join("model.safetensors"), "ten bytes.").unwrap();
    let fetch = ["fetch", "SmolLM2-135M-Instruct", "--from", mirror.to_str().unwrap()];
    let folder = bench.path("weights/SmolLM2-135M-Instruct");
    let said = refusal(&bench.run(&fetch), FETCH);
    assert!(
        said.contains("mirror/model.safetensors") && said.contains("not a usable safetensors file"),
        "{said}"
    );
    assert!(!folder.exists(), "damaged weights are not published");
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let whole = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    std::fs::write(mirror.join("model.safetensors"), whole).unwrap();
    assert!(printed(&bench.run(&fetch)).contains("is in"));
    assert!(std::fs::read_to_string(folder.join("config.json")).unwrap().contains("this is"));
    assert!(printed(&bench.run(&fetch)).contains("was already fetched"));
}
