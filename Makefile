# SPDX-License-Identifier: Apache-2.0
# Needs Python 3.10 or newer with venv, a C++ compiler and make. The rest comes into .venv, pinned by constraints.txt.

AT_LEAST_310 := -c 'import sys; sys.exit(sys.version_info < (3, 10))'
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.10 python; do \
	$$p $(AT_LEAST_310) 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PACKAGE_DIRS := $(wildcard bebert_edge exporters custom_ops cmake)
# Folders are listed too: deleting or renaming a file changes the time of its folder.
SOURCES := $(shell find $(PACKAGE_DIRS) -name __pycache__ -prune -o -print) \
	$(wildcard CMakeLists.txt) pyproject.toml constraints.txt
CXX_SOURCES = $(shell find $(wildcard custom_ops examples tests) -name '*.cc' -o -name '*.h')

# pip < 25.3 applies PIP_CONSTRAINT to the packages that the build needs; later versions read PIP_BUILD_CONSTRAINT.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

define install
	@command -v $(CXX) >/dev/null || { echo "No C++ compiler ($(CXX)). On Debian or Ubuntu: apt install g++" >&2; exit 1; }
	@echo "Installing bebert-edge[$(1)] into $(VENV); the first time takes some minutes."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(PIP_ARGS) '.[$(1)]'
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:  # one environment, one installation at a time
.PHONY: help demo test lint typecheck format clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "  Variables:      PYTHON=python3.12   PIP_ARGS='...' (for every pip install)   PYTEST_ARGS='-k name'"

# Export verifies the model against the checkpoint before it leaves a file.
DEMO_MODEL := build/demo/sst2.onnx
demo: $(DEMO_MODEL)  ## install, export the example ensemble to one ONNX file, run it
	$(BIN)/bebert-edge run $(DEMO_MODEL) \
		"A charming and often affecting journey." \
		"The plot is thin, the jokes are stale." \
		"I expected nothing and was still let down." \
		"Not a masterpiece, but I would watch it again tomorrow."

$(DEMO_MODEL): $(VENV)/.export $(wildcard examples/sst2/ensemble/*)
	@mkdir -p $(@D)
	$(BIN)/bebert-edge export --overwrite examples/sst2/ensemble -o $@

# The script, not `python -m pytest`: the latter puts this folder, and so the uninstalled sources, first on the path.
test: lint typecheck  ## lint, type check, then the tests, on the installed package
	$(BIN)/pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev  ## ruff and clang-format, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)

# From another folder, so that mypy sees the installed package: here bebert_edge.exporters would be missing.
typecheck: $(VENV)/.dev  ## mypy --strict on the installed package
	cd $(VENV) && bin/mypy --config-file '$(CURDIR)/pyproject.toml' --cache-dir '$(CURDIR)/.mypy_cache' -p bebert_edge

format: $(VENV)/.dev  ## apply ruff and clang-format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES)

clean:  ## delete everything the other commands made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps reinstall the package when its sources changed, and only then.
$(VENV)/.dev: $(BIN)/python $(SOURCES)
	$(call install,dev)
	@touch $(VENV)/.export $@

$(VENV)/.export: $(BIN)/python $(SOURCES)
	$(call install,export)
	@touch $@

$(BIN)/python:
	@$(or $(PYTHON),false) $(AT_LEAST_310) || { echo "$(if $(PYTHON),$(PYTHON) is not,Found no) Python 3.10 or newer." \
		"On Debian or Ubuntu: apt install python3 python3-venv. To choose: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module. On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
