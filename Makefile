# `make test` is the whole suite; `make demo` shows a cluster at work. Neither needs root once the packages are there.
CARGO ?= cargo
SEEDS ?= 20000

.PHONY: all build deps test test-long test-net test-watchdog test-versions test-api test-ui explore demo bench bench-handover bench-api bench-etcd compat lint clean

all: build

build:
	$(CARGO) build --release --bin pgherd

deps:
	sh scripts/install-deps

test: deps
	TMPDIR=$$(sh scripts/test-dir) $(CARGO) test --workspace
	$(MAKE) --no-print-directory explore

# What depends on order, again and again: `TIMES` (10) times, a logical consumer through `SWITCHOVERS` (20) and `DEATHS` (5), then
# `SEEDS` (200000) histories; about an hour.
test-long: deps
	CARGO="$(CARGO)" SEEDS=$(if $(filter command environment,$(origin SEEDS)),$(SEEDS),200000) sh scripts/test-long

# The network between nodes, and between them and members of etcd, is cut, in network namespaces of this machine: needs root, `ip`
# and `ss`; five to ten minutes.
test-net: deps
	$(CARGO) build --bin pgherd
	sh tests/net/run --program $${CARGO_TARGET_DIR:-target}/debug/pgherd

# A virtual machine with watchdog devices, from Debian's packages, which it fetches but does not install: amd64; ten to fifteen minutes.
test-watchdog: deps build
	sh tests/watchdog/run --program $${CARGO_TARGET_DIR:-target}/release/pgherd

# The tests of the etcd client with etcd 3.5, and of whole nodes with PostgreSQL 16, 17 and 18 (`VERSIONS`), which it fetches; root for 17.
test-versions: deps
	CARGO="$(CARGO)" sh scripts/test-versions

# The REST API, called as its own description says, with schemathesis from PyPI; about five minutes.
test-api: deps build
	sh tests/api/run

# The page in Debian's Chromium, headless: a failover is watched on it; about two minutes. Root, unless Chromium is there.
test-ui: deps build
	sh tests/ui/run

# The simulator over many seeds; prints what happened and fails if something never did.
explore:
	$(CARGO) run -q -p pgherd-sim --bin explore -- --seeds $(SEEDS)

demo: deps build
	sh scripts/demo

# Everything that is measured, beside Patroni; 20 to 25 minutes. `sh bench/run --save` writes bench/RESULTS.md.
bench: deps build
	sh bench/run

# Only how long writes are interrupted.
bench-handover: deps build
	sh bench/run --only switchover,loaded,restart,crash,crash_move

# The REST API beside Patroni's; about 14 minutes, and needs `ab`. `PROGRAM=api.py sh bench/run --save` writes bench/RESULTS-api.md.
bench-api: deps build
	PROGRAM=api.py sh bench/run

# What etcd has to do, beside Patroni; about 15 minutes. `PROGRAM=etcd.py sh bench/run --save` writes bench/RESULTS-etcd.md.
bench-etcd: deps build
	PROGRAM=etcd.py sh bench/run

# One pgherd and two members of Patroni (from PyPI) through the life of a cluster; about 14 minutes.
compat: deps build
	sh tests/compat/run --pgherd $${CARGO_TARGET_DIR:-target}/release/pgherd

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

clean:
	$(CARGO) clean
