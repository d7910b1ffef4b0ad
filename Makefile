# Two commands matter: `make quickstart` and `make test`. Each sets itself up in .venv; only Python 3.11+, pip and make are needed.

PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

# Small systems lose time to OpenMP threads; the test workers and XLA's own pool already use the cores.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS ?= 1

.PHONY: help quickstart test test-all lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   train a small ensemble on the shipped data, run dynamics, write runs/quickstart/report.html (~10 min)"
	@echo "make test         run the tests (WORKERS=$(WORKERS); PYTEST_ARGS=... is passed on)"
	@echo "make test-all     run the slow tests too"
	@echo "make lint         ruff, import contracts and pyright"
	@echo "make format       let ruff mend what it can"
	@echo "make clean        remove .venv and caches; runs/ stays"
	@echo "Another Python:   make PYTHON=python3.12 test"

quickstart: $(READY)
	$(BIN)/python train/quickstart.py

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-all: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(READY_DEV)
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@if $(BIN)/pyright --version >/dev/null 2>&1; then $(BIN)/pyright --pythonpath $(BIN)/python; \
	else echo "NOTE: pyright cannot start on this machine (it needs Node.js): types were NOT checked" >&2; fi

format: $(READY_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Where Python comes without ensurepip (Debian's python3 without python3-venv), its own pip installs into the environment.
define install
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then pip="$(BIN)/python -m pip"; else pip="$(PYTHON) -m pip --python $(BIN)/python"; fi; \
	$$pip install --quiet -c constraints.txt -e '.[$(1)]'
endef

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "eqpot needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up $(VENV) (once; a few minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV)
	$(call install,test)
	@touch $@

$(READY_DEV): $(READY)
	@echo "Adding the tools of developers to $(VENV) ..."
	$(call install,dev)
	@touch $@
