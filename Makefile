# The two commands are `make run` and `make test`; each installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APT_POSTGRES := DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends postgresql
APT_JAVA := DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends openjdk-17-jre-headless
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: run dev test install install-test lint bench lock clean

run: $(VENV)/.installed
	$(BIN)/coupon-ledger run

# Web server and daemon, until Ctrl-C; settings come from the environment.
dev: $(VENV)/.installed
	$(BIN)/coupon-ledger dev

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --processes 2 --disable-progress-bar dbt/models dbt/tests
	$(BIN)/dg check defs
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "Coupon Ledger needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.13 run")'
	$(PYTHON) -m venv $(VENV)

# pip compiles what it installs to bytecode, which halves the time of the imports.
$(VENV)/.installed: $(VENV)/bin/python requirements.lock pyproject.toml
	$(PIP) -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

# The tests of pulls start Debian's Postgres themselves.
# DuckDB's next line lies beside the one that is locked, for the tests that read and run on both. Spark
# needs Java; without it the tests say what did not run, and in CI they fail.
$(VENV)/.installed-test: $(VENV)/.installed requirements-test.lock requirements-duckdb-2.lock
	if [ "$$(id -u)" = 0 ] && [ -z "$$JAVA_HOME" ] && ! command -v java >/dev/null; then \
		$(APT_JAVA) || { apt-get update -qq && $(APT_JAVA); } || echo 'No Java: nothing is tested on Spark.' >&2; \
	fi
	if [ "$$(id -u)" = 0 ] && ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then \
		$(APT_POSTGRES) || { apt-get update -qq && $(APT_POSTGRES); } || echo 'No Postgres: the tests of pulls from it will fail.' >&2; \
	fi
	$(PIP) -r requirements-test.lock
	$(PIP) --target $(VENV)/duckdb-2 --upgrade -r requirements-duckdb-2.lock
	touch $@

# Needs 12 GB of disk and most of an hour on two cores, nearly all of it at 10 million invoices.
bench: $(VENV)/.installed-test
	$(BIN)/python -m tests.bench compare
	$(BIN)/python -m tests.bench refresh

# Needs uv and a package index; the locks hold names, versions and hashes only. DuckDB is locked to its
# 1.5 line, with 2 beside it for tests; what runs is a subset of what is tested.
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --no-strip-extras
lock:
	mkdir -p build
	echo 'duckdb<2' > build/constraints.txt
	echo hatchling > build/backend.in
	$(UV_COMPILE) pyproject.toml build/backend.in --extra test -c build/constraints.txt -o requirements-test.lock
	sed -E 's/^([A-Za-z0-9._-]+)\[[^]]*\]/\1/' requirements-test.lock | grep -oE '^[A-Za-z0-9._-]+==[^\]*' > build/constraints.txt
	$(UV_COMPILE) pyproject.toml build/backend.in -c build/constraints.txt -o requirements.lock
	echo 'duckdb>=2,<3' > build/duckdb-2.in
	$(UV_COMPILE) build/duckdb-2.in -o requirements-duckdb-2.lock

clean:
	rm -rf $(VENV) build data/home dbt/target dbt/logs
