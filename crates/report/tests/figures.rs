//! Figures are drawn in both formats without a font of the system, and say what they show.
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
    let comparison = comparisons(read_records(folder.path()).unwrap()).unwrap().remove(0);
    let written =
        draw_figures(&comparison, &folder.path().join("figures")).map_err(|error| error.to_string())?;
    Ok((folder, written))
}

const SITES: [(&str, &[usize]); 3] =
    [("patch_embed.proj.gamma", &[1, 16]), ("blocks.0.attn.qkv.gamma", &[1, 48]), ("head.weight", &[1, 10])];

#[test]
fn both_figures_are_drawn_as_svg_and_png_with_their_labels() {
    let (_folder, written) = draw(&SITES, 1.25).unwrap();
    let names: Vec<_> = written.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let name = "vtab-embedded-vit_micro";
    let expected =
        ["accuracy.svg", "accuracy.png", "gamma.svg", "gamma.png"].map(|end| format!("{name}-{end}"));
    assert_eq!(names, expected);
    for png in [&written[1], &written[3]] {
        let bytes = std::fs::read(png).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "{}: {}", png.display(), bytes.len());
    }
    let accuracy = std::fs::read_to_string(&written[0]).unwrap();
    for text in ["linear", "FFT*", "LoRA (r 4)", "SAN (authors)*", "VTAB (embedded), vit_micro", "sans-serif"]
    {
        assert!(accuracy.contains(text), "{text}");
    }
    let gamma = std::fs::read_to_string(&written[2]).unwrap();
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
fn without_an_adapter_file_the_accuracy_alone_is_drawn() {
    assert_eq!(draw(&[], 1.0).unwrap().1.len(), 2);
}

#[test]
fn an_adapter_that_is_no_single_cells_is_refused_by_name() {
    let stacked = draw(&[("blocks.0.attn.qkv.gamma", &[2, 48])], 1.0).unwrap_err();
    assert!(stacked.contains("blocks.0.attn.qkv.gamma has the shape [2, 48]"), "{stacked}");
    let infinite = draw(&[("blocks.0.attn.qkv.gamma", &[1, 48])], f32::INFINITY).unwrap_err();
    assert!(infinite.contains("holds inf"), "{infinite}");
    let none = draw(&[("head.weight", &[1, 48])], 1.0).unwrap_err();
    assert!(none.contains("no tensor's name ends in `.gamma`") && none.contains(ADAPTER_FILE), "{none}");
}
