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
# Number of test processes: two for each processor, because tests wait a third of the time for disks, deadlines and
# processes, often several at once.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) * 2 )))
# Additional arguments for pytest, such as ARGS="-k orders".
ARGS ?=
# Let Python store its bytecode, also where containers turn this off: each test process would compile all tests again,
# and each program that a test starts all of Storekeep.
export PYTHONDONTWRITEBYTECODE :=

# On a terminal, the programs of `make run` get their own process group, so that Ctrl-C reaches them and not `make`, which
# would report their clean exit as an error. Without a terminal, the server replaces the shell to receive its signals.
# The gateway of `make run`. It reaches the server at its configured address, prints its own after the server's lines,
# which end with the file $ready, and ends with the server. If it fails, the server runs on, which is said only once the
# server listens; the shell's own message about a killed program, which has the whole command in it, is dropped.
gateway = STOREKEEP_GATEWAY_SERVER_ADDRESS="$${STOREKEEP_GATEWAY_SERVER_ADDRESS:-$${STOREKEEP_LISTEN:-127.0.0.1:50051}}" \
  STOREKEEP_GATEWAY_ACCESS_LOG="$${STOREKEEP_GATEWAY_ACCESS_LOG:-off}" \
  STOREKEEP_GATEWAY_CONSOLE_KEY_FILE="$${STOREKEEP_GATEWAY_CONSOLE_KEY_FILE:-$${STOREKEEP_DATA_DIR:-var}/admin.key}" \
  $(BIN)/storekeep-gateway serve
# The server of `make run` logs to a file, so that a line for each request does not scroll away what the programs print.
log_to_file = STOREKEEP_LOG_FILE="$${STOREKEEP_LOG_FILE:-$${STOREKEEP_DATA_DIR:-var}/server.log}"
tell_without_gateway = { until [ -e "$$ready" ] || ! kill -0 $$server; do sleep 0.1; done; \
  [ ! -e "$$ready" ] || echo "$(without_gateway)" >&3; }
without_gateway = The HTTP gateway has ended, so HTTP is not served. Stop and run again to start it; gRPC is not affected.

##@ Use

.PHONY: run
run: $(RUNTIME) ## Run Storekeep on this machine; the first start loads a sample catalogue; Ctrl-C stops it
	@both() { server=$$BASHPID; ready=$$(mktemp --dry-run -t storekeep-run.XXXXXX); \
	  { exec 3>&2 2>/dev/null; $(gateway) --end-with $$server --announce-after "$$ready" 2>&3 || $(tell_without_gateway); } & \
	  exec env $(log_to_file) $(BIN)/storekeep-server serve --migrate --sample --address-file "$$ready"; }; \
	if [ -t 0 ]; then set -m; (both); else both; fi

##@ Work

.PHONY: setup test contract check check-style check-types check-layers check-generated check-contract check-packages format generate lock sbom
setup: $(INSTALLED) ## Create the virtual environment, or update it to the lock

test: $(INSTALLED) ## Run all tests; ARGS="-k orders" selects some, WORKERS=1 runs one at a time
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

# All run at once, because one takes as long as all others together, and pip-audit waits for the network.
check: $(INSTALLED) ## Run all static checks, as CI does before the tests
	@$(MAKE) --jobs --keep-going --output-sync=target check-types check-style check-layers check-generated check-contract check-packages

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
	@supply/install.sh $(PYTHON) $(VENV) requirements-run.lock "the packages that Storekeep needs to run (270 MB)"
	@touch $@

$(INSTALLED): requirements.lock pyproject.toml
	@supply/install.sh $(PYTHON) $(VENV) requirements.lock "all tools, and PostgreSQL for the tests (740 MB)"
	@touch $(RUNTIME) $@
