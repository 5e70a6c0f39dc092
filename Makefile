# One line each; `make` alone lists them. The environment is .venv, everything a run writes is under var/.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
SOURCE ?= simulated
DATA ?=
LAKE ?=
ON ?=
BY ?= $(shell id -un)
WHY ?=
OSV ?= https://api.osv.dev/v1/query
BIN := .venv/bin
STACK = --source $(SOURCE) $(if $(DATA),--data $(DATA)) $(if $(LAKE),--lake $(LAKE)) $(if $(ON),--on $(ON))
# Where a shell forbids it, every process of a stage and of the endpoint compiles all of its files again.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help setup demo up rollback status down test check bench docs lock audit clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/.ready ## create .venv from requirements.lock and byte-compile it (a few minutes, once)

demo: .venv/.ready ## run the whole chain through Airflow; SOURCE=<a file of jobs/sources>, DATA=<its folder>, LAKE=s3
	@$(BIN)/python -m infra.stack demo $(STACK)

up: .venv/.ready ## start Airflow, MLflow, the endpoint and monitoring; ON=team: on PostgreSQL, Redis and Celery
	@$(BIN)/python -m infra.stack up $(STACK)

rollback: .venv/.ready ## take the newest release back, the model before it serves again; BY=<who>, WHY=<a note>
	@$(BIN)/python -m $(if $(wildcard var/up/stack.json),infra.stack jobs,jobs) rollback --approved-by="$(BY)" --why="$(WHY)"

status: .venv/.ready ## list the services: alive or not, since when, and their addresses
	@$(BIN)/python -m infra.stack status

down: .venv/.ready ## stop exactly what `make up` started
	@$(BIN)/python -m infra.stack down

test: .venv/.ready ## run every test
	@# More workers than cores: much of a test is waiting, for a process, a disk or a clock.
	@$(BIN)/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder

check: .venv/.ready ## lint, format, types, layers: the same as CI
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: .venv/.ready ## measure; results land in var/bench/*.json
	@$(BIN)/python -m tests.bench

docs: .venv/.ready ## draw docs/house.svg again from the imports, write docs/settings.md and docs/sizing.md
	@$(BIN)/python -m tests.house && $(BIN)/python -m tests.settings_page && $(BIN)/python -m tests.sizing_page

lock: ## resolve requirements.lock again from pyproject.toml, and each image's own from it
	@$(PYTHON) -m venv var/lock && var/lock/bin/pip install -q uv
	@var/lock/bin/uv pip compile pyproject.toml --all-extras --python-version 3.11 --no-annotate --no-header -q \
		| grep -vE '^(nvidia-|cuda-|triton)' > requirements.lock
	@for role in serving jobs airflow tracking; do var/lock/bin/uv pip compile --group $$role -c requirements.lock \
		--python-version 3.11 --no-annotate --no-header -q | grep -vE '^(nvidia-|cuda-|triton)' \
		> infra/containers/$$role.lock; done

audit: ## check requirements.lock against OSV's list of known vulnerabilities; says so if OSV cannot be reached
	@if curl -sf -m 20 -o /dev/null -d '{"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "26.0"}' $(OSV); then \
		$(PYTHON) -m venv var/audit && var/audit/bin/pip install -q pip-audit && \
		var/audit/bin/pip-audit -r requirements.lock --no-deps --disable-pip -s osv --osv-url $(OSV) --progress-spinner off; \
	else echo "not audited: no list of known faults answers at $(OSV)"; fi

clean: ## remove everything runs wrote (not the environment)
	@rm -rf var

.venv/.ready: requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Tidegate needs Python 3.11 or newer; found {v[0]}.{v[1]}: make PYTHON=<path>")'
	@echo "setting up .venv from requirements.lock: about 3 GB, a few minutes, once"
	@$(PYTHON) -m venv .venv
	@# torch first and with its own dependencies: where pip knows a CPU build it takes that, elsewhere the default one.
	@$(BIN)/pip install -q --no-compile --disable-pip-version-check 'torch==2.13.0' -c requirements.lock
	@# --no-deps: the lock is complete, and pyspark-client, which overwrites files of pyspark, stays out.
	@$(BIN)/pip install -q --no-compile --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m compileall -q -j2 .venv/lib > /dev/null || true
	@# Sessions of Spark start without it too, in twice the processor time.
	@-$(BIN)/python -m jobs.spark
	@touch .venv/.ready
