# `make help` lists the commands. Everything a fresh machine lacks is made on the way: it needs Python 3.11+, make and git.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PEERS := .venv-peers
DOCS := .venv-docs
AUDIT := .venv-audit
VIEWER := service/web/static/vendor/swagger-ui
HTMX := service/dashboard/static/vendor/htmx
PORT ?= 8080
GATEWAY_PORT ?= 8081
STATE ?= .cluster
PYTEST_ARGS ?=
# Most tests wait more than they compute, so even two processors have work for four workers. A worker begins with a run
# of files of its own, and takes tests of others when it is done.
WORKERS := $(shell cores=$$(nproc); echo $$((cores > 4 ? cores : 4)))
SPREAD := -n $(WORKERS) --dist worksteal
# Tests of a simulated cluster mostly wait for its times, so two clusters share a processor each.
CLUSTERS := -n 2 --dist worksteal
# The real node beside them, with the output kept apart. On fewer processors, what tests time would take too long.
SIDE_BY_SIDE := $(shell [ "$$(nproc)" -lt 4 ] || echo -j2 --output-sync=target)
# On a busy machine of CI, a browser or a part of a cluster may be late once. Such a test gets a second try, and the
# summary shows the first one's failure. More than three in a part are a fault.
RERUNS := $(if $(CI),--reruns 1 --max-suite-reruns 3 --rerun-show-tracebacks)

# Tests start hundreds of Python processes. Without bytecode, each of them would compile the service again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up demo down test prepared test-without-cluster test-on-simulated-nodes test-on-real-node test-fast cluster-test threat-model check lint bench bench-scale bench-peers bench-editor bench-idleness hammer fleet faults lock viewer htmx generated tools docs audit

help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

up: $(VENV)/ready ## Start cluster and service on http://127.0.0.1:8080, and say what to try
	@$(PY) -m stack up --state $(STATE) --port $(PORT) --gateway-port $(GATEWAY_PORT)

demo: $(VENV)/ready ## Show the whole loop as a timeline
	@$(PY) -m stack demo --state $(STATE)

down: $(VENV)/ready ## Stop all that `make up` started; with PURGE=1 remove its data too
	@$(PY) -m stack down --state $(STATE) $(if $(PURGE),--purge)

test: prepared ## Compile and build what the tests need (once), check the code, run all tests
	@$(MAKE) --no-print-directory check
	@failed=0; \
	$(MAKE) --no-print-directory test-without-cluster || failed=1; \
	$(MAKE) --no-print-directory -k $(SIDE_BY_SIDE) test-on-simulated-nodes test-on-real-node || failed=1; \
	exit $$failed

# Before the tests, whose time is limited: the first time, this takes half an hour.
prepared: $(VENV)/ready
	@$(PY) -m devcluster tools --extra >/dev/null
	@$(PY) -m images build $(IMAGES) >/dev/null

# The parts of `make test`. Exit code 5 says that PYTEST_ARGS chose none of a part's tests.
test-without-cluster: $(VENV)/ready
	@$(PY) -m pytest $(SPREAD) -m "not cluster" $(RERUNS) $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-on-simulated-nodes: $(VENV)/ready
	@$(PY) -m pytest $(CLUSTERS) -m "cluster and not node" $(RERUNS) $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-on-real-node: $(VENV)/ready
	@$(PY) -m pytest -m node $(RERUNS) $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-fast: $(VENV)/ready lint ## Checks and tests that need no cluster, no compiler, no browser and no root, in minutes
	$(PY) -m service generate --check
	$(PY) -m pytest $(SPREAD) -m "not cluster and not compiled and not browser" $(PYTEST_ARGS)

cluster-test threat-model: IMAGES := redis session-service tiny workspace

cluster-test: prepared ## Install images and charts on the embedded cluster's real node by helmfile, and use them (four minutes)
	$(PY) -m pytest tests/installed $(PYTEST_ARGS)

threat-model: prepared ## Let a hostile pod try everything, and write what it reached into the docs (two minutes)
	@WRITE_THREAT_MODEL=1 $(PY) -m pytest tests/installed/test_hostile.py $(PYTEST_ARGS)

check: $(VENV)/ready lint ## Format, lint, types, layers, generated files
	$(PY) -m stack generated --check

lint: $(VENV)/ready
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	cd client && ../$(VENV)/bin/lint-imports

bench: $(VENV)/ready ## Measure at 100 and 1,000 sessions beside plain KEDA, the gateway and the editor (45 minutes)
	@$(PY) -m bench
	@$(PY) -m bench.gateway
	@$(PY) -m bench.editor || [ $$? -eq 2 ] # 2: it has said what the machine lacks

bench-scale: $(VENV)/ready ## The same at 1,000 and 10,000, without plain KEDA
	@$(PY) -m bench --sizes 1000,10000 --plain-up-to 0 --installs 0 --output bench/results/scale.json

