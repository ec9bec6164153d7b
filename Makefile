# Every job of this checkout. Needs Python 3.11 or newer, make and pip; `make help` lists the targets.
# A stamp beside the virtual environment tells which lock file it was filled from.

PYTHON ?= python3
ONCE ?=
ARGS ?=
SEED ?= 7
MINUTES ?= 10
PARALLEL ?= --numprocesses=auto --maxprocesses=4 --dist=loadfile

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
UV := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
export CHROMIUM

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: .venv/run.stamp ## start the platform and run the main example; ONCE=1 stops after the example
	@exec $(BIN)/python -m orchestrator up $(if $(ONCE),--once)

.PHONY: stop
stop: .venv/run.stamp ## stop what a killed `make run` left running
	@$(BIN)/python -m orchestrator down

.PHONY: test
test: .venv/dev.stamp contracts ## check the contracts and run every test; ARGS="-k name" narrows it
ifeq ($(CHROMIUM),)
	@echo "NOTE: no Chromium was found, so the browser tests are left out."
	@echo "      Install it (Debian: apt-get install chromium) or set CHROMIUM=/path/to/chromium."
	$(BIN)/python -m pytest $(PARALLEL) -m "not browser" $(ARGS)
else
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)
endif

.PHONY: contracts
contracts: .venv/dev.stamp
	$(BIN)/lint-imports --no-logo

.PHONY: lint
lint: .venv/dev.stamp contracts ## check style, formatting and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: .venv/dev.stamp ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: types
types: .venv/dev.stamp ## check the types
	$(BIN)/mypy

.PHONY: bench
bench: .venv/run.stamp ## measure beside bare Celery (some ten minutes); ARGS="--only chain --repeats 5" narrows
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: chaos
chaos: .venv/dev.stamp ## put a platform of its own through faults and judge it; SEED=7 MINUTES=10
	@$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) $(ARGS)

.PHONY: shell
shell: .venv/run.stamp ## open a Python shell on the running platform
	@$(BIN)/python manage.py shell

.PHONY: migrations
migrations: .venv/run.stamp ## write the migrations that the models lack
	$(BIN)/python manage.py makemigrations

.PHONY: lock
lock: .venv/dev.stamp ## pin the newest versions that pyproject.toml allows, for every Python and system
	$(UV) --upgrade --output-file requirements.lock
	$(UV) --upgrade --extra dev --constraint requirements.lock --output-file requirements-dev.lock

.PHONY: clean
clean: ## stop everything and delete the virtual environment and all data
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m orchestrator down --remove; fi
	rm -rf .venv .local build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements.lock | .venv/bin/python
	$(PIP) install --quiet --no-deps --requirement requirements.lock
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/run.stamp
	$(PIP) install --quiet --no-deps --requirement requirements-dev.lock
	@touch $@
