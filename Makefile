# make demo | test | test-fast | lint: each sets up what it needs in .venv first.
# Another environment or another package can be named: make test VENV=/path PACKAGE='some.whl[dev]'

VENV ?= .venv
PACKAGE ?= --editable '.[dev]'
DEMO ?= edge-demo
SITE ?= build/docs
# Files of tests that run at a time: `make test JOBS=0` runs them in one process.
JOBS ?= 2
PYTHON ?= $(shell command -v python3.11 || command -v python3)

# The pins are those of Python 3.11; a later Python takes them too, where their wheels exist for it.
CONSTRAINTS := constraints/py311.txt
TORCH := $(shell grep '^torch==' $(CONSTRAINTS))
PARALLEL := --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.molre-edge-ready
# Where `make lint` installs a copy of the package for mypy, which can't follow the editable install's package map.
TYPED := $(abspath $(VENV))/typed

.PHONY: venv torch demo test test-fast lint docs

venv: $(READY)

# torch comes first, by itself, so that the build chosen for it (CPU or CUDA) stays.
$(READY): pyproject.toml $(CONSTRAINTS)
	$(MAKE) torch
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) $(PACKAGE)
	touch $@

torch:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) $(TORCH)

demo: venv
	$(BIN)/molre-edge demo "$(DEMO)"

test: venv
	$(BIN)/pytest $(PARALLEL) -m 'not nightly' $(PYTEST_ARGS)

# A first answer: no exported model, no wheel, no scans, no training.
test-fast: venv
	$(BIN)/pytest $(PARALLEL) -m 'not chain and not slow and not nightly' $(PYTEST_ARGS)

# `build` is removed first: setuptools would pack again what an earlier build left there.
lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build $(TYPED)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target $(TYPED) .
	cd tests && MYPYPATH=$(TYPED) $(BIN)/mypy --config-file ../pyproject.toml -p molre_edge

# A link that leads nowhere, or a page that no other leads to, is an error.
docs: venv
	$(BIN)/sphinx-build --quiet --fresh-env --write-all --fail-on-warning --keep-going docs "$(SITE)"
	@echo "Open $(SITE)/index.html"
