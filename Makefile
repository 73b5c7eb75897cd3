# A fresh machine needs Python 3.11 and two commands: `make train` and `make test`. Each sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
RUN_DIR ?= runs/make_train
# Two workers with a thread each: most tests use one core. A file's tests stay together, so its fixtures are made once.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup train test quick lint format benchmark data clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# A stamp is older than its inputs exactly when its set-up is out of date.
INSTALL = $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

$(VENV)/.core: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no python3 found; install Python 3.11 or set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(INSTALL) -e ".[dev,deepspeed,huggingface]"
	touch $@

$(VENV)/.benchmark: $(VENV)/.dev
	$(INSTALL) -e ".[dev,deepspeed,huggingface]"
	touch $@

setup: $(VENV)/.dev  ## make .venv and install the pinned packages

train: $(VENV)/.core  ## train APT on HLBD on this machine and show what it learned (RUN_DIR=... for another run)
	$(PY) train.py --backend playground --config playground_cpu --run-dir $(RUN_DIR) --resume

test: setup lint  ## all checks and all tests
	$(PYTEST)

quick: setup  ## the fast tests only
	$(PYTEST) -m "not slow" -q

lint: setup  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: setup  ## put the code into its standard form
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

benchmark: $(VENV)/.benchmark  ## print speed ratios against peers measured in the same run (takes minutes; nothing else should run)
	$(PY) benchmarks/throughput.py
	$(PY) benchmarks/attention.py
	$(PY) benchmarks/stabilizer.py
	$(PY) benchmarks/monitor.py
	$(PY) benchmarks/estimate.py

data: setup  ## write the data files anew (they come out byte for byte the same)
	$(PY) tools/generate_hlbd_hardcore.py --version 1
	$(PY) tools/generate_hlbd_hardcore.py --version 2
	$(PY) tools/generate_hlbd_full.py

clean:  ## delete caches and the set-up, no runs and no data
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