bench-peers: $(VENV)/ready $(PEERS)/ready ## Measure JupyterHub + KubeSpawner beside the gateway, on real pods (15 minutes)
	@$(PY) -m bench.peers

bench-editor: $(VENV)/ready ## Open a sleeping VS Code in a browser, time it and take the README's pictures (5 minutes)
	@$(PY) -m bench.editor

bench-idleness: $(VENV)/ready ## People's patterns in a browser: does the workspace stay awake, and sleep in time? (10 minutes)
	@$(PY) -m bench.idleness

hammer: $(VENV)/ready ## Thousands of wakes at the moment of falling asleep, and what became of them
	HAMMER_ROUNDS=60 $(PY) -m pytest tests/stack/test_hammer.py -s

fleet: $(VENV)/ready ## Upgrade two hundred sessions, twenty of them in use, with a kill in the middle (three minutes)
	FLEET_SESSIONS=200 $(PY) -m pytest tests/stack/test_upgrade.py -s

faults: $(VENV)/ready ## Let one part after another fail under load, and write what was lost (10 minutes)
	@$(PY) -m faults

docs: $(DOCS)/ready ## Build the documentation site into site/; a broken link fails
	@$(DOCS)/bin/zensical build --clean --strict
	@! grep -rnoE '<(script|link|img|iframe)[^>]+(src|href)="?(https?:)?//[^ >]*' site --include='*.html' \
	    || { echo "the site must not fetch anything from elsewhere"; exit 1; }

audit: $(AUDIT)/ready ## Ask PyPI for known vulnerabilities of what ships
	@for lock in requirements.lock images/jupyter/requirements.txt images/workspace/requirements.txt; do \
	    echo "$$lock"; $(AUDIT)/bin/pip-audit --disable-pip --require-hashes --progress-spinner off -r $$lock || exit 1; \
	done

generated: $(VENV)/ready ## Rewrite the files that are made from others
	$(PY) -m stack generated

tools: $(VENV)/ready ## Compile every tool, once
	@$(PY) -m devcluster tools --extra

lock: $(VENV)/ready ## Rewrite the lock files from pyproject.toml
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    pyproject.toml -o requirements.lock
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    pyproject.toml --group dev -o requirements-dev.lock
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --group peers -o bench/peers.lock
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --group docs -o requirements-docs.lock
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --group audit -o requirements-audit.lock
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    images/jupyter/requirements.in -o images/jupyter/requirements.txt

viewer: ## Fetch the version of Swagger UI that its package.json names (needs npm)
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; cp $(VIEWER)/package*.json "$$scratch"; \
	npm ci --prefix "$$scratch" --silent --ignore-scripts --no-audit --no-fund; \
	cd "$$scratch/node_modules/swagger-ui-dist"; \
	cp LICENSE NOTICE swagger-ui.css swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt $(CURDIR)/$(VIEWER)/
	@sha256sum $(VIEWER)/LICENSE $(VIEWER)/NOTICE $(VIEWER)/*.css $(VIEWER)/*.js # for tests/web/test_docs.py

htmx: ## Fetch the versions of htmx and its extension that their package.json names (needs npm)
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; cp $(HTMX)/package*.json "$$scratch"; \
	npm ci --prefix "$$scratch" --silent --ignore-scripts --no-audit --no-fund; \
	cd "$$scratch/node_modules"; cp htmx.org/dist/htmx.min.js htmx.org/LICENSE $(CURDIR)/$(HTMX)/; \
	cp htmx-ext-sse/dist/sse.min.js $(CURDIR)/$(HTMX)/; cp htmx-ext-sse/LICENSE $(CURDIR)/$(HTMX)/LICENSE-sse
	@sha256sum $(HTMX)/LICENSE* $(HTMX)/*.js # for tests/dashboard/test_assets.py

$(VENV)/ready: requirements-dev.lock
	@echo "installing Python packages into $(VENV), about half a minute"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e client
	@touch $@

$(DOCS)/ready: requirements-docs.lock
	@echo "installing the site generator into $(DOCS), a few seconds"
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

$(AUDIT)/ready: requirements-audit.lock
	@echo "installing pip-audit into $(AUDIT), a few seconds"
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-audit.lock
	@touch $@

$(PEERS)/ready: bench/peers.lock bench/npm/package.json bench/npm/package-lock.json
	@echo "installing JupyterHub and its proxy into $(PEERS), about a minute"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r bench/peers.lock
	@cp bench/npm/package.json bench/npm/package-lock.json $(PEERS)/
	@$(PEERS)/bin/npm ci --prefix $(PEERS) --silent --ignore-scripts --omit=dev --no-audit --no-fund
	@touch $@
