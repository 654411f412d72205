# Everyday tasks. `just` alone lists them; it comes with `pip install rust-just`, `cargo install just` or the extra `dev`.

[private]
default:
    @just --list

# Format Rust and Python, and apply the fixes that are safe
fmt:
    cargo fmt --all
    ruff check --fix .
    ruff format .

# Check formatting, lints, types, spelling and plain English
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    ruff check .
    ruff format --check .
    typos
    python tools/plain_english.py
    mypy

# Run all tests, or those of one file: just test tests/python/test_losses.py -k triplet
test *arguments:
    {{ if arguments == "" { "cargo test --locked -p relkt-core && pytest -n auto" } else { "pytest " + arguments } }}

# Run the Python tests that take no more than a second each
test-fast:
    pytest -n auto -m "not slow"

# Run the tests of the Rust core
test-core:
    cargo test --locked -p relkt-core

# Build the documentation into site/; warnings are errors
docs:
    NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

# Check that benchmarks run and that their results are right, on small inputs; needs the extra `bench`
bench-smoke:
    cargo bench --locked -p relkt-core --bench dot --bench top_k -- --test
    python benches/compare_mine.py --preset smoke
    python benches/compare_search.py --rows 2000 --dims 64 --queries 1 16 --repeats 1

# Run steps of CI (lint core msrv python wheel docs walk images), by default all
ci *steps:
    bash .ci/run {{ steps }}
