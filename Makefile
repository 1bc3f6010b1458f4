# The commands of this house. `make` lists them. Each sets up what it needs in `.venv`: `make run` the packages of
# `requirements-run.lock`, all others those of `requirements.lock`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Any Python from 3.11 on. It is used once, to make the virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Stamps of finished installations: of all packages, and of those that the server and the command line need.
INSTALLED := $(VENV)/.installed
RUNTIME := $(VENV)/.runtime
# Test processes at a time: half as many again as processors, as a third of a test's time it waits for a disk, a deadline
# or a process that ends.
WORKERS ?= $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )))
# More arguments for pytest, such as ARGS="-k orders".
ARGS ?=

# On a terminal a server gets a process group of its own, so that Ctrl-C reaches it and not `make`, which would call
# its orderly end an error. Without a terminal it takes the place of the shell and so gets the shell's signals.
foreground = if [ -t 0 ]; then set -m; $(1); else exec $(1); fi

##@ Use

.PHONY: run
run: $(RUNTIME) ## Serve Storekeep on this machine, with a sample catalogue on the first start; Ctrl-C stops it
	@$(BIN)/storekeep-server migrate
	@$(call foreground,$(BIN)/storekeep-server serve --sample)

##@ Work

.PHONY: setup test check check-style check-types check-layers check-generated check-contract check-packages format generate lock sbom
setup: $(INSTALLED) ## Make the virtual environment, or bring it up to date with the lock

test: $(INSTALLED) ## Run all tests; ARGS="-k orders" chooses some, WORKERS=1 runs one at a time
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: check-style check-types check-layers check-generated check-contract check-packages ## Check all that CI checks before the tests

check-style: $(INSTALLED) ## ... the style of the Python code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: $(INSTALLED) ## ... its types
	$(BIN)/mypy

check-layers: $(INSTALLED) ## ... who imports whom
	$(BIN)/lint-imports --no-cache

check-generated: $(INSTALLED) ## ... that generated/ and docs/reference/ are up to date
	$(BIN)/python protos/generate.py --check
	$(BIN)/python docs/generate.py --check

check-contract: $(INSTALLED) ## ... the contract's style, and that it breaks nothing of the last release
	$(BIN)/buf format --diff --exit-code --path protos/storekeep
	$(BIN)/python protos/lint.py

check-packages: $(INSTALLED) ## ... that no package is unused, missing, or known to be vulnerable
	$(BIN)/deptry server clients generated
	$(BIN)/deptry --ignore DEP002,DEP004 benchmarks docs protos supply tests
	$(BIN)/python -m supply.audit

format: $(INSTALLED) ## Format the Python code and the contract
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/buf format --write --path protos/storekeep

generate: $(INSTALLED) ## Write generated/ and docs/reference/ from the contract and the code
	$(BIN)/python protos/generate.py
	$(BIN)/python docs/generate.py

# Neither lock names an index. The second is part of the first: the same versions of what is needed to run.
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet

lock: $(INSTALLED) ## Write the locks from pyproject.toml; UPGRADE=1 takes the newest versions
	$(LOCK) $(if $(UPGRADE),--upgrade) --all-extras --output-file requirements.lock
	$(LOCK) --constraint requirements.lock --extra server --extra postgres --extra cli --extra build \
	  --output-file requirements-run.lock

sbom: $(INSTALLED) ## Write build/sbom.cdx.json, the bill of materials (CycloneDX) of what is shipped
	$(BIN)/python -m supply.sbom

##@ Prove

.PHONY: bench prove
bench: $(INSTALLED) ## Measure the hot paths beside their floors and a peer; prints ratios
	$(BIN)/python -m benchmarks $(ARGS)

prove: $(INSTALLED) ## Kill, fuzz and crowd the server for an hour and a half, or PROVE_ROUNDS and PROVE_SECONDS
	$(BIN)/pytest -n 0 -v -s -rs -o faulthandler_timeout=3600 tests/prove tests/real $(ARGS)
	PROVE_OUTAGE_S=30 $(BIN)/pytest -n 0 -v tests/store/test_outages.py -k under_load

##@ House

.PHONY: help clean
help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

clean: ## Remove what the commands made, but not the data in var/
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that has lost its Python or its packages, as after an upgrade of the system, is made anew.
ifneq ($(wildcard $(INSTALLED) $(RUNTIME)),)
  ifneq ($(shell $(BIN)/python -c 'import importlib.util as u; print(bool(u.find_spec("grpc")))' 2>/dev/null),True)
    $(shell rm -f $(INSTALLED) $(RUNTIME))
  endif
endif

$(RUNTIME): requirements-run.lock pyproject.toml
	@supply/install.sh $(PYTHON) $(VENV) requirements-run.lock "what Storekeep needs to run (165 MB)"
	@touch $@

$(INSTALLED): requirements.lock pyproject.toml
	@supply/install.sh $(PYTHON) $(VENV) requirements.lock "all tools and a PostgreSQL for the tests (560 MB)"
	@touch $(RUNTIME) $@
