PYTHON ?= python3
BIN = .venv/bin
DEMO = runs/demo
# A CUDA version, as in `make CUDA=12 demo`, installs JAX for it.
CUDA ?=
INSTALLED = .venv/installed$(CUDA:%=-cuda%)

.PHONY: demo test test-slow test-onnx lint onnx clean

demo: $(INSTALLED)  ## a teacher, a student alone and a distilled one, on digits
	$(BIN)/python -m experiments.compare --data=digits --pairs=wrn_16_2-wrn_10_1 \
	  --methods=none,overhaul --seeds=3 --out=$(DEMO)
	$(BIN)/python -m experiments.report --runs=$(DEMO)

test: $(INSTALLED)  ## the test suite, a file at a time on every core
	$(BIN)/python -m pytest -n auto --maxprocesses=8 --dist=loadfile

test-slow: $(INSTALLED)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-onnx: onnx  ## the tests of the ONNX export
	$(BIN)/python -m pytest tests/export/test_export.py -k onnx

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

onnx: $(INSTALLED)  ## what kdjax.export --format=onnx needs
	$(BIN)/python -m pip install --quiet --requirement requirements-onnx.txt

$(INSTALLED): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  f"kdjax needs Python 3.11 or newer, not {sys.version.split()[0]}: \
	  make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt \
	  $(CUDA:%='jax[cuda%]')
	touch $@

clean:
	rm -rf .venv build
