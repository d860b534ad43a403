//! The document of everything: one self-contained page, and a LaTeX document that compiles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::path::Path;
use std::process::Command;

use common::records;
use report::comparison::comparisons;
use report::{Missing, write_collection};

/// Two backbones, one with a label that LaTeX and HTML would interpret.
fn write(folder: &Path) {
    let mut records = records();
    let mut other = records.clone();
    for stored in &mut other {
        stored.record.backbone.name = "swin_micro".into();
        if stored.record.method.name == "san" {
            stored.record.method.label = "SAN 100% <γ> $x_1$ & \\more".into();
        }
    }
    records.extend(other);
    // Another experiment of the same suite, profile and backbone has its own chapter and figures.
    let mut ablation = common::records();
    for stored in &mut ablation {
        stored.record.experiment = "vtab_ablation".into();
    }
    let mut ablation = report::comparison::comparisons(ablation, None).unwrap();
    let mut comparisons = comparisons(records, None).unwrap();
    comparisons.append(&mut ablation);
    let missing =
        [Missing { what: "FGVC, profile paper".into(), command: "just reproduce fgvc paper".into() }];
    write_collection(&comparisons, &missing, folder).unwrap();
}

#[test]
fn the_page_has_every_comparison_and_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let page = std::fs::read_to_string(folder.path().join("index.html")).unwrap();
    for part in [
        "id=\"chapter-0\"",
        "id=\"chapter-1\"",
        "<code>just reproduce fgvc paper</code>",
        "SAN 100% &lt;γ&gt;",
        "aggregates over sets and seeds",
        "Performance profiles",
        ">VTAB (vtab_ablation), profile embedded, backbone vit_micro</h2>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http") && !outside.contains("src="));
    // Identifiers are unique although each chapter has tables and figures.
    let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
}

#[test]
fn the_latex_document_compiles() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let text = std::fs::read_to_string(folder.path().join("main.tex")).unwrap();
    assert!(text.contains("\\input{figures/vtab-vtab-embedded-swin_micro-0.pgf}"));
    let figure =
        std::fs::read_to_string(folder.path().join("figures/vtab-vtab-embedded-swin_micro-0.pgf")).unwrap();
    assert!(figure.starts_with("\\begin{pgfpicture}") && figure.ends_with("\\end{pgfpicture}\n"));
    assert!(figure.contains("\\figtext") && figure.contains("accuracy"));
    if Command::new("pdflatex").arg("--version").output().is_err() {
        return skipped::report("pdflatex is not installed");
    }
    let output = Command::new("pdflatex")
        .args(["-interaction=nonstopmode", "-halt-on-error", "main.tex"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(folder.path().join("main.pdf").is_file());
}
