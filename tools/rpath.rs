//! Build script of every crate whose tests or programs link libtorch (`build = "../../tools/rpath.rs"`): it writes the
//! folder of the libraries into them, so that they run without `LD_LIBRARY_PATH`. A link argument serves only the package
//! whose build script gives it, hence one line in each manifest. The libraries find each other by themselves, and
//! `libtorch_cuda.so` is loaded at run time where there is one, so one binary serves both.
//!
//! The version, for records, is handed on as `LIBTORCH_VERSION`.

use std::path::{Path, PathBuf};

fn main() {
    link();
}

/// Gives the link argument; returns the version.
pub(crate) fn link() -> String {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let root = std::env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_default();
    let folder = root.join("lib");
    let folder = folder.canonicalize().unwrap_or(folder);
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
    let version = version(&root).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=LIBTORCH_VERSION={version}");
    version
}

/// `major.minor.patch` from libtorch's header.
fn version(root: &Path) -> Option<String> {
    let header = std::fs::read_to_string(root.join("include/torch/headeronly/version.h")).ok()?;
    let number = |part: &str| {
        let line = header.lines().find(|line| line.starts_with(&format!("#define TORCH_VERSION_{part} ")))?;
        line.split_whitespace().nth(2)
    };
    Some([number("MAJOR")?, number("MINOR")?, number("PATCH")?].join("."))
}
