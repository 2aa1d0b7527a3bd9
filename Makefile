PYTHON ?= python3
BIN = .venv/bin
DEMO = runs/demo
# A CUDA version, as in `make CUDA=12 demo`, installs JAX for it.
CUDA ?=
INSTALLED = .venv/installed$(CUDA:%=-cuda%)
# The first python3.13 that runs; empty if there is none.
PYTHON_3_13 = $(shell for python in python3.13 "$$(pyenv prefix 3.13)/bin/python"; do \
  "$$python" -c "" && echo "$$python" && break; done 2>/dev/null)

.PHONY: install demo test test-slow test-onnx test-3.13 lint docs onnx targets clean

demo: $(INSTALLED)  ## a teacher, a student alone and a distilled one, on digits
	$(BIN)/python -m experiments.compare --data=digits --pairs=wrn_16_2-wrn_10_1 \
	  --methods=none,overhaul --seeds=3 --out=$(DEMO)

install:  ## the environments of all tests, at once
	@$(MAKE) --jobs=2 $(INSTALLED) $(if $(PYTHON_3_13),.venv-3.13/installed)

test: $(INSTALLED)  ## the test suite, a file at a time on every core
	$(BIN)/python -m pytest -n auto --maxprocesses=8 --dist=loadfile

test-slow: $(INSTALLED)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-onnx: onnx  ## the tests of the ONNX export
	$(BIN)/python -m pytest tests/export/test_export.py -k onnx

test-3.13: ## the tests marked smoke on Python 3.13 and the newest JAX
	@if [ -z "$(PYTHON_3_13)" ]; then echo "test-3.13: skipped, no python3.13"; \
	else $(MAKE) .venv-3.13/installed && \
	  .venv-3.13/bin/python -m pytest -n auto --maxprocesses=8 -m smoke; fi

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(INSTALLED)  ## the pages that are made from the code
	$(BIN)/python -m kdjax.config > docs/configuration.md
	$(BIN)/python -m experiments.methods_page > docs/methods.md

onnx: $(INSTALLED)  ## what kdjax.export --format=onnx needs
	$(BIN)/python -m pip install --quiet --requirement requirements-onnx.txt

targets: .venv-targets/installed  ## what kdjax.compile needs, in .venv-targets

.venv-targets/installed: requirements.txt requirements-targets.txt
	$(PYTHON) -m venv .venv-targets
	.venv-targets/bin/python -m pip install --quiet --requirement requirements.txt \
	  --requirement requirements-targets.txt
	touch $@

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  f"kdjax needs Python 3.11 or newer, not {sys.version.split()[0]}: \
	  make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt \
	  $(CUDA:%='jax[cuda%]')
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv-3.13/installed: requirements.txt
	$(PYTHON_3_13) -m venv .venv-3.13
	.venv-3.13/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@

clean:
	rm -rf .venv .venv-3.13 .venv-targets build
