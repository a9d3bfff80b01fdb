# `make test` is the whole suite; `make demo` shows a cluster at work. Neither needs root once the packages are there.
CARGO ?= cargo
SEEDS ?= 20000

.PHONY: all build deps test explore demo bench bench-handover compat lint clean

all: build

build:
	$(CARGO) build --release --bin pgherd

deps:
	sh scripts/install-deps

test: deps
	$(CARGO) test --workspace
	$(MAKE) --no-print-directory explore

# The simulator over many seeds; prints what happened and fails if something never did.
explore:
	$(CARGO) run -q -p pgherd-sim --bin explore -- --seeds $(SEEDS)

demo: deps build
	sh scripts/demo

bench: deps build
	sh bench/run

# How long writes are interrupted, beside Patroni.
bench-handover: deps build
	sh bench/run handover

# One pgherd and two members of Patroni (from PyPI) through the life of a cluster; about twelve minutes.
compat: deps build
	sh tests/compat/run --pgherd $${CARGO_TARGET_DIR:-target}/release/pgherd

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

clean:
	$(CARGO) clean
