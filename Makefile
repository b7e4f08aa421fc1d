# make demo   train SAC on Pendulum-v1 and evaluate it
# make test   the whole test suite
# make check  format, lint, types, import layers, documentation
# make docs   the documentation, in docs/_build

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check docs clean

demo: $(INSTALLED)
	$(BIN)/softac train sac Pendulum-v1 --total-timesteps 10000 --seed 0 --eval-freq 1000

test: $(INSTALLED)
	$(BIN)/pytest --numprocesses auto --dist worksteal

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sphinx-build --quiet --fail-on-warning docs docs/_build

docs: $(INSTALLED)
	$(BIN)/sphinx-build --fail-on-warning docs docs/_build

clean:
	rm -rf .venv docs/_build

# PyTorch first and by itself, from where its CPU build lies: what pip finds without being told brings gigabytes of
# CUDA packages. Where that place cannot be reached it has to do.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "softac needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments: install python3-venv (apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) --retries 1 --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 2>/dev/null || \
	  $(PIP) torch==2.13.0
	$(PIP) --editable '.[dev]'
	touch $(INSTALLED)
