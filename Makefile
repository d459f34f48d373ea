# kcpg: `make help` lists what can be done. Everything lives in .venv and build/; nothing outside this directory changes
# except that missing Debian packages are installed when make runs as root.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.SUFFIXES:

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
# packaging/lock.txt: the environment has just those releases of everything, by the hashes of their files.
KCPG_LOCK ?=
# One at a time, under `make -j` too: two would write into the same environment.
PIP    := flock $(VENV) $(PY) -m pip --disable-pip-version-check -qq
ENGINE := $(if $(filter python,$(KCPG_ENGINE)),python,compiled)
SOURCES := $(shell find kcpg -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h')
# Python files that are compiled, too: those with a .pxd beside them.
SOURCES += $(wildcard $(patsubst %.pxd,%.py,$(filter %.pxd,$(SOURCES))))

# Stamps: each names a step that was done; a step runs again only when what it depends on changed.
STAMPS      := $(VENV)/stamps
VENV_STAMP  := $(STAMPS)/venv
KCPG_STAMP  := $(STAMPS)/kcpg
BUILD_STAMP := $(STAMPS)/build-$(ENGINE)
TEST_STAMP  := $(STAMPS)/test
E2E_STAMP   := $(STAMPS)/e2e
BENCH_STAMP := $(STAMPS)/bench
LINT_STAMP  := $(STAMPS)/lint

# What everything that runs kcpg needs: its package with the dependencies, and the engine. Neither needs the other, so
# `make -j` makes both at once.
READY := $(KCPG_STAMP) $(BUILD_STAMP)

# Prints one of pyproject.toml's lists of optional requirements.
REQUIREMENTS := $(PY) -c 'import sys, tomllib; \
    print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]])'

MODE   ?=
CONFIG ?= $(if $(MODE),configs/$(MODE).conf)
TESTS  ?= tests
# Measured in the guest kernel; the read-back takes all of them.
GUEST_PROFILES ?= lossy5 bursty mobile throttled reorder duplicate port-throttle
# The case that is run there; the words of python -m harness run. GUEST_CELL: its former name.
GUEST_CASE ?= $(or $(GUEST_CELL),ONLY=latency MODE=server PROFILE=lossy5 SECONDS=2 BASELINES=0)
ARGS   ?=

.PHONY: help setup tools programs run test fuzz asan e2e e2e-ci netem-guest bench bench-compare docs wheels lint check clean

help: ## show this list
	@echo "usage: make TARGET [VARIABLE=value …]"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make run                                  the whole chain on this machine, with a check of every byte"
	@echo "  make run MODE=client [CONFIG=my.conf]     one node in the foreground (client, relay or server)"
	@echo "  make test TESTS=tests/unit ARGS='-x -v'   a part of the tests, in one process until one fails"
	@echo "  make e2e PROFILE=mobile ONLY=bulk         one scenario over one kind of line; ARGS=--help, ARGS=--list"
	@echo "  make bench QUICK=1 SYSTEMS=direct,kcpg    measure; ARGS=--help explains, ARGS=--list lists"
	@echo "  PYTHON=python3.12                         another interpreter for the virtual environment"
	@echo "  KCPG_ENGINE=python                        without compiled modules (no compiler needed, slower)"
	@echo "  KCPG_LOCK=packaging/lock.txt              dependencies as CI has them, by the hashes of their files"

setup: $(READY) ## make the virtual environment and build (every other target does it when needed)
	@echo "kcpg $$($(PY) -c 'import kcpg; print(kcpg.__version__)') is ready: $(VENV)/bin/kcpg --help"

tools: $(TEST_STAMP) $(E2E_STAMP) $(LINT_STAMP) programs ## everything that tests, end-to-end runs and the lint need

# After what the virtual environment needs: two at a time would wait for apt's lock in vain.
programs: $(VENV_STAMP)
	@sh harness/prepare test

run: $(READY) ## the demo chain, or one node with MODE=client|relay|server [CONFIG=file]
ifeq ($(MODE),)
	@exec $(PY) -m harness demo $(ARGS)
else ifneq ($(filter-out client relay server,$(MODE)),)
	@echo "MODE is client, relay or server, not '$(MODE)'" >&2; exit 2
else
	@exec $(PY) -m kcpg $(ARGS) $(CONFIG)
endif

# Several files run in two processes: what uses sockets and namespaces in one of them, in turn; the simulations beside it
# (tests/conftest.py). One file, and what is for watching a test, run in this one.
ALONE := -n% --numprocesses% -x -s --pdb --trace --exitfirst --capture=no --co --collect-only
SIDE_BY_SIDE = $(if $(filter %.py,$(TESTS))$(findstring ::,$(TESTS))$(filter $(ALONE),$(ARGS)),,-n 2)

test: $(READY) $(TEST_STAMP) ## all tests: unit, property, simulation, interoperability, loopback, tidy
	@$(PY) -m pytest -q $(SIDE_BY_SIDE) $(TESTS) $(ARGS)

# SECONDS are for all targets together; SEED is drawn where it is not given. What fails is saved in tests/fuzz/corpus.
fuzz: $(READY) $(TEST_STAMP) ## bytes that nobody thought of, for all that reads them [SECONDS= SEED= TARGETS= INPUT=]
	@$(PY) -m tests.fuzz $(foreach word,SECONDS SEED KEEP INPUT,$(if $($(word)),'$(word)=$($(word))')) $(TARGETS)

# The compiled engine in build/asan, with checks of every memory access. SECONDS: of fuzzing after the tests.
asan: $(TEST_STAMP) ## AddressSanitizer and UBSan: unit, property and hostile tests, then fuzzing [SECONDS= ARGS=]
	@sh tests/asan $(PY) $(or $(SECONDS),60) $(ARGS)

# What is set of these is handed on as it stands; python -m harness e2e --help explains them.
E2E_WORDS := MODE PROFILE TRACE ONLY DIALECT FULL SEED SECONDS SHARE BACKEND FAMILY BASELINES LINKCHECK COMMANDS WITH

e2e: $(READY) $(E2E_STAMP) ## real nodes in namespaces over emulated lines, with a report [PROFILE= ONLY= MODE= FULL=1 …]
	@sh harness/prepare
	@exec $(PY) -m harness e2e $(foreach word,$(E2E_WORDS),$(if $($(word)),'$(word)=$($(word))')) $(ARGS)

e2e-ci: $(READY) $(E2E_STAMP)
	@sh harness/prepare
	@exec $(PY) -m harness e2e --ci $(ARGS)

netem-guest: $(READY) $(E2E_STAMP) ## real tc netem in a guest kernel: every profile read back, some measured, a chain run
	@$(PY) -m netem.guest "$(PY) -m netem.guest.verify" \
	  "$(PY) -m harness.linkcheck --backend netem --gentle $(GUEST_PROFILES)" \
	  $(if $(GUEST_CASE),"$(PY) -m harness run $(GUEST_CASE) BACKEND=netem LINKCHECK=0 --out /run/e2e") \
	  || { code=$$?; [ $$code = 77 ] && echo "netem: NOT VERIFIED"; [ $$code = 77 ] || exit $$code; }

# Handed on as it stands; python -m harness bench --help explains them.
BENCH_WORDS := ONLY WORKLOADS PLACES SYSTEMS TRACE QUICK SECONDS REPEATS SEED WITH SAVE \
    SOCAT KCPTUN_CLIENT KCPTUN_SERVER KCPTUBE KCPTUN_LIBEV OTHER_CLIENT OTHER_SERVER
BENCH_GIVEN  = $(foreach word,$(BENCH_WORDS),$(if $($(word)),'$(word)=$($(word))'))

# What cannot be installed is said, and is missing from the table; the rest is measured.
bench: $(READY) $(BENCH_STAMP) $(TEST_STAMP) ## speed, latency, CPU and memory beside direct TCP and other tunnels [ONLY= QUICK=1 …]
	@sh harness/prepare bench || true
	@exec $(PY) -m harness bench $(BENCH_GIVEN) $(ARGS)

bench-compare: $(READY) $(BENCH_STAMP) ## these sources beside an earlier commit, in turns, as ratios [BASE= …]
	@exec $(PY) -m harness bench compare $(if $(BASE),'BASE=$(BASE)') $(BENCH_GIVEN) $(ARGS)

docs: $(VENV_STAMP) ## the documents as a site in build/site; a broken link is an error
	@$(PIP) install $$($(REQUIREMENTS) docs)
	@$(VENV)/bin/mkdocs build

# Interpreters and targets of the wheels.
WHEEL_PYTHONS ?= $(PYTHON)
WHEEL_TARGETS ?= x86_64-gnu aarch64-gnu x86_64-musl aarch64-musl

wheels: ## wheels for x86-64 and aarch64, glibc and musl, in dist/ [WHEEL_PYTHONS= WHEEL_TARGETS=]
	@$(PYTHON) packaging/wheels --python $(WHEEL_PYTHONS) --target $(WHEEL_TARGETS)

lint: $(LINT_STAMP) ## ruff, mypy --strict, cython-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --strict kcpg netem harness
	PATH="$(VENV)/bin:$$PATH" cython-lint $(filter %.pyx %.pxd %.pxi,$(SOURCES))

check: lint test ## lint and test: what continuous integration runs

clean: ## remove what was built here, the virtual environment included
	-@$(PYTHON) -m harness.netns clean
	rm -rf $(VENV) build dist kcpg.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find kcpg netem harness tests -type d -name __pycache__ -prune -exec rm -rf {} +
	find kcpg -type f \( -name '*.so' -o -name '*.c' -o -name _built.json \) -delete

# --- the steps ---------------------------------------------------------------------------------------------------

$(VENV_STAMP): packaging/prepare $(KCPG_LOCK)
	@sh packaging/prepare $(PYTHON)
	@$(PY) -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "setting up $(VENV) …"
	@mkdir -p $(STAMPS)
ifeq ($(KCPG_LOCK),)
	@$(PIP) install --upgrade pip "setuptools>=78.1.1" "Cython>=3.0.8"
else
	@$(PIP) install --require-hashes -r $(KCPG_LOCK)
endif
	@touch $@

# The editable installation puts the command kcpg into the environment. It is told to compile nothing: pip's own build
# directory forgets what is compiled already, so all of it would be compiled twice.
$(KCPG_STAMP): pyproject.toml $(VENV_STAMP)
	@echo "installing kcpg and its dependencies …"
	@KCPG_ENGINE=python $(PIP) install --no-build-isolation -e .
	@touch $@

$(BUILD_STAMP): setup.py $(SOURCES) $(VENV_STAMP)
	$(if $(filter compiled,$(ENGINE)),@echo "compiling the engine …")
	@$(PY) setup.py -q build_ext --inplace
	@touch $@

$(TEST_STAMP): pyproject.toml $(KCPG_STAMP)
	@echo "installing what the tests need …"
	@$(PIP) install $$($(REQUIREMENTS) test)
	@touch $@

$(E2E_STAMP): pyproject.toml $(KCPG_STAMP)
	@echo "installing what the end-to-end runs need …"
	@$(PIP) install $$($(REQUIREMENTS) e2e)
	@touch $@

$(BENCH_STAMP): pyproject.toml $(KCPG_STAMP)
	@echo "installing what the measurements need …"
	@$(PIP) install $$($(REQUIREMENTS) bench)
	@touch $@

$(LINT_STAMP): pyproject.toml $(KCPG_STAMP)
	@echo "installing what the lint needs …"
	@$(PIP) install $$($(REQUIREMENTS) lint)
	@touch $@
