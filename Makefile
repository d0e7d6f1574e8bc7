# Four commands, each with all the set-up that a fresh machine needs:
#   make demo    run the main job on the shipped example
#   make test    lint, check the types, run the tests
#   make docs    build the documentation site in docs/_build; a warning is an error
#   make readme  run the README's commands in a clean copy of the checkout, with an environment of its own
# One that installs CI's versions first, each file checked against its hash (Python 3.11, x86-64 Linux; torch's CPU build
# is on an index of its own: export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu):
#   make locked test
# And one for each end of the dependencies' range, in a fresh environment of its own:
#   make test-oldest, make test-newest   run the command line's tests; WITH=torch==2.13.0 states a version
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready

.PHONY: demo test lint docs docs-setup readme locked test-oldest test-newest setup clean

demo: $(READY)
	$(BIN) -m examples.digits.demo

test: lint
	$(BIN) -m pytest -n auto --dist loadfile

lint: $(READY)
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m mypy

docs: $(DOCS_READY)
	$(BIN) -m sphinx -b html -q -W --keep-going docs docs/_build
	@echo docs/_build/index.html

docs-setup: $(DOCS_READY)

readme: $(READY)
	$(BIN) -m tests.readme

test-oldest test-newest: $(READY)
	$(BIN) -m benchmarks.dependency_versions $(@:test-%=%) $(WITH:%=--with %)

setup: $(READY)

# CI's environment, each file checked against its hash. `python -m benchmarks.hashes` writes the file again.
locked:
	$(PYTHON) -m venv $(VENV)
	$(BIN) -m pip install --quiet --require-hashes --requirement requirements-ci.txt
	$(BIN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

# Done again only when the versions or the package's own description change. torch goes first, by
# itself: it is by far the largest download, and every later step then finds it in place.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}; name another one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN) -m pip install --quiet --constraint constraints.txt torch setuptools
	$(BIN) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

$(DOCS_READY): $(READY)
	$(BIN) -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist demo-out docs/_build docs/reference *.egg-info .mypy_cache .pytest_cache .ruff_cache .nox
