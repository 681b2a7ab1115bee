# `make demo` and `make test` need Python 3.11-3.13 and make; they create .venv themselves.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test evidence check format clean

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

demo: $(STAMP)  ## Train the embedded model on its synthetic world and print before and after
	$(BIN)/grpo-dual train configs/demo.yaml

test: check  ## Every check, then every test that needs no GPU and no minutes
	$(BIN)/python -m pytest -n 2 -m "not gpu and not slow"

evidence: $(STAMP)  ## Slow: seeds of demo and collapse, every fault against the doctor, kills, judges that fail
	$(BIN)/python -m pytest -m "slow and not gpu" || test $$? -eq 5
	$(BIN)/python scripts/seeds.py --out runs/seeds
	$(BIN)/python scripts/figure_collapse.py --out runs/collapse
	$(BIN)/python scripts/fault_suite.py --out runs/faults
	$(BIN)/python scripts/doctor_acts.py --out runs/acts
	$(BIN)/python scripts/kill_resume.py
	$(BIN)/python scripts/judge_faults.py
	$(BIN)/python scripts/judge_training.py
	$(BIN)/python scripts/judge_estimate.py

check: $(STAMP)  ## Lint, formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(STAMP)  ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
