# `make` lists the targets. Everything is installed into ./.venv by plain pip, under the pins of constraints.txt.
PYTHON ?= python3
WORKERS ?= 2
ARGS ?=

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell grep '^torch==' constraints.txt)
# The stamp names what was installed and where, so a changed file or a moved checkout sets up again.
STAMP := $(VENV)/.ready-$(shell { pwd; cat pyproject.toml constraints.txt; } | cksum | cut -d' ' -f1)

RECENT := import sys; sys.exit(sys.version_info < (3, 11))
# pip writes INSTALLER after the files and scripts of a package: one without it was cut off half-way, yet pip
# would take it for installed.
WHOLE_VENV := import importlib.metadata as m, sys; \
	sys.exit(sys.version_info < (3, 11) or m.distribution("pip").read_text("INSTALLER") is None)
DROP_HALVES := import importlib.metadata as m, shutil; \
	[shutil.rmtree(d._path) for d in m.distributions() \
	 if d._path.suffix == ".dist-info" and d.read_text("INSTALLER") is None]

.PHONY: help setup demo test lint types check clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 16
	@echo "Options: PYTHON=python3.12 (for setup), WORKERS=4 and ARGS='-k name' (for test)"

setup: $(STAMP)  ## install everything into .venv (once; an interrupted set-up is completed)

$(STAMP):
	@rm -f $(VENV)/.ready-*
	@if ! $(BIN)/python -c '$(WHOLE_VENV)' 2>/dev/null; then \
	  $(PYTHON) -c '$(RECENT)' 2>/dev/null || { \
	    echo "remask needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1)" >&2; \
	    echo "Name another one:  make setup PYTHON=python3.12" >&2; exit 1; }; \
	  echo "Creating $(VENV)"; $(PYTHON) -m venv --clear $(VENV); fi
	@$(BIN)/python -c '$(DROP_HALVES)'
	@if [ -t 1 ]; then quiet=; else quiet=-q; fi; \
	echo "Installing $(TORCH) (1 of 2)"; \
	$(BIN)/python -m pip install $$quiet -c constraints.txt $(TORCH) && \
	echo "Installing remask and its dependencies (2 of 2)" && \
	$(BIN)/python -m pip install $$quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## the whole job in a few minutes on a CPU; the report lands in runs/demo
	$(BIN)/remask demo --out runs/demo

# Bytecode is kept even where the environment forbids it: each process that a test starts would compile remask again,
# and pytest would rewrite every assertion again in every run.
test: setup  ## run the tests
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: setup  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## pyright
	$(BIN)/pyright

check: lint types test  ## lint, types and tests

clean:  ## remove caches and builds (.venv and runs stay)
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
