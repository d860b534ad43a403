//! Embeds in the program what its records store about it: commit, uncommitted changes and the version of libtorch.
//!
//! They are read at build time, not at run time: the program may run in any folder, and the code may have changed
//! since.

use std::process::Command;

#[path = "../../tools/rpath.rs"]
#[allow(dead_code)]
mod rpath;

/// The program's sources, relative to this crate's folder.
const SOURCES: [&str; 13] = [
    "../torch-ops/src",
    "../san-core/src",
    "../backbones/src",
    "../data-loaders/src",
    "../report/src",
    "src",
    "build.rs",
    "../../tools/rpath.rs",
    "../../Cargo.toml",
    "../../Cargo.lock",
    "../../assets",
    "../../datasets",
    "../../results/reference",
];

fn main() {
    let libtorch = rpath::link();
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into());
    let changes = git(&[&["status", "--porcelain", "--"][..], &SOURCES].concat());
    let modified = changes.is_none_or(|changes| !changes.is_empty());
    let state = if modified { ", modified" } else { "" };
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=SAN_COMMIT={commit}");
    println!("cargo::rustc-env=SAN_MODIFIED={modified}");
    println!("cargo::rustc-env=SAN_VERSION={version} (commit {commit}{state}; libtorch {libtorch})");
    for path in SOURCES {
        println!("cargo::rerun-if-changed={path}");
    }
    // The commit: HEAD, and the reference that it points to.
    let head = ["HEAD".into()].into_iter().chain(git(&["symbolic-ref", "-q", "HEAD"]));
    for name in head.chain(["packed-refs".into()]) {
        if let Some(path) =
            git(&["rev-parse", "--git-path", &name]).filter(|path| std::path::Path::new(path).exists())
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// The output of git in this crate's folder; `None` without git or outside a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
