# Each target is complete by itself: it makes .venv with what it needs, on a machine with Python (3.11 or newer) and make.
PYTHON ?= $(shell command -v python3.13 >/dev/null 2>&1 && python3.13 -c '' 2>/dev/null && echo python3.13 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# The CDK CLI and jsii look for Node on the PATH: the one that requirements.txt pins comes first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench mutants clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## make .venv with everything pinned in requirements.txt

$(VENV)/.installed: requirements.txt lambdas/requirements.txt lambdas/tables/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is %s. Name one: make PYTHON=/path/to/python3.13 …" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned requirements into $(VENV) (a minute or two the first time) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

demo: setup  ## the main job on real events: deploy to a local AWS and Connect, capture a small day, show the rows
	@$(BIN)/python -m local demo

test: setup  ## every test, the deployed system's included
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

check: setup  ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: setup  ## the benchmarks: about three hours; writes docs/benchmarks.md, docs/faults.md, docs/scale.md, docs/decisions/
	@$(BIN)/python -m benchmarks.pacing --write
	@$(BIN)/python -m benchmarks.pacing --rate 8 --contacts 293 --write
	@$(BIN)/python -m benchmarks.load --contacts 10000 --write
	@$(BIN)/python -m benchmarks.load --contacts 2000 --rate 8 --scenario alone --scenario baseline --write
	@$(BIN)/python -m benchmarks.function --write
	@$(BIN)/python -m benchmarks.counts --write
	@$(BIN)/python -m benchmarks.backlog --write
	@$(BIN)/python -m benchmarks.cost --write
	@$(BIN)/python -m benchmarks.scale --processes 2 --write
	@$(BIN)/python -m benchmarks.scale_check --write
	@$(BIN)/python -m benchmarks.reconcile --write
	@$(BIN)/python -m benchmarks.faults
	@$(BIN)/python -m benchmarks.fuzz --seconds 600

# In a clone, because each mutant is written into the sources.
mutants: setup  ## change the capture's rules one by one, and tell which changes no test notices (an hour or two)
	@rm -rf .local/mutants && git clone --quiet . .local/mutants
	@cd .local/mutants && cosmic-ray init tests/mutants.toml session.sqlite && cr-filter-operators session.sqlite tests/mutants.toml
	@cd .local/mutants && cosmic-ray exec tests/mutants.toml session.sqlite && cr-report --show-diff --surviving-only session.sqlite

format: setup  ## put the code into the project's format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

clean:  ## remove what the other targets made
	rm -rf $(VENV) .local cdk.out .mypy_cache .ruff_cache .pytest_cache .hypothesis
