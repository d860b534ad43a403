//! Checks the modules of each crate and the arrows between them against ARCHITECTURE.md.
//!
//! A module is a folder in a crate's `src`. An arrow is a path `crate::<module>` in code; files at the root of `src`
//! (errors, the crate's `lib.rs`) may be used from anywhere and are not modules. The document lists the allowed arrows
//! in a block of lines `<crate>: <module> -> <module>, ...`; the modules of a crate must not form a cycle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 5] = ["san-core", "backbones", "data-loaders", "report", "runner"];

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// The first names after `crate::` in code, and after the crate's own name, which its program uses.
fn names_used(text: &str, crate_name: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let word = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut names = BTreeSet::new();
    for prefix in ["crate::", &format!("{}::", crate_name.replace('-', "_"))] {
        for (place, _) in code.match_indices(prefix) {
            let before = code[..place].chars().next_back();
            if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':') {
                continue;
            }
            let rest = &code[place + prefix.len()..];
            match rest.strip_prefix('{') {
                // `use crate::{a::X, b::{Y, Z}}`
                Some(group) => {
                    let mut depth = 0;
                    for piece in group.split_inclusive(['{', '}', ',']) {
                        if depth == 0 {
                            names.insert(word(piece.trim_start()));
                        }
                        match piece.chars().next_back() {
                            Some('{') => depth += 1,
                            Some('}') if depth == 0 => break,
                            Some('}') => depth -= 1,
                            _ => {}
                        }
                    }
                }
                None => drop(names.insert(word(rest))),
            }
        }
    }
    names
}

fn arrows_of(src: &Path, crate_name: &str) -> Arrows {
    let is_room = |name: &str| src.join(name).is_dir();
    let mut files = Vec::new();
    rust_files(src, &mut files);
    let mut arrows = Arrows::new();
    for file in files {
        let relative = file.strip_prefix(src).unwrap();
        if relative.components().count() < 2 {
            continue;
        }
        let module = relative.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
        let used = names_used(&fs::read_to_string(&file).unwrap(), crate_name);
        let others = used.into_iter().filter(|name| is_room(name) && *name != module);
        arrows.entry(module.clone()).or_default().extend(others);
    }
    arrows
}

/// A cycle through the modules, if there is one.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    fn visit(module: &str, arrows: &Arrows, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if let Some(place) = path.iter().position(|earlier| earlier == module) {
            path.drain(..place);
            return true;
        }
        if done.contains(module) {
            return false;
        }
        path.push(module.to_owned());
        for next in arrows.get(module).into_iter().flatten() {
            if visit(next, arrows, path, done) {
                return true;
            }
        }
        path.pop();
        done.insert(module.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|module| {
        let mut path = Vec::new();
        visit(module, arrows, &mut path, &mut done).then_some(path)
    })
}

/// The arrows that ARCHITECTURE.md allows for a crate.
fn allowed(document: &str, crate_name: &str) -> Arrows {
    let mut arrows = Arrows::new();
    for line in document.lines() {
        let Some(rest) = line.strip_prefix(&format!("{crate_name}: ")) else { continue };
        let (module, others) = rest.split_once("->").unwrap_or((rest, ""));
        let others = others.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        arrows.entry(module.trim().to_owned()).or_default().extend(others);
    }
    arrows
}

#[test]
fn modules_depend_on_each_other_as_architecture_md_says_without_circles() {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut faults = Vec::new();
    for name in CRATES {
        let found = arrows_of(&root().join("crates").join(name).join("src"), name);
        let allowed = allowed(&document, name);
        if let Some(modules) = circle(&found) {
            faults.push(format!("{name}: the modules {} form a circle", modules.join(" -> ")));
        }
        for (module, others) in &found {
            let Some(listed) = allowed.get(module) else {
                faults.push(format!("{name}: the module `{module}` is not in ARCHITECTURE.md"));
                continue;
            };
            faults.extend(
                others.difference(listed).map(|other| {
                    format!("{name}: {module} uses {other}, which ARCHITECTURE.md does not allow")
                }),
            );
            faults.extend(
                listed.difference(others).map(|other| {
                    format!("{name}: ARCHITECTURE.md has {module} -> {other}, which nothing uses")
                }),
            );
        }
        let gone = allowed.keys().filter(|module| !found.contains_key(*module));
        faults.extend(
            gone.map(|module| format!("{name}: ARCHITECTURE.md names the module `{module}`, which is gone")),
        );
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_circle_and_a_path_in_a_group_are_found() {
    let arrow = |from: &str, to: &[&str]| {
        (from.to_owned(), to.iter().map(ToString::to_string).collect::<BTreeSet<_>>())
    };
    let sound: Arrows = [arrow("a", &["b", "c"]), arrow("b", &["c"]), arrow("c", &[])].into();
    assert_eq!(circle(&sound), None);
    let planted: Arrows = [arrow("a", &["b"]), arrow("b", &["c"]), arrow("c", &["b"])].into();
    assert_eq!(circle(&planted), Some(vec!["b".to_owned(), "c".to_owned()]));
    let text = "use crate::{one::X, two::{Y, three::Z}, W};\nuse crate::four::V; // crate::five\n// crate::six\nlet x = crate::seven::f();";
    let names = names_used(text, "report");
    for name in ["one", "two", "four", "seven", "W"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    assert!(!names.contains("three") && !names.contains("six"), "{names:?}");
}
