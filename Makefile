# The commands of pg_trough. Each installs what it is missing (Debian, Ubuntu), so a fresh clone is enough.

.PHONY: help build demo demo-stop test check bench oracle chaos tpch install deb containers fuzz clean

help: ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

build: ## the binary `trough` and the extension, optimised
	@scripts/setup.sh build
	cargo build --release -p trough -p pg_trough

install: build ## the extension into PostgreSQL, the binary into /usr/local/bin
	scripts/install-extension.sh release
	install -m 755 target/release/trough /usr/local/bin/trough
	ln -sf trough /usr/local/bin/trough-shell

deb: build ## Debian packages of the daemons and of the extension, into target/debian
	scripts/deb.sh

containers: ## a whole cluster in containers (docker/compose.yml), with RethinkDB, HDFS, PostgreSQL, Prometheus and Grafana
	docker/secrets.sh
	docker compose -f docker/compose.yml up --build -d

fuzz: ## every fuzz target over its corpus, then FUZZ_SECONDS=60 of new inputs each
	fuzz/run.sh

demo: ## a cluster on loopback with 4,044 segments of real data, and a tour of it in psql; STORE=hdfs: over a real HDFS
	@scripts/demo.sh

demo-stop: ## stops what `make demo` left running
	@scripts/demo.sh stop

test: ## everything that CI runs, from a fresh machine
	@tests/run.sh

check: ## format, lints, unit tests
	@tests/check.sh

bench: ## the benchmarks, each beside its peer in one run, as ratios
	@tests/bench/run.sh

oracle: ## random queries with pushdown, without it and over local tables: QUERIES=200000 SEED=1 JOBS=2
	@tests/fdw/oracle.sh

chaos: ## faults under load, with a checked history: MINUTES=60 SEED=7 (root; see tests/chaos/README.md)
	@tests/chaos/run.sh

tpch: ## the 22 TPC-H queries beside local tables and postgres_fdw, with times: SCALE=0.1 SEGMENTS=50
	@tests/tpch/run.sh

clean: demo-stop ## removes what was built
	cargo clean
