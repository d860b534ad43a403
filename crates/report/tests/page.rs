//! The page loads no external resources, is accessible, and works in a browser where one is installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tools/skipped.rs"]
mod skipped;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::records;
use report::comparison::comparisons;
use report::write_tables;

fn write_page(folder: &Path) -> PathBuf {
    let comparison = comparisons(records(), None).unwrap().remove(0);
    let written = write_tables(&comparison, folder).unwrap();
    written.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "html")).unwrap()
}

#[test]
fn the_page_is_self_contained() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(write_page(folder.path())).unwrap();
    let namespaces = text.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!namespaces.contains(outside), "{outside}");
    }
    for needed in [
        "<html lang=\"en\">",
        "<caption>",
        "scope=\"row\">SAN (authors)",
        "scope=\"colgroup\"",
        "role=\"img\" aria-label=\"VTAB (embedded), vit_micro: accuracy against trainable parameters\"",
        "class=\"gap\">missing",
        "<strong>",
        "prefers-color-scheme: dark",
    ] {
        assert!(text.contains(needed), "{needed}");
    }
    assert_eq!(text.matches("<svg").count(), text.matches("role=\"img\"").count());
}

#[test]
fn text_in_records_is_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = records();
    for stored in records.iter_mut().filter(|stored| stored.record.method.name == "san") {
        stored.record.method.label = "<script>alert(1)</script>".into();
    }
    let comparison = comparisons(records, None).unwrap().remove(0);
    let written = write_tables(&comparison, folder.path()).unwrap();
    let page = written.iter().find(|path| path.extension().is_some_and(|ending| ending == "html")).unwrap();
    assert!(!std::fs::read_to_string(page).unwrap().contains("<script>alert"));
}

fn chromium() -> Option<&'static str> {
    let found = |name: &&&str| {
        Command::new(**name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].iter().find(found).copied()
}

/// Runs a browser without network access and with a separate profile.
fn browse(browser: &str, folder: &Path, arguments: &[&str], page: &Path) -> std::process::Output {
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--user-data-dir={}", folder.join("profile").display())).args(arguments);
    command.arg(format!("file://{}", page.display())).output().unwrap()
}

#[test]
fn a_browser_sorts_and_filters_the_table() {
    let Some(browser) = chromium() else {
        skipped::report("no chromium on this machine");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = write_page(folder.path());
    // A reader's actions: sort by the first set, then filter the rows with an `a`, then hide the costs.
    let clicks = "<script>
        const table = document.querySelector('table');
        table.tHead.rows[1].cells[1].querySelector('button').click();
        const form = document.querySelector('form');
        form.elements.rows.value = 'a';
        form.elements.rows.dispatchEvent(new Event('input'));
        const box = form.querySelector('[value=cost]');
        box.click();
        const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
        const costs = [...table.querySelectorAll('[data-group=cost]')].every((cell) => cell.hidden);
        const sort = table.tHead.rows[1].cells[1].getAttribute('aria-sort');
        document.body.dataset.result = [rows.join('|'), costs, sort, document.getElementById('status').textContent].join(';');
        </script></body>";
    let clicked = folder.path().join("clicked.html");
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::write(&clicked, text.replace("</body>", clicks)).unwrap();
    let output = browse(browser, folder.path(), &["--dump-dom"], &clicked);
    let dom = String::from_utf8_lossy(&output.stdout);
    let expected = "data-result=\"SAN (authors)|LoRA (r 4)|linear;true;descending;3 of 4 rows.\"";
    assert!(
        dom.contains(expected),
        "{}",
        dom.find("data-result").map_or("no result", |at| &dom[at..at + 200])
    );
}

#[test]
fn a_browser_renders_the_page() {
    let Some(browser) = chromium() else {
        skipped::report("no chromium on this machine");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = write_page(folder.path());
    let picture = folder.path().join("page.png");
    let screenshot = format!("--screenshot={}", picture.display());
    let output = browse(browser, folder.path(), &[&screenshot, "--window-size=1400,2000"], &page);
    let bytes =
        std::fs::read(&picture).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 50_000, "{} bytes", bytes.len());
}
