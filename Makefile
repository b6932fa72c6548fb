# Everything sets itself up: `make demo` and `make test` work in a fresh clone.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint browser learn bench evidence cases rliable libraries docs range without-jax workflows wheels wheel sdist pure-wheel release-check clean

KERNELS := CMakeLists.txt $(wildcard kanbatsu/kernels/csrc/*)
PIP := -m pip install --quiet --disable-pip-version-check

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
	JAX_PLATFORMS=cpu .venv-libraries/bin/python -m pytest -n 0 tests/libraries

docs:  ## the documentation site in build/site, in a place of its own; any broken link fails
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/docs.txt
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

range:  ## the core of the tests with the VERSIONS=oldest or newest of JAX, torch and their kin, in a place of its own
	$(PYTHON) -m venv .venv-range
	.venv-range/bin/python $(PIP) --upgrade -r requirements/$(VERSIONS).txt '.[jax,torch,flax]'
	.venv-range/bin/python -c "from importlib.metadata import version as v; print(*(f'{n} {v(n)}' for n in ('jax', 'torch', 'numpy')))"
	JAX_PLATFORMS=cpu .venv-range/bin/python -m pytest -n 2 -m "not slow" tests/sparsity tests/torch tests/kernels tests/nn tests/flax

without-jax:  ## what PyTorch users do, where JAX is not installed, in a place of its own
	$(PYTHON) -m venv .venv-without-jax
	.venv-without-jax/bin/python $(PIP) '.[torch]'
	! .venv-without-jax/bin/python -c "import jax" 2> /dev/null
	.venv-without-jax/bin/python release/try_kernels.py
	.venv-without-jax/bin/python release/try_torch.py

workflows:  ## lint .github/workflows, in a place of its own
	$(PYTHON) -m venv .venv-workflows
	.venv-workflows/bin/python $(PIP) -r requirements/workflows.txt
	.venv-workflows/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv-workflows/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	.venv-workflows/bin/zizmor --offline --no-progress .github/workflows
	@if command -v actionlint > /dev/null; then actionlint; else echo "actionlint is not installed: not asked"; fi

BUILDER := .venv-build/bin/python
.venv-build: requirements/build.txt
	$(PYTHON) -m venv .venv-build
	$(BUILDER) $(PIP) -r requirements/build.txt
	@touch $@

wheels: .venv-build  ## wheels for every platform that this machine builds for, in dist; Linux needs Docker or Podman
	.venv-build/bin/cibuildwheel --output-dir dist

wheel: .venv-build  ## a wheel for this machine alone, repaired, in dist
	rm -rf build/wheel && mkdir -p build/wheel
	$(BUILDER) -m build --wheel --outdir build/wheel .
	PATH="$(CURDIR)/.venv-build/bin:$$PATH" .venv-build/bin/auditwheel repair --wheel-dir dist build/wheel/*.whl

sdist: .venv-build  ## the source, in dist
	$(BUILDER) -m build --sdist --outdir dist .

pure-wheel: .venv-build  ## a wheel without kernels, which installs everywhere, in dist
	KANBATSU_PURE=1 $(BUILDER) -m build --wheel --outdir dist .

release-check:  ## whether version, change log and citation agree with TAG=v...
	$(PYTHON) release/check_release.py "$(TAG)"

clean:
	rm -rf .venv .venv-* build dist
