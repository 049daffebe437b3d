# What there is to do here. Every target first installs what it needs and this machine lacks.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-stores lint fmt clippy nextest doc tidy bench fuzz setup reader

# Without nextest there are no test groups: this bounds how many servers run at once.
export RUST_TEST_THREADS ?= 4

# Evaluated only by the targets that run tests.
RUN_TESTS = $(if $(shell cargo nextest --version 2>/dev/null),cargo nextest run,cargo test) \
	--locked --workspace
RUN_IGNORED = $(if $(shell cargo nextest --version 2>/dev/null),--run-ignored only,-- --ignored)
SHOW_OUTPUT = $(if $(shell cargo nextest --version 2>/dev/null),--no-capture,-- --nocapture)

help: ## show this list
	@sed -n 's/^\([a-z%A-Z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: setup ## one minute: stream, back up, lose a table, bring back the second before
	cargo build --locked
	target=$${CARGO_TARGET_DIR:-target}; "$$target/debug/pgkeep" demo

test: setup fmt clippy nextest doc tidy ## the gate: everything that must pass before a change is in

lint: fmt clippy ## the two checks that need no server

fmt: ## check the format; `cargo fmt --all` puts it right
	cargo fmt --all --check

clippy: setup ## all lints, warnings are errors
	cargo clippy --locked --workspace --all-targets -- -D warnings

nextest: setup reader ## all tests, with nextest where it is installed
	$(RUN_TESTS)

test-stores: reader ## the tests of stores that take minutes to install; `make test` has the others
	@tests/setup.sh all
	$(RUN_TESTS) --test whole $(RUN_IGNORED)

test-%: setup reader ## whole-system tests whose name holds %, with their output
	$(RUN_TESTS) --test whole $* $(SHOW_OUTPUT)

doc: setup ## the documentation of all crates, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

tidy: setup ## the house rules that no compiler knows, and where the house is crowded
	cargo test --locked --workspace --test tidy -- --nocapture

bench: setup ## measured claims, beside what others reach
	cargo build --locked --release
	cargo run --locked --release -p pgkeep-bench

FUZZ_SECONDS ?= 30

fuzz: setup ## every fuzz target for FUZZ_SECONDS (30); needs a nightly compiler and cargo-fuzz
	command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	cd catalog && for target in $$(cargo +nightly fuzz list); do \
		cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 || exit 1; \
	done

setup: ## install what is missing: a C toolchain, Postgres, a server of objects
	@tests/setup.sh

reader: setup ## install what the independent reader of the format needs
	@tests/reader/setup.sh
