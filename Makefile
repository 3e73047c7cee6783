# The two main targets are `run` and `test`; each installs what it needs. `check` is the part of `test` that
# takes less than two minutes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --require-hashes
EDITABLE := $(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
# Silence pip's remarks about running as root and about newer versions of itself.
export PIP_ROOT_USER_ACTION := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Let Python cache compiled modules even where a container image turns it off: the tests start Python hundreds of times.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run dev dashboard screenshots test check lint style types sql definitions install install-test install-dashboard system-packages test-packages test-bytecode documents bench mutations lock clean

run: $(VENV)/.installed
	@echo 'Refreshing from the committed sample: about 20 seconds on two cores.'
	@$(BIN)/coupon-ledger run

# Web server and daemon, until Ctrl-C; settings come from the environment.
dev: $(VENV)/.installed
	$(BIN)/coupon-ledger dev

# The release as pages in a browser, until Ctrl-C: http://127.0.0.1:8501.
dashboard: install-dashboard
	@$(BIN)/coupon-ledger dashboard

# Three workers keep two cores busy, because some tests mostly wait for other processes.
PYTEST := $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder
# Two checks at a time, with the output of each kept together.
SIDE_BY_SIDE := @$(MAKE) --no-print-directory --jobs 2 --output-sync

test: $(VENV)/.installed-test
	$(SIDE_BY_SIDE) types sql style definitions test-bytecode
	$(PYTEST)

check: lint
	$(PYTEST) tests/unit

lint: $(VENV)/.installed-test
	$(SIDE_BY_SIDE) types style

style types sql definitions test-bytecode: $(VENV)/.installed-test

style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	PYTHONPATH=$(VENV)/mypy $(BIN)/python -m mypy

sql:
	$(BIN)/sqlfluff lint --disable-progress-bar dbt/models dbt/tests

definitions:
	$(BIN)/dg check defs

# pytest rewrites and compiles the tests and its plugins: do this once, not in every worker at the same time. Errors
# are ignored here, because the tests report what cannot be imported.
test-bytecode:
	@$(BIN)/pytest --collect-only -qq >/dev/null 2>&1 || true

# Write the generated parts of README.md and docs/: tables from YAML and settings, and output of commands and queries.
documents: $(VENV)/.installed-test
	$(BIN)/python -m tests.documents

# The pictures of docs/dashboard.md, from the release in data/home.
screenshots: $(VENV)/.installed-test
	$(BIN)/python -m tests.documents.dashboard

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

install-dashboard: $(VENV)/.installed-dashboard

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "Coupon Ledger needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.13 run")'
	@$(PYTHON) -m venv $(VENV)

# pip compiles what it installs to bytecode, which halves import times.
$(VENV)/.installed: $(VENV)/bin/python requirements.lock pyproject.toml
	@echo 'Installing into $(VENV): one to three minutes, most of it downloading about 300 MB.'
	@$(PIP) -r requirements.lock
	@$(EDITABLE)
	@touch $@

# The locked versions of what the tests need include those of the dashboard.
$(VENV)/.installed-dashboard: $(VENV)/.installed requirements-test.lock
	@$(BIN)/python -c 'import streamlit' 2>/dev/null || { \
		echo 'Installing Streamlit: under a minute.'; \
		$(PIP) -r requirements-test.lock; }
	@touch $@

# Packages that conflict with the rest are installed in folders of their own: DuckDB 2, on which tests read and run,
# DuckDB 1.4, on which tests read, and mypy 2, which is twice as fast as mypy 1 and needs a pathspec that dbt-core
# does not allow.
BESIDE := duckdb-1.4 duckdb-2 mypy
LOCKS := requirements.lock requirements-test.lock $(BESIDE:%=requirements-%.lock)

# pip and apt-get use one core each, so they run in parallel.
$(VENV)/.installed-test: $(VENV)/bin/python pyproject.toml $(LOCKS)
	@echo 'Installing into $(VENV) what the tests need: two to four minutes.'
	@$(MAKE) --no-print-directory --jobs 2 system-packages test-packages
	@touch $@

# What runs is a subset of what is tested.
test-packages:
	@$(PIP) -r requirements-test.lock
	@$(EDITABLE)
	@touch $(VENV)/.installed $(VENV)/.installed-dashboard
	@for name in $(BESIDE); do \
		$(PIP) --no-deps --target $(VENV)/$$name --upgrade -r requirements-$$name.lock || exit 1; \
	done

# The tests need Java for Spark, Chromium for pages and PostgreSQL for pulls. As root on Debian, missing ones are
# installed; elsewhere the tests report what did not run, and in CI they fail.
APT := DEBIAN_FRONTEND=noninteractive apt-get
MISSING = $$( \
	{ [ -n "$$JAVA_HOME" ] || command -v java; } >/dev/null || echo openjdk-17-jre-headless; \
	command -v chromium >/dev/null || echo chromium; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql)
system-packages:
	@missing="$(MISSING)"; [ -z "$$missing" ] || { \
		echo "Installing with apt-get:" $$missing; \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { \
			$(APT) install -qq --yes --no-install-recommends $$missing >/dev/null 2>&1 || { \
				$(APT) update -qq && $(APT) install -qq --yes --no-install-recommends $$missing >/dev/null; }; }; \
	} || echo "Not installed: what needs" $$missing "is not tested." >&2

# Needs 12 GB of disk and most of an hour on two cores, nearly all of it at 10 million invoices.
bench: $(VENV)/.installed-test
	$(BIN)/python -m tests.bench compare
	$(BIN)/python -m tests.bench refresh

# Deliveries changed at random, with runs killed in between: `make mutations HISTORIES=2000` takes a second
# or two for each history. A number identifies each history, so one that fails can be run again alone.
HISTORIES ?= 200
mutations: $(VENV)/.installed-test
	MUTATED_HISTORIES=$(HISTORIES) $(PYTEST) --dist load tests/pipeline/test_arrival_mutations.py

# Needs uv and a package index; the locks hold only names, versions and hashes. DuckDB is locked to 1.5, with other
# versions in separate locks for tests. The runtime lock is a subset of the test lock.
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --no-strip-extras
lock:
	mkdir -p build
	echo hatchling > build/backend.in
	$(UV_COMPILE) pyproject.toml build/backend.in --extra test -o requirements-test.lock
	sed -E 's/^([A-Za-z0-9._-]+)\[[^]]*\]/\1/' requirements-test.lock | grep -oE '^[A-Za-z0-9._-]+==[^\]*' > build/constraints.txt
	$(UV_COMPILE) pyproject.toml build/backend.in -c build/constraints.txt -o requirements.lock
	echo 'duckdb>=1.4.5,<1.5' > build/duckdb-1.4.in
	echo 'duckdb>=2,<3' > build/duckdb-2.in
	echo 'mypy>=2.4,<3' > build/mypy.in
	for name in $(BESIDE); do \
		$(UV_COMPILE) build/$$name.in -o requirements-$$name.lock || exit 1; \
	done

clean:
	rm -rf $(VENV) build data/home dbt/target dbt/logs
