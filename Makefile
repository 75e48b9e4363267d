# make demo | test | test-avx2 | test-slow | lint: each makes .venv and installs into it when there is need.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile -m "not slow"

.PHONY: demo test test-avx2 test-slow lint install

demo: install
	PATH="$(CURDIR)/$(BIN):$$PATH" sh recipes/phrasebook/run.sh

test: install
	$(PYTEST)

# Laws and learning as on an x86 processor without AVX-512 and bfloat16. Without tests that start processes of their own:
# those compute the same. On other processors than x86 the variables do nothing.
test-avx2: install
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(PYTEST) tests/laws tests/overfit tests/unit/test_packed.py \
		--ignore tests/laws/test_kill.py --ignore tests/laws/test_world.py --ignore tests/laws/test_compile.py

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and $(PYTHON) is not; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into .venv (once; PyTorch is large) ..."
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --progress-bar off --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
