# `make demo`, `make test`, `make test-slow`, `make test-every`, `make bench`, `make fuzz`, `make lint`, `make reference`,
# `make docs`, `make release-check`. Each sets up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# Compiled modules are kept, or each process that a test starts compiles all of the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-every bench fuzz lint reference docs release-check clean

demo: $(READY)
	$(BIN)/python examples/digits.py

test: $(READY)
	$(BIN)/python -m pytest -n logical -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -n logical -m "slow and not every"

test-every: $(READY)
	$(BIN)/python -m pytest -n logical -m every

bench: $(READY)
	$(BIN)/python -m bench

fuzz: $(READY)
	FASTNN_FUZZ_SECONDS=$${FASTNN_FUZZ_SECONDS:-3600} $(BIN)/python -m pytest tests/fuzz

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reference: $(READY)
	$(BIN)/python docs/reference.py

docs: $(READY)
	$(BIN)/python docs/website.py

# An hour and the network: see CONTRIBUTING.md, "Releasing".
release-check: $(READY)
	$(BIN)/python -m bench readme --check
	FASTNN_RELEASE=1 $(BIN)/python -m pytest tests/project/test_release.py
	@echo 'All is checked. Now build, tag and publish as CONTRIBUTING.md says under "Releasing".'

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, this is {sys.version}"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info out
