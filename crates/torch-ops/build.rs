//! Compiles `src/cpp/ops.cpp`, which includes the headers there, against libtorch's headers. They are those of a CPU build:
//! what is called is the same on every device. `src/cpp/attention_kernel.cpp` is compiled for AVX2, and used where the
//! processor has it.

use std::path::PathBuf;

#[path = "../../tools/rpath.rs"]
#[allow(dead_code)]
mod rpath;

fn main() {
    rpath::link();
    println!("cargo::rerun-if-changed=src/cpp");
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
        .file("src/cpp/ops.cpp")
        .compile("torch_ops");
    let mut kernel = cc::Build::new();
    kernel.cpp(true).std("c++20").opt_level(3).warnings(false).file("src/cpp/attention_kernel.cpp");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|architecture| architecture == "x86_64") {
        kernel.flag("-mavx2").flag("-mfma");
    }
    kernel.compile("torch_ops_attention");
}
