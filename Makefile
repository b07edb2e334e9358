# Everything is set up by the first target that needs it: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
MINUTES ?= 10
SECONDS ?= 60
PROCESSES ?= 4
PORT ?= 8420
SEED ?= 1
RUNS ?= 100

# A folder in memory where there is room: the tests make a thousand small databases, and wait for the disk at each commit.
MEMORY := $(shell test -w /dev/shm && ! grep -q ' /dev/shm .*noexec' /proc/mounts && \
	test "$$(df -Pk /dev/shm | awk 'NR == 2 { print $$4 }')" -gt 4000000 && echo /dev/shm)

# Where it is set, each of a thousand commands that the tests start would compile the whole program anew.
unexport PYTHONDONTWRITEBYTECODE

# python -m venv, but Ctrl-C ends it without a traceback
MAKE_VENV := import signal, venv; signal.signal(signal.SIGINT, signal.SIG_DFL); venv.main(['--clear', '$(VENV)'])

# $(call install,WHAT): pip says what is wrong at length; the last line says what it may need.
define install
$(PIP) install -c constraints.txt -e '$(1)' || { echo "pip could not install jobfac into $(VENV), as its lines above say. \
It needs room on the disk and an index of packages: behind a proxy set https_proxy, for a mirror set PIP_INDEX_URL. \
For a machine without a network, make bundle on another one writes a file that installs jobfac."; exit 1; }
endef

.PHONY: help setup demo demo-up test check test-mssql lint format client bench bench-peers chaos fuzz reference lock wheel bundle clean
help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "jobfac needs Python 3.11 or newer; say which with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) lacks its venv module; on Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -c "$(MAKE_VENV)" || \
		{ echo "$(PYTHON) could not make the folder $(VENV), as its line above says"; exit 1; }
	@echo "installing jobfac into $(VENV)"
	@$(call install,.)
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing the tools for tests into $(VENV)"
	@$(call install,.[dev])
	@touch $@

setup: $(VENV)/.dev  ## the environment for all of this

demo: $(VENV)/.run   ## real jobs and a sequence, to their end, on SQLite
	@$(BIN)/python scripts/demo.py

demo-up: $(VENV)/.run ## all roles on what the demo ran, with the link that opens the pages: make demo-up PORT=8420
	@test -f .build/demo/demo.db || $(BIN)/python scripts/demo.py
	@cd .build/demo && PATH="$(CURDIR)/$(BIN):$$PATH" JOBFAC_DATABASE_URL=sqlite:///demo.db exec jobfac up --port $(PORT)

test: export TMPDIR := $(or $(MEMORY),$(TMPDIR),/tmp)
test: setup      ## all tests
	@$(BIN)/python -m compileall -q -j 2 jobfac # once, instead of in each process of the tests
	@test -d tests/__pycache__ || $(BIN)/pytest --collect-only -q >/dev/null 2>&1 & \
		scripts/odbc.sh && scripts/browser.sh; code=$$?; wait; exit $$code # and meanwhile, once, the tests themselves
	$(BIN)/pytest -n $(PROCESSES) --dist worksteal -o tmp_path_retention_policy=failed -m "not alone"
	$(BIN)/pytest -n 2 -o tmp_path_retention_policy=failed -m alone $$(grep -rl --include='test_*.py' mark.alone tests | sort)

check: lint      ## lint and the fast tests, for the daily loop: about a minute on 2 cores
	$(BIN)/pytest -n $(PROCESSES) -q -m "not alone and not slow" -k "not pyodbc and not mssqlpython" tests/unit tests/database

test-mssql: setup ## five experiments and the same suite on a real server: make test-mssql JOBFAC_TEST_MSSQL_URL=mssql+pyodbc://...
	@scripts/odbc.sh
	@test -n "$(JOBFAC_TEST_MSSQL_URL)" || { echo "Say where the server is: make test-mssql JOBFAC_TEST_MSSQL_URL=mssql+pyodbc://USER:PASSWORD@HOST/DATABASE?TrustServerCertificate=yes, or start one with docker compose -f scripts/sqlserver/compose.yaml up -d"; exit 2; }
	JOBFAC_TEST_MSSQL_URL="$(JOBFAC_TEST_MSSQL_URL)" $(BIN)/python -m tests.real_server.experiments --into experiments.md
	JOBFAC_TEST_MSSQL_URL="$(JOBFAC_TEST_MSSQL_URL)" $(BIN)/pytest tests/database tests/real_server -k real

lint: setup      ## ruff, mypy --strict, import-linter, limits of size
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/limits.py

format: setup    ## let ruff write
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

client: setup    ## generate a client from the OpenAPI document: no operation may be dropped
	@sh scripts/generated_client.sh

bench: setup     ## speed, as ratios to limits measured in the same run
	@scripts/odbc.sh
	$(BIN)/python -m scripts.bench

bench-peers: setup ## four other queues at the same work, interleaved with jobfac; installs them into .build/peers
	$(BIN)/python -m scripts.bench.peers

chaos: setup     ## kill, freeze and cut at random, then check: make chaos MINUTES=10
	$(BIN)/python -m scripts.chaos --minutes $(MINUTES)

fuzz: setup      ## new examples for property tests and sequences, every call of the API, then the readers: make fuzz SEED=7 RUNS=500 SECONDS=60
	$(BIN)/pytest -q -n $(PROCESSES) --hypothesis-profile=default tests/unit
	JOBFAC_TEST_SEED=$(SEED) $(BIN)/pytest -q --timeout=600 tests/roles/api/openapi_conformance.py
	JOBFAC_TEST_SEED=$(SEED) JOBFAC_TEST_RUNS=$(RUNS) $(BIN)/pytest -q -s tests/database/sequences/test_model.py
	@$(call install,.[fuzz])
	$(BIN)/python -m scripts.fuzz --seconds $(SECONDS)

reference: setup ## write the guide's pages of every definition key and every setting
	$(BIN)/python -m scripts.reference

lock: setup      ## resolve the constraints anew
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate pyproject.toml -o constraints.txt

wheel: setup     ## build the wheel into dist/
	$(BIN)/uv build --wheel --quiet

bundle: setup    ## build one file that installs jobfac without a network, into dist/
	$(BIN)/python -m scripts.bundle

clean:           ## remove what was built
	rm -rf $(VENV) .build dist
