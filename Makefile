# The commands of this repository; `make` alone lists them. What they need from the system is in ci/packages.txt.

.DEFAULT_GOAL := help
.PHONY: help demo cluster-demo test check fmt doc bench bench-flink bench-cluster crash soak fuzz rocksdb rocksdb-env packages rust

# Before a command: has it linked with the RocksDB that `make rocksdb` compiles.
with-rocksdb = exports=$$(ci/rocksdb) && eval "$$exports" &&

help: ## this list
	@echo "Millstream: streaming jobs in Rust."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Variables:"
	@echo "  MILLSTREAM_DATA=DIR   the full data set for the tests (default: ../shared/data, used if it is there)"
	@echo "  SEEDS=n FIRST_SEED=m  for soak: how many histories, and from which seed on"
	@echo "  CHAOS=n               for soak: so many trials with clusters of real processes instead, from FIRST_SEED on;"
	@echo "                        HURT=KillJobManager: all hurt by the same (\`HURT=?\` tells what there is)"
	@echo "  SECONDS=n             for fuzz: so long for each target; TARGETS=\"frames csv\": only these"
	@echo "  ROWS=w2,q5  QUICK=1   for the benchmarks: only these rows; small inputs"
	@echo "  N=100  SEED=7         for crash: so many runs; the first is told by this number"

demo: packages rust ## install what is missing, build, run the flights job on the sample
	cargo run --release -p millstream-examples --bin flights

cluster-demo: packages rust ## a cluster of real processes; one is killed in mid-job, and the output is the same
	cargo build --release --workspace --features cluster --bin cluster-demo
	$${CARGO_TARGET_DIR:-target}/release/cluster-demo

test: rust ## format, lints, all tests, documentation examples
	@ci/test

soak: packages rust ## SEEDS=10000 random histories of the simulated world, and all transcripts; or CHAOS=n hurt clusters
	@ci/soak

fuzz: packages rust ## run the fuzz target of every decoder for SECONDS=60 each; needs a nightly compiler
	@FUZZ_SECONDS=$(or $(SECONDS),60) ci/fuzz

check: rust ## compile everything without running it (fast)
	cargo check --workspace --all-targets

fmt: rust ## format all code
	cargo fmt --all

doc: rust ## build the documentation; a broken link is an error
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --lib

bench: packages rust ## measure: records/s, records per CPU-second, ratio to a hand-written loop
	@$(with-rocksdb) cargo run --profile bench -p millstream-benches --features rocksdb --bin bench

bench-flink: packages rust ## the same workloads on Flink, and the ratios
	@$(with-rocksdb) cargo run --profile bench -p millstream-benches --features rocksdb --bin bench -- flink

bench-cluster: packages rust ## rows over two task managers beside one process; recovery, submission, idle memory
	cargo build --profile bench -p millstream-cli -p millstream-benches --features millstream-benches/cluster
	target/release/bench cluster

crash: packages rust ## kill queries again and again (N=20 runs), cut their power (N more) and a job manager's, kill them at every failpoint
	@CRASH=$(or $(N),20) FIRST_SEED=$(SEED) ci/soak

rocksdb: packages rust ## compile RocksDB, once (ten minutes); it stays in ~/.cache
	@ci/rocksdb >/dev/null

rocksdb-env: rust ## the variables for it, to be eval'ed: then cargo builds with --features rocksdb in no time
	@ci/install-packages >&2
	@ci/rocksdb

packages:
	@ci/install-packages

rust:
	@command -v cargo >/dev/null || { \
		echo "Rust is not installed. Get it from https://rustup.rs, then run this again." >&2; exit 1; }
