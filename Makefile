# Every command of the project; each sets up what it needs in .venv first.
# Without make, see the pip lines in README.md.

VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/stamps
# The first of these that runs and is a version coremltools supports; or: make lab PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
FRONT  := $(wildcard js/src/*.* js/src/*/*.* js/src/*/*/*.* js/package.json js/tsconfig.json)
# npm finds the Node that the test extra brings.
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help lab test macos check check-all bench docs docs-site dist try-wheel lock clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lab: $(STAMPS)/lab  ## open the tour in JupyterLab
	$(BIN)/coreml-lab lab $(ARGS)

test: $(STAMPS)/test  ## run the whole test suite
	$(BIN)/pytest $(ARGS)

macos: $(STAMPS)/test  ## on a Mac: run Core ML itself and write a report to send in
	$(BIN)/pytest -m macos tests/macos $(ARGS)

check: $(STAMPS)/test $(STAMPS)/front  ## style, types, imports, spelling, notebooks, front end
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python docs/notebooks.py --check
	$(BIN)/npm --prefix js run check
	$(BIN)/npm --prefix js test

check-all: check  ## the above, all tests with coverage, and the benches
	$(BIN)/pytest -n auto --dist loadgroup --cov -m ''
	$(MAKE) bench

bench: $(STAMPS)/test  ## measure and print ratios; results are kept in .bench/
	$(BIN)/python -m tests.benchmarks

docs: $(STAMPS)/test  ## write the generated tables of docs/ again
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/operations.py
	$(BIN)/python docs/calibration.py
	$(BIN)/python docs/placement.py
	$(BIN)/python docs/layers.py

docs-site: $(STAMPS)/docs  ## build the manual in site/, strictly; open site/index.html
	$(BIN)/sphinx-build -E -b html -W --keep-going -q -d build/doctrees docs site

dist: $(STAMPS)/test  ## build wheel and sdist in dist/, and check what is in them
	$(BIN)/pip install --quiet build twine
	rm -rf dist && $(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	DIST=dist $(BIN)/pytest -m sweep tests/test_package.py

lock:  ## write the versions that are installed here to requirements.lock
	(sed -n '/^#/p' requirements.lock; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' | grep '==') > build.lock
	mv build.lock requirements.lock

try-wheel:  ## install the wheel of dist/ in an empty environment and run a network there
	rm -rf build/try && "$(PYTHON)" -m venv build/try
	build/try/bin/pip install --quiet dist/*.whl && build/try/bin/pip check
	cd build && try/bin/coreml-lab doctor && try/bin/python -c "import coreml_lab as cl; \
		print(cl.zoo.digits().predict(cl.zoo.inputs('digits'))['output'].shape, cl.__file__)"

clean:  ## remove .venv and everything built
	rm -rf $(VENV) js/node_modules build dist site .bench htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "needs Python 3.11, 3.12 or 3.13; try: make lab PYTHON=/path/to/python3.12"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(STAMPS)/lab: pyproject.toml $(FRONT) | $(BIN)/pip
	$(BIN)/pip install -e ".[course]"
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/test: pyproject.toml $(FRONT) | $(BIN)/pip
	$(BIN)/pip install -e ".[test]"
	@mkdir -p $(STAMPS) && touch $@ $(STAMPS)/lab

$(STAMPS)/docs: pyproject.toml | $(STAMPS)/test
	$(BIN)/pip install -e ".[docs]"
	@touch $@

$(STAMPS)/front: js/package.json $(STAMPS)/test
	$(BIN)/npm --prefix js install --no-audit --no-fund
	@mkdir -p $(STAMPS) && touch $@
