# Every target sets up what it needs in .venv from requirements.lock; only python3, pip and git must be there.
PYTHON ?= python3
PY := .venv/bin/python
MINUTES ?= 60
INPUTS ?= 1000000
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start hundreds of processes: without bytecode each compiles the package anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help venv demo test test-all bench soak lint lock clean

help:              ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

venv: .venv/ready  ## The reproducible environment, of PYTHON=python3

.venv/ready: requirements.lock pyproject.toml
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@echo "installing the locked environment into .venv (once)"
	@$(PY) -m pip install -q --no-deps --require-hashes -r requirements.lock
	@$(PY) -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

demo: venv         ## The main job, on a terminal, in under a minute
	@$(PY) -m livecfg demo --story

test: venv lint    ## Lint, types, import contracts, tests: under 15 minutes on 2 cores
	$(PY) -m pytest -q -n 2 --dist loadfile -m "not slow"

test-all: test     ## The slow suites too: what CI runs, under 45 minutes
	$(PY) -m pytest -q -n 2 --dist loadfile -m slow

bench: venv        ## Every benchmark, as tables; JSON=1 for one object per figure, PEERS=1 against other clients
	@for f in $(filter-out benchmarks/figures.py benchmarks/peers.py benchmarks/clients.py benchmarks/native_clients.py benchmarks/constants.py,$(wildcard benchmarks/*.py)); do PYTHONPATH=. $(PY) $$f $(if $(JSON),--json) || exit 1; done

soak: venv         ## Hours: MINUTES=60 of traffic, INPUTS=1000000 fuzz inputs per parser; never in CI
	LIVECFG_SOAK_MINUTES=$(MINUTES) LIVECFG_FUZZ_INPUTS=$(INPUTS) $(PY) -m pytest -q -rP -n 2 --maxschedchunk 1 tests/soak/test_fuzz.py
	LIVECFG_SOAK_MINUTES=$(MINUTES) $(PY) -m pytest -q -s tests/soak/test_soak.py

lint: venv       ## ruff, mypy, import contracts, generated code
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo
	@proto/generate.sh --check

lock: venv         ## Renew requirements.lock from pyproject.toml
	$(PY) -m pip install -q pip-tools
	$(PY) -m piptools compile -q --all-extras --generate-hashes --strip-extras --allow-unsafe \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header -o requirements.lock pyproject.toml

clean:             ## Remove what the targets made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
