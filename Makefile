# make run: everything on this machine. For developers: make test | lint | format | bench | guard; make coverage, the tests,
# and the share of lines and branches that they run; make test-aiohttp, the HTTP
# tests on the lowest and the newest aiohttp that is allowed; make crash ROUNDS=10, the
# crash tests at length; make chaos ROUNDS=200 SEED=1, random faults under load; make upgrade
# WEBHOOKS=2000, an upgrade from 0.1.0rc1 and back, with that many webhooks for each step; make shards
# WEBHOOKS=5000, changes of the number of shards under load; make cluster WEBHOOKS=5000, moves of a slot
# and a fail-over of a Redis Cluster under load; make fuzz SECONDS=60, random input for
# as long; make outage MINUTES=10, an outage of a target of that length;
# make soak MINUTES=20, the memory of all processes under load; make lock, to renew the locked
# versions; make reference, pictures, screenshots and recording, to
# write docs/reference/ and docs/images/ from the code; make kubernetes, the rendered objects that tests read; make docs,
# the documentation as a site in build/site; make package, wheel and sdist, checked and installed; make vendor, the
# console's libraries for browsers from npm.
# The system's Python comes first: distributions build it with profile-guided optimization, pyenv by default does not.
IS_NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip; $(IS_NEW_ENOUGH)' 2>/dev/null && echo /usr/bin/python3 || \
	for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(IS_NEW_ENOUGH)' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
PYTEST = $(BIN)/pytest
# Each process of the tests imports the same modules: compile them once.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: screenshots run test test-containers test-failed collect coverage coverage-data test-aiohttp lint format bench guard soak chaos outage crash fuzz upgrade shards cluster reference kubernetes pictures recording docs package vendor lock clean

run: .venv/.run
	@exec $(BIN)/ackstream up $(ARGS)

# The tests in containers mostly wait for builds of images, so the others run beside them. These are nice: else those in
# containers would end last, on one core alone.
CONTAINERS = tests/system/test_compose.py
test: .venv/.dev
ifdef ARGS
	$(PYTEST) --processes 8 $(ARGS)
else
	@mkdir -p build
	$(PYTEST) -q $(CONTAINERS) >build/containers.log 2>&1 & containers=$$!; \
	nice $(PYTEST) --processes 8 --ignore $(CONTAINERS); others=$$?; \
	wait $$containers; containers=$$?; cat build/containers.log; [ $$others = 0 ] && exit $$containers
endif

test-containers: .venv/.dev
	$(PYTEST) -q $(CONTAINERS)

# The tests that failed in the last run, alone and one after the other; the first one that fails again ends it.
test-failed: .venv/.dev
	$(PYTEST) --last-failed --last-failed-no-failures none --exitfirst

# Collecting rewrites and compiles all test modules, before `make test` and `make test-containers` need them.
collect: .venv/.dev
	@$(PYTEST) -q --collect-only >/dev/null

coverage: PYTEST = $(BIN)/coverage run -m pytest
coverage: coverage-data test
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/python -m deploy.coverage_bars

coverage-data:
	@rm -rf build/coverage

test-aiohttp: .venv/.dev
	$(BIN)/python deploy/aiohttp_versions.py tests/ingest/test_ingest.py \
		$(addprefix tests/system/ingest/test_,http_answers.py http_connections.py framing.py)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python deploy/lint_lua.py
	$(BIN)/python -m tests.project.prose
	$(BIN)/python deploy/audit.py

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chaos: .venv/.dev
	$(BIN)/python -m tests.chaos --rounds $(or $(ROUNDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

outage: .venv/.dev
	$(BIN)/python -m tests.system.long_outage --minutes $(or $(MINUTES),10)

crash: .venv/.dev
	ACKSTREAM_CRASH_ROUNDS=$(or $(ROUNDS),10) $(BIN)/pytest -m crash $(ARGS)

upgrade: .venv/.dev
	ACKSTREAM_UPGRADE_WEBHOOKS=$(or $(WEBHOOKS),2000) $(BIN)/pytest tests/deploy/test_upgrade.py $(ARGS)

shards: .venv/.dev
	ACKSTREAM_SHARDS_WEBHOOKS=$(or $(WEBHOOKS),5000) $(BIN)/pytest tests/system/redis/test_shards.py $(ARGS)

cluster: .venv/.dev
	ACKSTREAM_CLUSTER_WEBHOOKS=$(or $(WEBHOOKS),5000) $(BIN)/pytest tests/system/redis/test_cluster.py tests/system/redis/test_cluster_order.py $(ARGS)

fuzz: .venv/.dev
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: .venv/.dev
	$(BIN)/python -m bench --write $(ARGS)
	$(BIN)/python -m deploy.docs.results
	$(BIN)/python -m deploy.docs.pictures

soak: .venv/.dev
	$(BIN)/python -m bench.scenarios.growth.soak --minutes $(or $(MINUTES),20) --write $(ARGS)
	$(BIN)/python -m deploy.docs.results
	$(BIN)/python -m deploy.docs.pictures

guard: .venv/.dev
	$(BIN)/python -m bench.scenarios.guard $(ARGS)

reference: .venv/.dev
	$(BIN)/python -m deploy.docs.reference

pictures: .venv/.dev
	$(if $(RECORD),$(BIN)/python -m deploy.docs.record_outage)
	$(BIN)/python -m deploy.docs.pictures

kubernetes:
	for name in base overlays/demo overlays/keda overlays/monitoring; do \
		kubectl kustomize deploy/kubernetes/$$name > tests/fixtures/kubernetes/$${name##*/}.yaml || exit 1; done

screenshots: .venv/.dev
	$(BIN)/python -m deploy.docs.screenshots

recording: .venv/.dev
	$(BIN)/python -m deploy.docs.pictures.recording

docs: .venv/.tools
	.venv/tools/bin/zensical build --strict --clean
	.venv/tools/bin/python -m deploy.docs.site_check build/site

vendor: .venv/.dev
	$(BIN)/python -m deploy.vendor

package: .venv/.tools
	.venv/tools/bin/python deploy/package.py

COMPILE = printf 'hatchling\neditables\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-package ackstream --custom-compile-command 'make lock' $(ARGS) pyproject.toml -
lock: .venv/.dev
	$(BIN)/pip install --quiet uv
	$(COMPILE) bench/requirements.in --all-extras -o deploy/dev.lock
	$(COMPILE) --extra console --extra embedded -c deploy/dev.lock -o deploy/run.lock
	$(COMPILE) --extra console --extra otel --extra postgres -c deploy/dev.lock -o deploy/image.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' \
		$(ARGS) deploy/tools.in -o deploy/tools.lock

.venv/.tools: deploy/tools.lock
	@test -n "$(PYTHON)" || { echo "ackstream needs Python 3.11 or later, and found none on PATH: set PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv/tools
	.venv/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/.run: deploy/run.lock pyproject.toml
.venv/.dev: deploy/dev.lock pyproject.toml
.venv/.run .venv/.dev:
	@test -n "$(PYTHON)" || { echo "ackstream needs Python 3.11 or later, and found none on PATH: set PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "could not make .venv: is the venv module of $(PYTHON) installed (python3-venv)?" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis
