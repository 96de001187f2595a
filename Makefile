# `make quickstart` runs the exposure study on built-in data; `make test-all` is what CI runs.
# Needs Python 3.11 or later, git and make: PYTHON=/path/to/python names another Python.

PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart studies install lint test test-all test-pages fuzz simulate test-faults test-cluster test-docker

quickstart: install
	$(BIN)/dfloc sweep exposure

studies: install  # every study on built-in data, and one page that lists their reports
	failed=0; for file in sweeps/*.yaml; do $(BIN)/dfloc sweep $$(basename $$file .yaml) || failed=1; done; \
		$(BIN)/dfloc report --all; exit $$failed

install: .venv/.stamp

test: lint
	$(PYTEST) -m "not slow and not faults"

test-all: lint  # and what trains to a threshold, samples of faults and fuzz, every study's smoke: all in one run
	$(PYTEST) -m "not faults"

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test-pages: install  # pages on a screen, on a phone and on paper; apt-get install chromium poppler-utils
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m pages tests/report

fuzz: install  # thousands of mutated images, weights, stored and sweep files, in process: half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --write

test-faults: install  # every way to end a sweep, and 20 sweeps, disturbed at drawn moments; as root, with slurm-wlm, munge and faketime, all of them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m faults tests/sweep/test_faults.py
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --write

simulate: install  # a study through 10,000 seeds of lost power, kills and errors, at every write, and with faults put in
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.simulator --points
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.simulator --planted
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.simulator --count 10000

test-cluster: install  # as root; apt-get install openssh-server rsync iproute2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m hosts tests/cluster

test-docker: install  # builds every image as root, without a docker engine: minutes, 20 GB of disk for a while
	DFLOC_TEST_DOCKER=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/docker

.venv/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'dfloc needs Python 3.11 or later, and "$(PYTHON)" is missing or older: install it, or name another by make PYTHON=...'; exit 1; }
	@echo 'Installing into .venv: some minutes, about 7 GB'
	$(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	SAM2_BUILD_CUDA=0 $(PIP) install --constraint constraints.txt --no-build-isolation sam2
	@touch $@
