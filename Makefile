# faultwise: `make demo` answers a question, `make test` proves the rest. Only python3 (3.11 or newer) with pip is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed-for-tests
SAMPLE := assistant/samples/filling-line

export HF_HUB_OFFLINE := 1
export OMP_NUM_THREADS ?= 2

.PHONY: demo serve test check docs bench pocket recorded clean
.DEFAULT_GOAL := demo

# Made once, and again when the pinned versions change.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: python %d.%d; faultwise needs 3.11 or newer: make PYTHON=python3.11" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) 2>/dev/null || \
	  { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@echo 'Installing into $(VENV): some minutes and 3 GB, once.'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@

demo: $(READY)
	$(BIN)/faultwise ask "why does plc-4 not answer?" --capture $(SAMPLE) --plant $(SAMPLE)/plant.yaml
	@echo; echo "Watch the same plant live: \`make serve\` replays it on a page, http://127.0.0.1:7860; a first sign comes seconds after the fault, the alarm some ten."

# Eight minutes of the sample in a tenth of the time, as if it were live, from its beginning each time; a home of its own.
serve: $(READY)
	$(BIN)/faultwise serve --home $(VENV)/serve --replay $(SAMPLE) --speed 10 --anew --plant $(SAMPLE)/plant.yaml

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documents that are generated: the command reference, and tables of results.
docs: $(READY)
	$(BIN)/python tests/test_docs.py
	$(BIN)/python -m eval.research.summary

# Ratios and durations of this machine, beside their targets. nfstream is the reference, so it is installed here only.
bench: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/faultwise eval latency

# The pocket model from nothing: tokenizer, pretraining, tuning, calibration. About two hours on two cores. It reads
# simulated plants, the windows of recorded runs (`python -m finetune.recorded` made that table) and public captures.
pocket: $(READY)
	$(BIN)/faultwise finetune pocket --out assistant/pocket --data finetune/recorded.parquet \
		--data ../shared/data/iot23 --calibrate run-71 --calibrate run-72

# Twelve emulated plants, a quarter of an hour each: an hour on two cores, as root.
recorded: $(READY)
	$(BIN)/faultwise testbed run --out runs/recorded

clean:
	rm -rf $(VENV) build dist *.egg-info
