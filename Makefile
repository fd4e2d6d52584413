# Commands for development; see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV_VERSION := 0.13.9

.DEFAULT_GOAL := help
.PHONY: help install demo first-hour test test-all image-test test-ray soak chaos lint types unit proto pages lock format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## Create .venv and install everything, at the versions of requirements.lock

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("ganserve needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "== installing into $(VENV) (a minute or two; torch is large)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --compile-bytecode --requirement requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --no-deps --editable .
	@touch $@

demo: $(INSTALLED) ## Train, export, serve and fetch a grid of digits, all under demo/
	$(BIN)/python scripts/demo.py

first-hour: $(INSTALLED) ## Walk from a folder of drawings to the browser under first-hour/, and print the minutes
	$(BIN)/python -m scripts.first_hour

test: lint types unit ## Check style and types, and run the tests

test-all: lint types ## The same plus the slow tests, which start and kill many processes
	$(BIN)/python -m pytest -m "not ray"

test-ray: $(INSTALLED) ## Try a Ray Serve cluster for at most 5 minutes, in .venv-ray; needs an idle machine
	$(BIN)/uv venv --quiet --allow-existing .venv-ray
	VIRTUAL_ENV=$(CURDIR)/.venv-ray $(BIN)/uv pip install --quiet --constraint requirements.lock --editable '.[ray]' hypothesis onnx pytest pytest-asyncio pytest-timeout pyyaml
	timeout --signal=INT 300 .venv-ray/bin/python -m pytest -p no:xdist -o addopts=--import-mode=importlib -m ray tests/server/ray_serve

image-test: $(INSTALLED) ## Build the Dockerfile's targets without Docker, and run them on a read-only root; needs root
	$(BIN)/python -m scripts.image_test $(TARGETS)

soak: $(INSTALLED) ## Load a server at 80% for 20 minutes: does its memory grow, or its throughput fall?
	$(BIN)/python -m benchmarks.soak

chaos: $(INSTALLED) ## Send 50,000 good, bad, hurried and cancelled requests during swaps and a restart
	$(BIN)/python -m benchmarks.chaos

lint: $(INSTALLED) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## Check types
	$(BIN)/mypy

unit: $(INSTALLED) ## Run only the tests
	$(BIN)/python -m pytest

proto: $(INSTALLED) ## Generate the stubs in ganserve/ from proto/
	$(BIN)/python -m grpc_tools.protoc --proto_path=proto --python_out=. --pyi_out=. --grpc_python_out=. \
		proto/ganserve/v1/*.proto

pages: $(INSTALLED) ## Regenerate the generated parts of README.md, docs/ and deploy/
	$(BIN)/python -m scripts.presets_table
	$(BIN)/python -m scripts.ganclient_page
	$(BIN)/python -m scripts.dashboard
	$(BIN)/python -m scripts.prometheus_rule
	$(BIN)/python -m scripts.gallery_table

lock: $(INSTALLED) ## Update requirements.lock to the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --generate-hashes \
		pyproject.toml --output-file requirements.lock

format: $(INSTALLED) ## Format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove everything that the commands above create
	rm -rf $(VENV) .venv-ray demo first-hour .pytest_cache .mypy_cache .ruff_cache .hypothesis
