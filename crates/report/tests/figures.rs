//! Figures are drawn in both formats without system fonts, and contain the expected text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::{records, write};
use report::comparison::comparisons;
use report::draw_figures;
use report::load::read_records;
use report::record::ADAPTER_FILE;
use safetensors::tensor::{Dtype, TensorView};

fn write_adapter(path: &Path, sites: &[(&str, &[usize])], value: f32) {
    let bytes: Vec<Vec<u8>> =
        sites.iter().map(|(_, shape)| value.to_le_bytes().repeat(shape.iter().product())).collect();
    let tensors = sites
        .iter()
        .zip(&bytes)
        .map(|((name, shape), bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    std::fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

fn draw(sites: &[(&str, &[usize])], value: f32) -> Result<(tempfile::TempDir, Vec<PathBuf>), String> {
    let folder = tempfile::tempdir().unwrap();
    for stored in records() {
        let path = write(folder.path(), &stored.record);
        if stored.record.method.name == "san" && !sites.is_empty() {
            write_adapter(&path.with_file_name(ADAPTER_FILE), sites, value);
        }
    }
    let comparison = comparisons(read_records(folder.path()).unwrap(), None).unwrap().remove(0);
    let written =
        draw_figures(&comparison, &folder.path().join("figures")).map_err(|error| error.to_string())?;
    Ok((folder, written))
}

const SITES: [(&str, &[usize]); 3] =
    [("patch_embed.proj.gamma", &[1, 16]), ("blocks.0.attn.qkv.gamma", &[1, 48]), ("head.weight", &[1, 10])];

#[test]
fn every_figure_is_drawn_as_svg_and_png_with_its_labels() {
    let (_folder, written) = draw(&SITES, 1.25).unwrap();
    let names: Vec<_> = written.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let name = "vtab-embedded-vit_micro";
    let kinds = [
        "accuracy",
        "accuracy-memory",
        "accuracy-time",
        "groups",
        "ranks",
        "profiles",
        "gamma",
        "gamma-histogram",
    ];
    let expected: Vec<String> =
        kinds.iter().flat_map(|kind| [format!("{name}-{kind}.svg"), format!("{name}-{kind}.png")]).collect();
    assert_eq!(names, expected);
    for png in written.iter().filter(|path| path.extension().is_some_and(|ending| ending == "png")) {
        let bytes = std::fs::read(png).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "{}: {}", png.display(), bytes.len());
    }
    let accuracy = std::fs::read_to_string(&written[0]).unwrap();
    let shown = [
        "linear",
        "LoRA (r 4)",
        "not shown because data sets are missing: 2",
        "VTAB (embedded), vit_micro",
        "sans-serif",
    ];
    for text in shown {
        assert!(accuracy.contains(text), "{text}");
    }
    assert!(!accuracy.contains("FFT"), "its average would be over fewer sets");
    let gamma = std::fs::read_to_string(&written[12]).unwrap();
    for text in [
        "patch_embed.proj",
        "blocks.0.attn.qkv",
        "SAN (authors) on mini/a",
        "embedded",
        "seed 0",
        "1.25",
        "0.75",
    ] {
        assert!(gamma.contains(text), "{text}");
    }
    assert!(!gamma.contains("head"));
}

#[test]
fn without_an_adapter_file_only_the_figures_of_the_comparison_are_drawn() {
    assert_eq!(draw(&[], 1.0).unwrap().1.len(), 12);
}

/// Draws records, some of which have files next to them; returns the kinds of figures drawn, or the error message.
fn draw_with_files(files: &[(&str, &str, &str)]) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    for stored in records() {
        let path = write(folder.path(), &stored.record);
        for (method, file, text) in files {
            if stored.record.method.name == *method {
                std::fs::write(path.with_file_name(file), text).unwrap();
            }
        }
    }
    let comparison = comparisons(read_records(folder.path()).unwrap(), None).unwrap().remove(0);
    let written =
        draw_figures(&comparison, &folder.path().join("figures")).map_err(|error| error.to_string())?;
    let stems = written.iter().filter(|path| path.extension().is_some_and(|ending| ending == "svg"));
    Ok(stems
        .map(|path| path.file_stem().unwrap().to_str().unwrap()["vtab-embedded-vit_micro-".len()..].into())
        .collect())
}

#[test]
fn learning_curves_are_drawn_from_the_epochs_of_a_san_run() {
    let epochs = r#"{"epoch":0,"train_loss":2.0,"test_accuracy":0.2,"part_accuracies":{"nt":0.15,"sp":0.12,"head":0.1}}
{"epoch":1,"train_loss":1.5,"test_accuracy":0.5,"readings":{"nt":0.35,"sp":0.3,"head":0.2}}"#;
    assert!(draw_with_files(&[("san", "epochs.jsonl", epochs)]).unwrap().contains(&"curves".to_owned()));
    let losses = r#"{"epoch":0,"train_loss":2.0}"#;
    assert!(!draw_with_files(&[("san", "epochs.jsonl", losses)]).unwrap().contains(&"curves".to_owned()));
    let message = draw_with_files(&[("san", "epochs.jsonl", "{\"epoch\":0,")]).unwrap_err();
    assert!(message.contains("epochs.jsonl") && message.contains("line 1"), "{message}");
}

#[test]
fn weight_shifts_are_drawn_for_all_methods_that_have_them() {
    let shift = r#"{"layers":[{"name":"blocks.0.attn.qkv","singular_values":[2.0,1.0,0.1],"effective_rank":2.2,
        "crop":{"before":[[0.1,0.2],[0.3,-0.4]],"after":[[0.2,0.2],[0.3,-0.1]]}},
        {"name":"blocks.1.mlp.fc1","singular_values":[1.0,0.0],"effective_rank":1.0}]}"#;
    let drawn = draw_with_files(&[("san", "weight_shift.json", shift), ("lora", "weight_shift.json", shift)])
        .unwrap();
    for kind in ["surface", "singular-values", "effective-rank"] {
        assert!(drawn.contains(&kind.to_owned()), "{kind} is not among {drawn:?}");
    }
    let ragged = shift.replace("[0.3,-0.1]", "[0.3]");
    let message = draw_with_files(&[("san", "weight_shift.json", &ragged)]).unwrap_err();
    assert!(message.contains("blocks.0.attn.qkv"), "{message}");
}

#[test]
fn an_adapter_that_is_not_of_a_single_run_is_rejected_with_its_name() {
    let stacked = draw(&[("blocks.0.attn.qkv.gamma", &[2, 48])], 1.0).unwrap_err();
    assert!(stacked.contains("blocks.0.attn.qkv.gamma has the shape [2, 48]"), "{stacked}");
    let infinite = draw(&[("blocks.0.attn.qkv.gamma", &[1, 48])], f32::INFINITY).unwrap_err();
    assert!(infinite.contains("contains inf"), "{infinite}");
    let none = draw(&[("head.weight", &[1, 48])], 1.0).unwrap_err();
    assert!(none.contains("no tensor's name ends in `.gamma`") && none.contains(ADAPTER_FILE), "{none}");
}
