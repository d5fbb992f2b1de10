# Edgeward. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KEEP ?= 0
# Processes that share the tests out by file; much of what they do is waiting for other processes.
WORKERS ?= 3
# Every extra but tflite-legacy, which needs numpy<2 and so an environment of its own.
LOCKED := onnx tflite hub model-signing postgresql parquet models bench dev

.PHONY: help setup demo test soak fuzz conformance check format lock docs system-tools clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v=sys.version_info[:2]; sys.exit(0 if v >= (3,11) else f"Edgeward needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Name another one: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian and Ubuntu install the package python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

setup: $(STAMP) ## Make the virtual environment with the pinned packages

demo: $(STAMP) ## Run the whole loop on this machine and show it (KEEP=1 leaves it running, with its page)
	@$(BIN)/python -m tests.acceptance.demo $(if $(filter-out 0,$(KEEP)),--keep)

test: $(STAMP) system-tools ## Run every suite, with coverage
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)

soak: $(STAMP) ## Run the long load tests and show their figures: 100 swaps and 10 crashes under persistent clients
	$(BIN)/python -m pytest -m soak -s $(ARGS)

fuzz: $(STAMP) ## Feed the parsers with noise and damaged input for minutes
	$(BIN)/python -m pytest tests/fuzz -o python_files='fuzz_*.py' -o timeout=1800 -s $(ARGS)

system-tools: ## Install what the suites need from Debian (root only; else say what is missing)
	@packaging/system-tools.sh

conformance: $(STAMP) ## Run the public TUF suite on our client, over HTTP and MQTT (SUITE=a checkout of tuf-conformance; docs/trust.md)
	@test -f "$(SUITE)/CLIENT-CLI.md" || { echo "make conformance SUITE=<a checkout of github.com/theupdateframework/tuf-conformance>"; exit 1; }
	@command -v faketime >/dev/null && command -v mosquitto >/dev/null || { echo "needs the packages faketime and mosquitto"; exit 1; }
	$(PYTHON) -m venv $(SUITE)/.venv
	$(SUITE)/.venv/bin/python -m pip install --quiet --disable-pip-version-check $(SUITE)
	for way in http mqtt; do \
	  ( cd $(SUITE) && .venv/bin/python -m pytest -q tuf_conformance $(ARGS) \
	    --entrypoint "$(CURDIR)/$(BIN)/python $(CURDIR)/tests/conformance/client.py --fetcher $$way" ); done

check: $(STAMP) ## Format, lint, types, import rules, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

format: $(STAMP) ## Let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP) ## Pin the dependencies anew (uv pip compile; names no index host)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(LOCKED:%=--extra %) --generate-hashes \
	  --no-emit-index-url --no-strip-extras --custom-compile-command "make lock" pyproject.toml -o requirements.lock

docs: $(STAMP) ## Make the pages that come from the code anew
	$(BIN)/python -m agent.cli.document > docs/cli.md
	$(BIN)/python -m agent.cli.document_config > docs/configuration.md
	$(BIN)/python -m agent.cli.document_privacy > docs/privacy.md
	$(BIN)/python -m cloud_hub.cli.document_config > docs/hub-configuration.md
	$(BIN)/python -m agent.runner.backends.document > docs/backends.md
	$(BIN)/python -m models.reference.document > docs/drift-reference.md
	$(BIN)/python -c 'from agent.core.diagram import page; print(page(), end="")' > docs/update-machine.md

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
