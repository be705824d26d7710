# make run: measure every AlexNet layer under every algorithm, draw the charts.  make test: ruff, mypy, pytest.
# Both set up a .venv by themselves; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := results/runs/latest
# A working nvidia-smi adds CuPy, for the CUDA major version the driver names.
CUDA := $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p' | head -n 1)
EXTRA := $(if $(filter 12,$(CUDA)),cuda12,$(if $(CUDA),cuda13,))

.PHONY: run test lint format results torch bench-cpu gpu gate-selftest docs clean

run: $(VENV)/.run
	rm -rf $(RUN)
	$(BIN)/convbench run --budget 0.6 --out $(RUN)/alexnet.csv
	$(BIN)/convbench report $(RUN)/alexnet.csv --out $(RUN)/charts

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The committed figures of this machine: RESULTS is its folder. Commit first, so that the rows name their commit.
RESULTS ?= results/amd-epyc-zen5-2-cores
GPU_RESULTS ?= results/nvidia-h100-80gb-hbm3

results: $(VENV)/.torch
	rm -f $(RESULTS)/batch1.csv $(RESULTS)/batch1.samples.csv
	$(BIN)/convbench run --budget 1 --out $(RESULTS)/batch1.csv
	$(BIN)/convbench report $(RESULTS)/batch1.csv --out $(RESULTS)/charts

# The rival's version, so that figures can be repeated.
TORCH ?= 2.13.0

torch: $(VENV)/.torch

# Ours against PyTorch on the CPU, batches 1, 16 and 64: layer by layer, and the convolutions in sequence. NET=vgg16,resnet50
# measures other layer sets; BENCH passes more options (--help of convbench.bench_cpu).
bench-cpu: $(VENV)/.torch
	$(BIN)/python -m convbench.bench_cpu --out $(RESULTS)/bench-cpu $(if $(NET),--net $(NET)) $(BENCH)

# Every CUDA kernel checked, then measured beside PyTorch and cuDNN, by this machine's own Python with its own CuPy: no
# set-up, no network. Results go to OUT, or results/<gpu>; GPU passes options (--help of convbench.bench_gpu).
gpu:
	$(PYTHON) -m convbench.bench_gpu $(if $(OUT),--out $(OUT)) $(GPU)

# How far this machine's duels can be believed: 20 of equal sides, 10 with one cell slowed down by 15 %.
gate-selftest: $(VENV)/.run
	mkdir -p $(RESULTS)/gate
	$(BIN)/python -m convbench.gate.selftest --out $(RESULTS)/gate/selftest.csv --aa 20 --injected 10 --slowdown 15%

docs: $(VENV)/.run
	$(BIN)/python -m convbench.report.readme README.md $(RESULTS)/batch1.csv
	test ! -e $(RESULTS)/bench-cpu/batch1.csv || \
	  $(BIN)/python -m convbench.report.readme README.md $(RESULTS)/bench-cpu
	test ! -d $(GPU_RESULTS) || $(BIN)/python -m convbench.report.readme README.md $(GPU_RESULTS)
	$(BIN)/python -m convbench.report.readme results/README.md

$(VENV)/.run: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "convbench needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(if $(EXTRA),[$(EXTRA)])'
	touch $@

$(VENV)/.test: $(VENV)/.run pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(VENV)/.torch: $(VENV)/.run pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . torch==$(TORCH)
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
