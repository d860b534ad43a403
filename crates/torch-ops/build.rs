//! Compiles `src/ops.cpp` against libtorch's headers. They are those of a CPU build: what is called is the same on every
//! device.

use std::path::PathBuf;

#[path = "../../tools/rpath.rs"]
#[allow(dead_code)]
mod rpath;

fn main() {
    rpath::link();
    println!("cargo::rerun-if-changed=src/ops.cpp");
    println!("cargo::rerun-if-changed=build.rs");
    let libtorch = std::env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_default();
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .opt_level(3)
        .warnings(false)
        .file("src/ops.cpp")
        .compile("torch_ops");
}
