# Needs nothing but python3 (3.11 or newer) and make.
#   make demo    the whole idea, at work, in one go
#   make test    lint, types, import contract, every test

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.PHONY: demo test check pytest fresh bench bench-recorder bench-transports bench-replayer soak clean

demo: $(READY)
	@$(BIN)/playground demo

test: check pytest

check: $(READY)
	@$(BIN)/ruff check playground tests
	@$(BIN)/ruff format --check --quiet playground tests
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --verbose >/dev/null || $(BIN)/lint-imports

# Two workers: much of a broker's test is waiting.
pytest: $(READY)
	@$(BIN)/pytest -n 2

# The example of a user's project, from the built wheel in a fresh environment.
fresh: $(READY)
	@PLAYGROUND_FRESH_INSTALL=1 $(BIN)/pytest tests/test_pytest_plugin_examples.py

# The benchmarks, with their ratios; run on a quiet machine.
bench: $(READY)
	@$(BIN)/pytest tests/benchmarks --benchmark-enable -rP

# The bars of recording, each with its ratio; PLAYGROUND_BENCH=full takes 10 M messages.
bench-recorder: $(READY)
	@PLAYGROUND_BENCH=$${PLAYGROUND_BENCH:-short} $(BIN)/python tests/benchmarks/recorder_table.py

# The transports and hosting: one table, each figure beside its baseline.
bench-transports: $(READY)
	@$(BIN)/pytest tests/benchmarks/test_bench_transports.py --benchmark-enable -q -s
	@PLAYGROUND_REAL_S=60 $(BIN)/pytest tests/test_host_real.py -q -o faulthandler_timeout=120

# The bars of replay and diff, each with its ratio; about three minutes.
bench-replayer: $(READY)
	@PLAYGROUND_BENCH=$${PLAYGROUND_BENCH:-full} $(BIN)/python tests/benchmarks/replayer_table.py

# One stamp for the whole environment: a second call finds it and starts at once.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version)."; \
	    echo "  fix: make PYTHON=python3.12 demo"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once, about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

# The long forms of tests that CI runs short; about half an hour.
soak: $(READY)
	@PLAYGROUND_BENCH=full PLAYGROUND_TIMES=3 PLAYGROUND_REAL_S=60 $(BIN)/pytest \
	  tests/test_round_trip.py tests/test_replay_stalls.py tests/test_host_real.py \
	  tests/test_host_determinism.py tests/test_learned_stability.py \
	  -o faulthandler_timeout=1200

clean:
	rm -rf $(VENV) playground-demo .pytest_cache .mypy_cache .ruff_cache

# The table of the learned plants on the real data; takes minutes.
.PHONY: bench-plants
bench-plants: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/plants_table.py tclab rse altherma nist
