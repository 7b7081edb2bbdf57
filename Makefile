# The commands: `make demo` (the tour), `make serve` (be the visitor of its shop) and `make test`. Everything lands in .venv and runs/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-for-tests
SERVE_STAMP := $(VENV)/.installed-for-serving
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SHELL := /bin/bash

.PHONY: demo serve setup test check audit faults coverage mutants docs format clean help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# PyPI's torch for Linux on x86 processors brings CUDA's libraries, several gigabytes. For processors alone:
#   make setup TORCH_INDEX=URL, with the index of CPU builds that the installation page of PyTorch names
# Every target takes it, also from the environment. No pip configuration of the machine is needed; one that offers
# another build of the same version, such as a folder of wheels (find-links), is obeyed, and the last line tells which.
TORCH_INDEX ?=
TORCH := torch==$(shell sed -n 's/^torch==//p' requirements.txt)

setup: $(STAMP)  ## make .venv with the pinned versions that the demo needs; TORCH_INDEX=URL says where torch is from

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mkmsr needs Python 3.11 or newer; try: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH_INDEX),)
ifeq ($(shell uname -sm),Linux x86_64)
	@echo "Installing torch. PyPI's build for Linux brings CUDA's libraries, several gigabytes; without a GPU, stop this and"
	@echo "type: make setup TORCH_INDEX=URL, with the index of CPU builds that PyTorch's installation page names."
endif
	$(PIP) "$(TORCH)"
else
	$(PIP) --no-deps --index-url "$(TORCH_INDEX)" "$(TORCH)"
endif
	$(PIP) --requirement requirements.txt
	$(PIP) --no-deps --editable .
	@$(BIN)/python -c 'import torch; print("torch", torch.__version__, f"with CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA")'
	@touch $@

$(TEST_STAMP): $(STAMP) requirements-test.txt
	$(PIP) --requirement requirements-test.txt
	@touch $@

$(SERVE_STAMP): $(STAMP) requirements-test.txt
	$(PIP) --constraint requirements-test.txt --editable '.[serve]'
	@touch $@

demo: setup  ## simulate a shop, train COMPASS beside MKM-SR, V-SkNN and recency, recommend, write an HTML report
	$(BIN)/mkmsr demo --out runs/demo

serve: $(SERVE_STAMP) runs/demo/compass/bundle/bundle.json  ## be the visitor of the demo's shop, in a browser; PORT=8420
	$(BIN)/mkmsr serve runs/demo/compass/bundle --beside runs/demo/mkm-sr/bundle --port $(PORT)

PORT := 8420

runs/demo/compass/bundle/bundle.json:
	$(MAKE) demo

test: $(TEST_STAMP)  ## run the fast tests, at least one of each behaviour
	$(BIN)/python -m pytest -m "not slow"

check: $(TEST_STAMP)  ## format, lint, strict types, import contracts, documentation, all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(DOCS)
	$(BIN)/python benchmarks/audit.py
	$(BIN)/python -m pytest

audit: $(TEST_STAMP)  ## ask PyPI's advisory database about the pinned versions
	$(BIN)/python benchmarks/audit.py

faults: $(TEST_STAMP)  ## kills, full disks and half a million changed inputs; an hour, goes on where it stopped
	$(BIN)/python benchmarks/faults/kills.py --out runs/faults
	POLARS_MAX_THREADS=1 $(BIN)/python benchmarks/faults/inputs.py --out runs/faults

coverage: $(TEST_STAMP)  ## lines and branches that the fast tests reach, in subprocesses too: at least 92 % and 85 %
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=miss
	$(BIN)/coverage json --quiet -o - | $(BIN)/python -c 'import json, sys; of = json.load(sys.stdin)["totals"]; \
		lines, branches = of["percent_statements_covered"], of["percent_branches_covered"]; \
		print(f"{lines:.1f} % of lines, {branches:.1f} % of branches"); sys.exit(lines < 92 or branches < 85)'

DOCS := $(BIN)/zensical build --strict --clean

mutants: $(TEST_STAMP)  ## change single operators of metrics, splits, graphs, strategies and times: does a test notice?
	$(PIP) mutmut==3.8.1
	$(BIN)/mutmut run --max-children 2 $(ONLY)
	$(BIN)/mutmut results

docs: $(TEST_STAMP)  ## write the documentation site to site/; a warning is an error
	$(DOCS)

format: $(TEST_STAMP)  ## format the code in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and everything that the demo wrote
	rm -rf $(VENV) runs/demo build dist site .cache
