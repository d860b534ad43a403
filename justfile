# Every recipe only forwards: to the program `san`, to cargo, or to a tool.

san_program := "cargo run --quiet --package runner --bin san --"

# List the recipes
default:
    @just --list --unsorted

# Provide libtorch and build the program; at once when that is done
setup: libtorch
    cargo build --package runner --bin san

# Run a suite's whole sweep: profile `embedded` (nothing to download), `small` or `paper`
reproduce suite profile="embedded" *arguments: setup
    @{{san_program}} run {{suite}} --profile {{profile}} {{arguments}}

# Compare the methods on a suite: a table here, and as Markdown, CSV and LaTeX files
compare suite profile="embedded" *arguments: setup
    @{{san_program}} report {{suite}} --profile {{profile}} {{arguments}}

# Draw the figures of a suite, SVG and PNG
figures suite="vtab" profile="embedded" *arguments: setup
    @{{san_program}} report {{suite}} --profile {{profile}} --figures {{arguments}}

# Print what a sweep would run, and what is missing for it
plan suite profile="embedded" *arguments: setup
    @{{san_program}} plan {{suite}} --profile {{profile}} {{arguments}}

# Print how far the sweeps are
status *arguments: setup
    @{{san_program}} status {{arguments}}

# Download a suite's data sets into SAN_DATA
fetch suite *arguments: setup
    @{{san_program}} fetch {{suite}} {{arguments}}

# Check a suite's data sets in SAN_DATA against their checksums
verify suite *arguments: setup
    @{{san_program}} verify {{suite}} {{arguments}}

# Measure the speed
bench *arguments: libtorch
    cargo bench --workspace {{arguments}}

# Run all tests
test: libtorch
    #!/usr/bin/env bash
    set -euo pipefail
    if cargo nextest --version >/dev/null 2>&1; then
        echo "tests run by: cargo nextest"
        cargo nextest run --workspace
    else
        echo "tests run by: cargo test (cargo-nextest is not installed)"
        cargo test --workspace --lib --bins --tests
    fi
    cargo test --workspace --doc

# Check the format, the lints and the documentation, warnings denied
lint: libtorch && doc
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Build the documentation
doc: libtorch
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Run the program with these arguments, as in `just san --help`
san *arguments: setup
    @{{san_program}} {{arguments}}

[private]
libtorch:
    @python3 tools/libtorch.py
