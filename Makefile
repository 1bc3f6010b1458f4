# The commands of this project. `make` lists them. Each command installs its packages into `.venv`: `make run` those of
# `requirements-run.lock`, all others those of `requirements.lock`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Any Python from 3.11 on. It is used only to create the virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Stamp files of finished installations: of all packages, and of the packages that the server and the command line need.
INSTALLED := $(VENV)/.installed
RUNTIME := $(VENV)/.runtime
# Number of test processes: 1.5 for each processor, because tests wait a third of the time for disks, deadlines and
# processes.
WORKERS ?= $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )))
# Additional arguments for pytest, such as ARGS="-k orders".
ARGS ?=

# On a terminal, the programs of `make run` get their own process group, so that Ctrl-C reaches them and not `make`, which
# would report their clean exit as an error. Without a terminal, the server replaces the shell to receive its signals.
# The gateway of `make run`. It reaches the server at its configured address, and ends with it.
gateway = STOREKEEP_GATEWAY_SERVER_ADDRESS="$${STOREKEEP_GATEWAY_SERVER_ADDRESS:-$${STOREKEEP_LISTEN:-127.0.0.1:50051}}" \
  STOREKEEP_GATEWAY_ACCESS_LOG="$${STOREKEEP_GATEWAY_ACCESS_LOG:-off}" $(BIN)/storekeep-gateway serve

##@ Use

.PHONY: run
run: $(RUNTIME) ## Run Storekeep on this machine; the first start loads a sample catalogue; Ctrl-C stops it
	@both() { server=$$BASHPID; $(gateway) --end-with $$server & exec $(BIN)/storekeep-server serve --migrate --sample; }; \
	if [ -t 0 ]; then set -m; (both); else both; fi

##@ Work

.PHONY: setup test contract check check-style check-types check-layers check-generated check-contract check-packages format generate lock sbom
setup: $(INSTALLED) ## Create the virtual environment, or update it to the lock

test: $(INSTALLED) ## Run all tests; ARGS="-k orders" selects some, WORKERS=1 runs one at a time
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: check-style check-types check-layers check-generated check-contract check-packages ## Run all static checks, as CI does before the tests

check-style: $(INSTALLED) ## ... the style of the Python code (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: $(INSTALLED) ## ... its types (mypy)
	$(BIN)/mypy

check-layers: $(INSTALLED) ## ... the imports between packages (import-linter)
	$(BIN)/lint-imports --no-cache

check-generated: $(INSTALLED) ## ... that generated/ and docs/reference/ are up to date
	$(BIN)/python protos/generate.py --check
	$(BIN)/python docs/generate.py --check

check-contract: $(INSTALLED) ## ... the contract's style and its compatibility with the last release (buf)
	$(BIN)/buf format --diff --exit-code --path protos/storekeep
	$(BIN)/python protos/lint.py

check-packages: $(INSTALLED) ## ... that no package is unused, missing or known to be vulnerable
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

# Neither lock names a package index. The second is a subset of the first: the packages needed to run.
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet

lock: $(INSTALLED) ## Write the lock files from pyproject.toml; UPGRADE=1 upgrades all packages
	$(LOCK) $(if $(UPGRADE),--upgrade) --all-extras --output-file requirements.lock
	$(LOCK) --constraint requirements.lock --extra server --extra postgres --extra cli --extra gateway --extra build \
	  --output-file requirements-run.lock

contract: $(INSTALLED) ## Write build/contract/, the contract with its imports, for compilers of other languages
	$(BIN)/python protos/export.py

sbom: $(INSTALLED) ## Write build/sbom.cdx.json, the bill of materials (CycloneDX) of the shipped packages
	$(BIN)/python -m supply.sbom

##@ Prove

.PHONY: bench prove
bench: $(INSTALLED) ## Measure performance against floors and a peer; prints ratios
	$(BIN)/python -m benchmarks $(ARGS)

prove: $(INSTALLED) ## Run the long robustness tests (kills, fuzzing, many clients); 90 minutes, or set PROVE_ROUNDS and PROVE_SECONDS
	$(BIN)/pytest -n 0 -v -s -rs -o faulthandler_timeout=3600 tests/prove tests/real $(ARGS)
	PROVE_OUTAGE_S=30 $(BIN)/pytest -n 0 -v tests/store/test_outages.py -k under_load

##@ Other

.PHONY: help clean
help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

clean: ## Remove all generated files, but keep the data in var/
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Reinstall an environment that has lost its Python or its packages, for example after a system upgrade.
ifneq ($(wildcard $(INSTALLED) $(RUNTIME)),)
  ifneq ($(shell $(BIN)/python -c 'import importlib.util as u; print(bool(u.find_spec("grpc")))' 2>/dev/null),True)
    $(shell rm -f $(INSTALLED) $(RUNTIME))
  endif
endif

$(RUNTIME): requirements-run.lock pyproject.toml
	@supply/install.sh $(PYTHON) $(VENV) requirements-run.lock "the packages that Storekeep needs to run (205 MB)"
	@touch $@

$(INSTALLED): requirements.lock pyproject.toml
	@supply/install.sh $(PYTHON) $(VENV) requirements.lock "all tools, and PostgreSQL for the tests (740 MB)"
	@touch $(RUNTIME) $@
