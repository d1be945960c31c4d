# Everything runs in .venv, which the first target that needs it makes. Python 3.11, 3.12 or 3.13; PYTHON=/path/to/python3.12 chooses one.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed.stamp
DOCS := .venv-docs
LOCKS := requirements/lock-py311.txt requirements/lock-py312.txt requirements/lock-py313.txt
PYTHON ?=
# Of `make gpu`: how long, where to, images to train on, and a PyTorch script to time beside.
MINUTES ?= 9
OUT ?= runs/gpu
DATA ?=
PEER ?=
# With JAX for the GPU; neither of the two targets makes an environment, as neither may need a network. In .venv: pip install -e '.[cuda]'
GPU_PYTHON ?= $(or $(PYTHON),$(wildcard $(BIN)/python),python3)
# Processes of `make test`; each takes up to 5 GiB of memory.
WORKERS ?= 2
# Whoever first imports a module keeps its bytecode, also where a container's PYTHONDONTWRITEBYTECODE says otherwise: without it a process
# that imports JAX and TensorFlow takes 25 seconds to start instead of 8, and the tests start many.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all test-slow test-gpu gpu lint format docs lock clean env

demo: env
	$(BIN)/python -m jigclu_jax --config=configs/demo.py --workdir=runs/demo

# A file's tests share what they train, and stay together. What needs eight devices runs in processes of its own: JAX fixes their number
# when it starts. To import all files of tests takes a process half a minute: where a mark is asked for, those alone that have it.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS)
marked = $(sort $(shell grep -rl --include='test_*.py' 'mark\.$(1)\b' tests))
test: env
	$(PYTEST) --dist loadfile --no-loadscope-reorder -m "not slow and not devices8"
	JAX_NUM_CPU_DEVICES=8 $(PYTEST) --dist worksteal -m "not slow and devices8" $(call marked,devices8)

test-slow: env
	$(PYTEST) --dist loadfile --no-loadscope-reorder -m "slow and not devices8" $(call marked,slow)
	JAX_NUM_CPU_DEVICES=8 $(PYTEST) --dist worksteal -m "slow and devices8" $(call marked,devices8)

test-all: test test-slow

# What a GPU could compute otherwise than a CPU: the authors' numbers, operations, losses, models, one step, pictures of the three places, a run
# without TensorFlow, a run that is killed.
test-gpu:
	JAX_PLATFORMS=cuda $(GPU_PYTHON) -m pytest -m "not devices8" $$($(GPU_PYTHON) benchmarks/gpu.py --tests)

# The same command goes on where it was stopped.
gpu:
	$(GPU_PYTHON) benchmarks/gpu.py --minutes=$(MINUTES) --out="$(OUT)" --data="$(DATA)" --peer="$(PEER)"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, into site/; its packages stay out of .venv. A warning (a dead link, a page in no menu) fails it.
docs: $(DOCS)/installed.stamp
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

$(DOCS)/installed.stamp: requirements/lock-docs.txt
	rm -rf $(DOCS)
	$(or $(PYTHON),python3) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --disable-pip-version-check --progress-bar off -q -r requirements/lock-docs.txt
	touch $@

env: $(STAMP)

# The stamp is written last: an interrupted installation leaves none, and the next `make` starts from an empty environment.
$(STAMP): $(LOCKS) pyproject.toml requirements.txt
	@set -eu; \
	python=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.12 python3.13 python3.11 python3 python); do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: no Python 3.11, 3.12 or 3.13 found$(if $(PYTHON), at PYTHON=$(PYTHON)); install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; \
	fi; \
	tag=$$("$$python" -c 'import sys; print("py%d%d" % sys.version_info[:2])'); \
	echo "Making $(VENV) with $$python ($$tag)"; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV) || { echo "make: $$python cannot make an environment; its venv module is missing (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }; \
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-compile -q -r "requirements/lock-$$tag.txt"; \
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps -e .; \
	touch $@

# Needs uv (https://docs.astral.sh/uv/). Anything that pins a new version goes through the whole of `make test-all` on the oldest and the newest Python.
lock:
	for version in 3.11 3.12 3.13; do \
	  uv pip compile requirements.txt requirements/dev.in --python-version $$version --python-platform linux --generate-hashes --upgrade \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -q -o requirements/lock-py$${version/./}.txt || exit 1; \
	done
	uv pip compile requirements/docs.in --python-version 3.11 --universal --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" -q -o requirements/lock-docs.txt

clean:
	rm -rf $(VENV) $(DOCS) site .cache .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
	find jigclu_jax tests -name __pycache__ -type d -prune -exec rm -rf {} +
