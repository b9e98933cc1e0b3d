# make quickstart: install, run the suite "digits", write its report.
# make test: install the test extra, check style and types, run the tests.
# make study: the study of reports/published/study; hours, and it goes on where it was stopped.
# make paper: the paper's tables and figures in full, on a GPU, as far as MINUTES go; SIZE=small tries
# it on a CPU.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart install test study paper style types clean

quickstart: install
	$(BIN)/marginbench run digits

study: install
	$(BIN)/python -m benchmarks.study

MINUTES := 40
SIZE := full
paper: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.paper --minutes $(MINUTES) --size $(SIZE)

install: $(VENV)/.installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "marginbench needs Python >= 3.11; say which: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Python compiles the few modules that are used when they are first imported: compiling all takes
# as long as the rest of the installation. Where the environment forbids it to keep what it compiled
# (as images of containers often do), every process would compile torch anew: three seconds each.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --quiet --no-compile

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (torch is large: some minutes the first time) ..."
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (torch is large: some minutes the first time) ..."
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.installed

style: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

# mypy finds packages by their folders alone. In $(TYPES) losses/, suites/ and reports/ are where
# they are installed: below marginbench.
TYPES := $(VENV)/types
types: $(VENV)/.installed-test
	@rm -rf $(TYPES) && mkdir -p $(TYPES)/marginbench
	@ln -s $(CURDIR)/marginbench/* $(CURDIR)/losses $(CURDIR)/suites $(CURDIR)/reports $(TYPES)/marginbench
	@cd $(TYPES) && ../bin/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir ../mypy-cache

# SLURM's tests mostly wait, and others wait for processes that they start: more run at a time than
# there are cores. What runs beside them prints its lines at the end. A GPU is hidden from all tests
# but those that ask for one: many compare results to the bit.
SLURM_TESTS := tests/dispatch/slurm
PYTEST := CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest --dist worksteal
ON_GPU := tests/training/test_cuda.py tests/heads/test_head_numerics.py
ONE_MORE := $$($(BIN)/python -c 'import os; print(os.cpu_count() + 1)')

test: style
	@$(MAKE) --no-print-directory types >$(VENV)/types.log 2>&1 & types=$$!; \
	$(PYTEST) --numprocesses 3 $(SLURM_TESTS) >$(VENV)/slurm.log 2>&1 & slurm=$$!; \
	$(PYTEST) --numprocesses $(ONE_MORE) --ignore $(SLURM_TESTS); failed=$$?; \
	nvidia-smi --list-gpus >/dev/null 2>&1 && { $(BIN)/python -m pytest $(ON_GPU) || failed=1; }; \
	wait $$slurm || failed=1; cat $(VENV)/slurm.log; \
	wait $$types || failed=1; cat $(VENV)/types.log; \
	exit $$failed

clean:
	rm -rf $(VENV) build dist *.egg-info
