# The whole house-keeping of kmemkit. Every target sets up what it needs, from nothing.
# `make lab UV=` does without uv, `PYTHON=python3.13` chooses an interpreter.

UV ?= uv
PYTHON ?=
DIR ?= kmemkit-lessons
ARGS ?=
RUN := .venv/bin/python -m
export UV PYTHON

.DEFAULT_GOAL := help
.PHONY: lab test check bench help

lab: .venv/ready-lab  ## lay out the lessons and open JupyterLab on the first one
	@$(RUN) kmemkit lab "$(DIR)" $(ARGS)

test: .venv/ready-dev  ## run every test: unit, golden, property, notebook, browser
	$(RUN) pytest -n 3 $(ARGS)

check: .venv/ready-dev  ## lint, types, direction of imports, Binder's configuration
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) pytest -q tests/test_imports.py
	$(RUN) scripts.check_binder

bench: .venv/ready-bench  ## measure against the peers, as ratios within one run
	$(RUN) benchmarks $(ARGS)

.venv/ready-%: pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh $*

help:  ## say what there is
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST)
