# One door each: make lint types imports test soak bench docs demo. `make help` tells what they do.
# Needs Python 3.11 or newer with venv, make and a C compiler; the rest is fetched and kept in
# .venv/, .venv-wheel/, .venv-supervisor-4.2/, .node/ and build/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
BIN := .venv/bin
WHEEL_BIN := .venv-wheel/bin
HOUSES := agent hub wire workers
SOURCES := $(shell find $(HOUSES) -name __pycache__ -prune -o \( -type d -o -name '*.py' \) -print)
# What `tests/system` sees: the repository without the houses, so that they can only be the wheel's.
INSTALLED := build/installed
VIEW := tests bench docs packaging supervisor.conf pyproject.toml requirements.txt
PYTEST ?= $(CURDIR)/$(BIN)/pytest
PYTEST_ARGS ?=

# Real processes, several files at once on what may be two cores: what fails beside the others must
# fail alone, too. A list that is empty runs nothing the second time.
once_more = { $(1) $(3) $(PYTEST_ARGS) $(2) || \
	{ echo 'once more, one at a time:'; $(1) --last-failed --last-failed-no-failures none $(PYTEST_ARGS) $(2); }; }

.PHONY: help lint types imports checks test test-endpoint test-houses test-console test-waiting soak bench docs demo screens system node ready clean

help:
	@echo 'make test     everything: lint, types, imports, docs and all tests'
	@echo 'make test-endpoint  the same without hub and console'
	@echo 'make lint     ruff, and ruff format at 100 columns'
	@echo 'make types    mypy --strict, for linux and for win32'
	@echo 'make imports  the walls between the houses'
	@echo 'make soak     the fault and load runs in full size; FAMILY=name for one of them'
	@echo 'make bench    the benchmarks'
	@echo 'make docs     the documentation, into docs/_build/html'
	@echo 'make demo     hub and agent on this machine; DEMO_ARGS=--check drives the whole loop'

ready: .venv/.ready

.venv/.ready: pyproject.toml packaging/locks/dev.txt requirements.txt
	@[ -n "$(PYTHON)" ] || { echo 'Python 3.11 or newer with venv is needed; set PYTHON=' >&2; exit 1; }
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r packaging/locks/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation \
		--config-settings editable_mode=compat -e . 2>build-editable.log || { cat build-editable.log >&2; exit 1; }
	@rm -f build-editable.log
	@touch $@

# The environment of an endpoint, plus the test runner: the lock of the one must not need the other's.
.venv-wheel/.ready: packaging/locks/dev.txt requirements.txt | .venv/.ready
	rm -rf .venv-wheel
	$(BIN)/python -m venv .venv-wheel
	$(WHEEL_BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
	$(WHEEL_BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r packaging/locks/dev.txt
	@touch $@

.venv-wheel/.installed: $(SOURCES) pyproject.toml .venv-wheel/.ready
	rm -rf build/lib build/bdist.* build/wheel && mkdir -p build
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . >build/wheel.log 2>&1 || { cat build/wheel.log >&2; exit 1; }
	$(WHEEL_BIN)/python -m pip install -q --disable-pip-version-check --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

# The older supervisor that Debian 12 ships, with an interpreter that has no jackline installed.
.venv-supervisor-4.2/.ready: packaging/locks/supervisor-4.2.txt | .venv/.ready
	$(BIN)/python -m venv .venv-supervisor-4.2
	.venv-supervisor-4.2/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r packaging/locks/supervisor-4.2.txt
	@touch $@

system:
	@packaging/system-programs.sh

node: | .venv/.ready system
	@PYTHON=$(CURDIR)/$(BIN)/python packaging/fetch-node.sh

lint: ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Tests and benchmarks run on Linux alone. One cache each: a cache knows one platform.
types: ready
	$(BIN)/mypy --platform linux --cache-dir .mypy_cache/linux
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 $(addprefix -p ,$(HOUSES))

imports: ready
	$(BIN)/lint-imports

docs: ready
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

checks: lint types imports docs

# What waits goes beside what computes, which gives way to it: neither leaves a core idle. A target's
# output comes in one piece when it ends.
side_by_side = $(MAKE) --no-print-directory -j 2 --output-sync=target

test: ready
	+@$(side_by_side) test-waiting checks test-houses test-console

# No hub, no console.
test-endpoint: ready
	+@$(side_by_side) test-waiting checks test-houses \
		HOUSE_TESTS='tests/wire tests/workers tests/agent tests/architecture' \
		WAITING_TESTS='tests/processes tests/system --ignore tests/system/hub'

HOUSE_TESTS = $(filter-out tests/console tests/processes tests/system,$(patsubst %/,%,$(wildcard tests/*/)))
WAITING_TESTS = tests/processes tests/system

# Nothing here is timed or kills by name: two at once.
test-houses: ready node
	@$(call once_more,nice -n 5 $(PYTEST),$(HOUSE_TESTS),-n 2)

# With processes of their own: Playwright keeps an event loop running in the thread that drives the
# browser. With a cache of their own: they may run beside the houses.
test-console: ready node
	@$(call once_more,nice -n 5 $(PYTEST) -o cache_dir=.pytest_cache/console,tests/console,-n 2 --dist loadfile)

# These mostly wait, for processes and for time to pass: a file at a time on each of a few.
test-waiting: $(INSTALLED) node .venv-supervisor-4.2/.ready
	@cd $(INSTALLED) && $(call once_more,$(CURDIR)/$(WHEEL_BIN)/pytest,--installed $(WAITING_TESTS),-n 4 --dist loadfile --no-loadscope-reorder)

$(INSTALLED): .venv-wheel/.installed
	@mkdir -p $@
	@for entry in $(VIEW); do ln -sfn ../../$$entry $@/$$entry; done
	@touch $@

# The run's report is for docs/reliability.rst. Most of the hub's family waits, for agents that come
# back and for databases that are away: three files at once, and their figures at the end.
soak: SIDE_BY_SIDE = $(if $(filter hub,$(FAMILY)),-n 3 --dist loadfile --no-loadscope-reorder -rP)
soak: $(INSTALLED) node .venv-supervisor-4.2/.ready
	cd $(INSTALLED) && $(CURDIR)/$(WHEEL_BIN)/pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS) --installed --soak $(if $(FAMILY),--family $(FAMILY)) --timeout 1800 tests

bench: $(INSTALLED) node
	cd $(INSTALLED) && $(CURDIR)/$(WHEEL_BIN)/python -m bench $(BENCH_ARGS)

# The pictures of docs/tutorial/console.rst, out of the pages' own tests.
screens: ready node
	$(PYTEST) $(PYTEST_ARGS) tests/console
	for page in agents agent terminal cron backup-running; do \
		cp build/screens/$$page-light-wide.png docs/tutorial/screens/$$page.png; done
	cp build/screens/command-succeeded-light-wide.png docs/tutorial/screens/command.png

# Runs until Ctrl-C; DEMO_ARGS=--check drives the whole loop and exits.
demo: ready
	@$(BIN)/jackline demo $(DEMO_ARGS)

clean:
	rm -rf .venv .venv-wheel .venv-supervisor-4.2 .node build .mypy_cache .ruff_cache .pytest_cache docs/_build
	find tests bench -name node_modules -prune -exec rm -rf {} +
