# Everything runs in .venv, which the first target to need it makes: `make demo` and
# `make test` work from python3 (3.11 to 3.13), a C++ compiler and make.

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= cpu,jax,train,examples,report,dev
# Which tests; MARKERS= is all of them.
MARKERS ?= not slow and not exhaustive

# How long each fuzz target runs.
FUZZ_SECONDS ?= 60

BIN := $(VENV)/bin
# The environment is made anew whenever what it should hold changes.
STAMP := $(VENV)/.installed-$(shell cat setup.cfg setup.py pyproject.toml keras_shift/version.py | cksum | cut -d' ' -f1)
OP := custom_ops/_shift_ops.so
OP_SOURCES := $(wildcard custom_ops/cc/*.cc custom_ops/cc/*.h) custom_ops/source_stamp.py setup.py
CC_FORMATTED := custom_ops/cc/*.cc custom_ops/cc/*.h custom_ops/fuzz/*.cc \
  custom_ops/fuzz/*.h benchmarks/*.cc
PY_SOURCES := keras_shift zoo custom_ops examples tests benchmarks tools setup.py \
  keras_shift_command.py
# Black would follow these links and treat files twice.
LINKS := '^/keras_shift/(zoo|custom_ops)/'

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help environment demo test cc-test fuzz lint format docs bench build sbom audit \
  clean

help:
	@echo "make demo     fine-tune a shift network and export it to a .tflite file"
	@echo "make test     the Python and the C++ tests; MARKERS= for the slow ones, too"
	@echo "make cc-test  the C++ tests; SANITIZE=address or thread for sanitizers"
	@echo "make fuzz     random input for kernels and package; FUZZ_SECONDS=60 for each target"
	@echo "make lint     black, isort, flake8, mypy and clang-format, changing nothing"
	@echo "make format   black, isort and clang-format"
	@echo "make docs     the documents and a reference as a site, in .build/site/"
	@echo "make bench    times of shift kernels, .tflite files and networks, with plots"
	@echo "make build    wheels and sdist in dist/"
	@echo "make sbom     what the environment consists of, in dist/; make audit checks it"
	@echo "make clean    removes all of it, the environment included"

environment: $(STAMP)

demo: $(OP)
	$(BIN)/python examples/finetune_and_export.py

test: $(OP) cc-test
	$(BIN)/python -m pytest tests -q -n auto --no-loadscope-reorder -m "$(MARKERS)"

cc-test:
	tools/cc_tests.sh

fuzz: $(OP)
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS)

lint: $(STAMP)
	$(BIN)/black --check --extend-exclude $(LINKS) $(wildcard $(PY_SOURCES))
	$(BIN)/isort --check-only $(wildcard $(PY_SOURCES))
	$(BIN)/flake8 $(wildcard $(PY_SOURCES))
	PYTHON=$(BIN)/python tools/typecheck.sh
	$(BIN)/clang-format --dry-run -Werror --ferror-limit=3 $(wildcard $(CC_FORMATTED))

format: $(STAMP)
	$(BIN)/isort $(wildcard $(PY_SOURCES))
	$(BIN)/black --extend-exclude $(LINKS) $(wildcard $(PY_SOURCES))
	$(BIN)/clang-format -i $(wildcard $(CC_FORMATTED))

docs: $(OP)
	@$(BIN)/python -c "import material, mkdocstrings_handlers.python" 2> /dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/python -m mkdocs build
	@echo "The site is in .build/site/index.html."

bench: $(OP)
	$(BIN)/python benchmarks/shift_kernels.py
	$(BIN)/python benchmarks/tflite_lowering.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/one_image.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/where_time_goes.py
	$(BIN)/python benchmarks/training.py

build: $(STAMP)
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist . ./studies
	$(BIN)/python -c "from setuptools.build_meta import build_sdist; build_sdist('dist')"
	@ls -l dist

sbom audit: $(STAMP)
	PYTHON=$(BIN)/python tools/sbom.sh $(filter audit,$@)

clean:
	rm -rf .build studies/.build .tools $(VENV) dist *.egg-info studies/*.egg-info .pytest_cache .hypothesis
	rm -rf benchmark_on_phone_output face_verification_output finetune_and_export_output \
	  replace_depthwise_output segmentation_output style_transfer_output \
	  web_page_output explain.png
	rm -f $(OP) .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The op in place, for the checkout that the tests and examples run. Without a compiler
# this says why and leaves none: everything runs on keras.ops then.
$(OP): $(OP_SOURCES) | $(STAMP)
	@echo "Compiling the op ..."
	@rm -f $@
	$(BIN)/python setup.py --quiet build_ext --inplace

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "keras_shift needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1)." ; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "No virtual environment: on Debian and Ubuntu, apt-get install python3-venv."; exit 1; }
	@echo "Installing into $(VENV), which takes some minutes (TensorFlow is large) ..."
# setup.py runs in this environment, in which Python 3.11 puts an older setuptools, and
# later ones put none; of pip's, it puts one with a known vulnerability
# No bytecode: most modules are never imported
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check "setuptools>=77" "pip>=23.3" --editable ".[$(EXTRAS)]"
	@rm -f $(VENV)/.installed-*
	@touch $@
