# Each target is complete by itself: it makes .venv with what it needs, on a machine with Python (3.11 or newer) and make.
PYTHON ?= $(shell command -v python3.13 >/dev/null 2>&1 && python3.13 -c '' 2>/dev/null && echo python3.13 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# The CDK looks for Node on the PATH: the one that requirements.txt pins comes first.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# uv reads no pip configuration: the index that pip is told to use, by its files or its environment, is uv's too.
PIP_INDEX = $(BIN)/pip config list | sed -n -e "s/^:env:\.index-url='\(.*\)'$$/\1/p" -e "s/^global\.index-url='\(.*\)'$$/\1/p" | head -n 1
UV = UV_PYTHON_DOWNLOADS=never UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$($(PIP_INDEX))}" $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help setup lock demo test check format bench mutants clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## make .venv and node_modules with everything that the lock files pin

$(VENV)/.installed: requirements-uv.txt requirements.txt package-lock.json
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is %s. Name one: make PYTHON=/path/to/python3.13 …" % sys.version.split()[0])'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned requirements into $(VENV) and node_modules …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-uv.txt
	@$(UV) pip install --quiet --require-hashes --python $(BIN)/python --requirement requirements.txt
	@$(BIN)/npm ci --silent --no-audit --no-fund --ignore-scripts
	@printf '#!%s\nimport sys\n\nsys.path.insert(0, "%s")\n\nfrom ops.__main__ import main\n\nsys.exit(main())\n' "$(CURDIR)/$(BIN)/python" "$(CURDIR)" > $(BIN)/ops
	@chmod +x $(BIN)/ops
	@touch $@

# Each keeps the pins that its .in file leaves alone: `make lock UPGRADE=--upgrade` raises them.
lock: setup  ## pin what the .in files and package.json name, and all that it needs, with hashes
	@for name in requirements-uv lambdas/requirements lambdas/tables/requirements requirements; do \
		$(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes $(UPGRADE) \
			--custom-compile-command "make lock" --output-file $$name.txt $$name.in || exit; \
	done
	@$(BIN)/npm install --silent --package-lock-only --omit-lockfile-registry-resolved=false --no-audit --no-fund

demo: setup  ## the main job on real events: deploy to a local AWS and Connect, capture a small day, show the rows
	@$(BIN)/python -m local demo

test: setup  ## every test, the deployed system's included
	@$(BIN)/python -m pytest --numprocesses=4 --dist=loadscope --no-loadscope-reorder

check: setup  ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: setup  ## the benchmarks: about three hours; writes docs/benchmarks.md, docs/scale.md and docs/faults.md
	@$(BIN)/python -m pytest benchmarks/*.py
	@$(BIN)/python -m benchmarks load --contacts 10000 --write
	@$(BIN)/python -m benchmarks load --contacts 2000 --rate 8 --scenario alone --scenario baseline --write
	@$(BIN)/python -m benchmarks function --write
	@$(BIN)/python -m benchmarks cost --write
	@$(BIN)/python -m benchmarks scale --processes 2 --write
	@$(BIN)/python -m benchmarks check --write
	@$(BIN)/python -m benchmarks reconcile --write
	@$(BIN)/python -m benchmarks lookup --write
	@$(BIN)/python -m benchmarks tables --write
	@$(BIN)/python -m benchmarks status --write
	@$(BIN)/python -m benchmarks view --write
	@$(BIN)/python -m benchmarks erase --write
	@$(BIN)/python -m pytest tests/faults --full-matrix
	@$(BIN)/python -m pytest tests/unit/test_fuzz.py tests/unit/test_state_machine.py tests/unit/test_erase_interleaved.py --hypothesis-profile=fuzz

# In a clone, because each mutant is written into the sources.
mutants: setup  ## change the capture's rules one by one, and tell which changes no test notices (an hour or two)
	@rm -rf .local/mutants && git clone --quiet . .local/mutants
	@cd .local/mutants && cosmic-ray init tests/mutants.toml session.sqlite && cr-filter-operators session.sqlite tests/mutants.toml
	@cd .local/mutants && cosmic-ray exec tests/mutants.toml session.sqlite && cr-report --show-diff --surviving-only session.sqlite

format: setup  ## put the code into the project's format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

clean:  ## remove what the other targets made
	rm -rf $(VENV) node_modules .local cdk.out .mypy_cache .ruff_cache .pytest_cache .hypothesis
