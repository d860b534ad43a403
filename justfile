# Every recipe only forwards: to the program `san`, to cargo, or to a tool.

san_program := "cargo run --quiet --package runner --bin san --"

# List the recipes
default:
    @just --list --unsorted

# Provide libtorch and build the program; returns immediately when that is done
setup: libtorch
    cargo build --package runner --bin san

# Run a suite's whole sweep: profile `embedded` (nothing to download), `small` or `paper`
reproduce suite profile="embedded" *arguments: setup
    @{{san_program}} run {{suite}} --profile {{profile}} {{arguments}}

# Compare the methods on a suite: a table here, and as Markdown, CSV and LaTeX files
compare suite *arguments: setup
    @{{san_program}} report {{suite}} {{arguments}}

# Draw the figures of a suite, SVG and PNG
figures suite="vtab" *arguments: setup
    @{{san_program}} report {{suite}} --figures {{arguments}}

# Make every table and figure of all suites that have records: one HTML page and one LaTeX document
regenerate *arguments: setup
    @{{san_program}} regenerate {{arguments}}

# Print what a sweep would run, and what is missing for it
plan suite profile="embedded" *arguments: setup
    @{{san_program}} plan {{suite}} --profile {{profile}} {{arguments}}

# Print the progress of a sweep
status suite="vtab" profile="embedded" *arguments: setup
    @{{san_program}} status {{suite}} --profile {{profile}} {{arguments}}

# Download a set or a suite into SAN_DATA, or published weights into SAN_WEIGHTS; --dry-run prints files, sizes and terms
fetch name *arguments: setup
    @{{san_program}} fetch {{name}} {{arguments}}

# Check every image of a set or a suite under SAN_DATA for damage and duplicates, and write a manifest
verify name *arguments: setup
    @{{san_program}} verify {{name}} {{arguments}}

# Measure the speed of a training step: of each method (`train_step`), of a language model (`language_step`), of questions about one image (`questions_together`)
bench name="train_step" *arguments: libtorch
    cargo bench --package backbones --profile dev --bench {{name}} {{arguments}}

# Train the projector of a suite between its tower and its language model: LLaVA's first stage
align suite="vl" profile="small" *arguments: setup
    @{{san_program}} align {{suite}} --profile {{profile}} {{arguments}}

# Train a bundled backbone again, from scratch or, with --from, from a file; the registry names the command of each
pretrain backbone="vit_micro" *arguments: setup
    @{{san_program}} pretrain {{backbone}} --output assets/{{backbone}}.safetensors {{arguments}}

# Run all tests; the last lines count those that could not run here
test: libtorch
    #!/usr/bin/env bash
    set -euo pipefail
    export SAN_SKIPPED="$(mktemp)"
    trap 'rm -f "$SAN_SKIPPED"' EXIT
    if cargo nextest --version >/dev/null 2>&1; then
        echo "tests run by: cargo nextest"
        cargo nextest run --workspace
    else
        echo "tests run by: cargo test (cargo-nextest is not installed)"
        cargo test --workspace --lib --bins --tests
    fi
    cargo test --workspace --doc
    echo "skipped for want of data, weights or programs: $(wc -l < "$SAN_SKIPPED")"
    sort "$SAN_SKIPPED"

# Fuzz the readers of every kind of file, or of one kind, with libFuzzer, for this many seconds each
fuzz target="all" seconds="60" *arguments: libtorch
    #!/usr/bin/env bash
    set -euo pipefail
    cd fuzz
    # What `cargo fuzz` sets, but for the address sanitiser, which needs a nightly compiler. With a target named, only
    # the program is built so, not the build scripts.
    export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
    fuzz() {
        mkdir -p "corpus/$1" "artifacts/$1"
        cargo build --release --target "$host" --features "$2" --bin "$1"
        SEEDS="corpus/$1" "target/$host/release/$1" "corpus/$1" "-max_total_time={{seconds}}" -timeout=20 \
            -artifact_prefix="artifacts/$1/" -rss_limit_mb=1024 -malloc_limit_mb=1024 {{arguments}}
    }
    host="$(rustc -vV | sed -n 's/^host: //p')"
    known=false
    for target in images: mat: npz: hdf5: readers: \
        gguf:models safetensors:models tokenizer:models experiment:program records:program; do
        if [ "{{target}}" = all ] || [ "{{target}}" = "${target%:*}" ]; then
            known=true
            fuzz "${target%:*}" "${target#*:}"
        fi
    done
    $known || { echo "there is no target {{target}}" >&2; exit 1; }

# Check the format, the lints, the dependencies and the documentation, warnings denied
lint: libtorch && deny doc
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Check licences, sources and versions of all dependencies, and known vulnerabilities where the database can be fetched
deny:
    #!/usr/bin/env bash
    set -euo pipefail
    if ! cargo deny --version >/dev/null 2>&1; then
        echo "skipped: licences, bans, sources and advisories of dependencies (cargo-deny is not installed)"
        exit 0
    fi
    cargo deny --offline --locked check licenses bans sources
    if cargo deny fetch db >/dev/null 2>&1; then
        cargo deny --offline --locked check advisories
    else
        echo "skipped: advisories of dependencies (their database cannot be fetched)"
    fi

# Build the documentation
doc: libtorch
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Run the program with these arguments, as in `just san --help`
san *arguments: setup
    @{{san_program}} {{arguments}}

[private]
libtorch:
    @python3 tools/libtorch.py
