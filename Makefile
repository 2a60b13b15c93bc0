# `make demo` and `make test` each work alone on a machine with Python 3.11 or newer, pip and nothing else.

PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2

.PHONY: help setup demo test test-all check format docs bench bench-learning bench-tables peers lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: .venv/ready  ## an own .venv with the pinned packages of requirements.lock

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "policygrad needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: setup  ## train, evaluate on the real Gymnasium, climb the ladder, draw it
	@$(BIN)/python examples/demo.py

test: setup  ## the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow"

test-all: setup  ## the tests and the learning tests (an hour)
	$(BIN)/python -m pytest -n $(JOBS)

check: setup  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## lay the code out
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

docs: setup  ## draw every figure of the docs again
	$(BIN)/python docs/figures/all.py

peers: setup  ## the peers of the benchmarks, in environments of their own (3 GB)
	bash benchmarks/peers/setup.sh

bench: setup  ## throughput and start against the peers (`make peers` first)
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/start.py

bench-learning: setup  ## fill the missing rows of the learning table (hours)
	$(BIN)/python benchmarks/learning.py --all

bench-tables: setup  ## print the tables of the ledger
	$(BIN)/python benchmarks/throughput.py --table
	$(BIN)/python benchmarks/start.py --table
	$(BIN)/python benchmarks/learning.py --table

lock: setup  ## pin the newest packages that fit pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --custom-compile-command "make lock" --extra dev -o requirements.lock pyproject.toml

clean:  ## remove what was built (runs/ stays)
	rm -rf .venv .jax_cache .pytest_cache .ruff_cache .mypy_cache build dist src/*.egg-info
