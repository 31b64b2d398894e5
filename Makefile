# make train: a trained, sampled, plotted model. make test: the default tests. make pod-rehearsal: processes that are
# preempted and started again in other numbers. Each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin
SETUP := setup.py pyproject.toml
.DELETE_ON_ERROR:

.PHONY: train test lint pod-rehearsal
# Huge pages for large arrays (glibc 2.35 and newer; nothing elsewhere): fewer page faults, a faster step on CPU.
train: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
train: .venv/terminal.done
	$(BIN)/python launch/train.py --config=configs/quickstart.py --workdir=runs/quickstart $(FLAGS)

test: .venv/test.done
	$(BIN)/python -m pytest -n auto --dist worksteal $(FLAGS)

pod-rehearsal: .venv/terminal.done
	$(BIN)/python launch/pod/rehearse.py $(FLAGS)

lint: .venv/lint.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'jaxseq needs Python 3.11 or newer: make PYTHON=...')"
	$(PYTHON) -m venv .venv

.venv/%.done: .venv/bin/python $(SETUP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	touch $@
