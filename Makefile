# Everything sets itself up: `make demo` and `make test` work in a fresh clone.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint browser learn bench evidence cases rliable libraries docs clean

KERNELS := CMakeLists.txt $(wildcard kanbatsu/kernels/csrc/*)

$(READY): requirements/lock.txt pyproject.toml $(KERNELS)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)  ## train dense and sparse agents on a real task and write out/demo/report.html
	$(BIN)/kanbatsu study studies/demo.toml --out out/demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint browser  ## everything that CI runs
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

browser:  ## headless Chromium, which the tests open the report in; they skip where it cannot be had
	@command -v chromium > /dev/null \
	  || (DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; \
	      apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) > /dev/null 2>&1 \
	  || echo "Chromium is missing and cannot be installed here: the report's browser tests will skip"

learn: $(READY)  ## slow: learning thresholds and published curves
	$(BIN)/pytest -n 2 -m slow

bench: $(READY)  ## milliseconds per update, beside Stable-Baselines3 and SBX
	$(BIN)/python benchmarks/update.py

cases: $(READY)  ## every script in the folder CASES=..., each of which exits 0 where the behaviour is right
	@cd "$(CASES)"; failed=; for case in *.py; do \
	  if "$(CURDIR)/$(BIN)/python" "$$case" > /dev/null 2>&1; then echo "ok      $$case"; \
	  else echo "FAILED  $$case"; failed=1; fi; done; test -z "$$failed"

evidence: $(READY)  ## write docs/evidence, docs/choosing-a-sparsity.md and docs/why.md again, from the stored results alone
	$(BIN)/python -m kanbatsu.report.evidence

rliable:  ## our statistics against the rliable library, in a place of its own
	$(PYTHON) -m venv .venv-rliable
	.venv-rliable/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/lock.txt
	.venv-rliable/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/rliable.txt
	.venv-rliable/bin/python -c "import rliable.library, rliable.metrics"
	JAX_PLATFORMS=cpu .venv-rliable/bin/python -m pytest -n 0 tests/report/test_rliable.py

libraries:  ## adapters of libraries that the lock does without, in a place of its own
	$(PYTHON) -m venv .venv-libraries
	.venv-libraries/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/lock.txt
	.venv-libraries/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/libraries.txt
	.venv-libraries/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	.venv-libraries/bin/python -W ignore -c "import rejax, rl_zoo3, rsl_rl, sb3_contrib, skrl, tianshou, torchrl"
	JAX_PLATFORMS=cpu .venv-libraries/bin/python -m pytest -n 0 tests/libraries tests/hub

docs:  ## the documentation site in build/site, in a place of its own; any broken link fails
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/docs.txt
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

clean:
	rm -rf .venv .venv-* build dist
