# Everything a person types. The virtual environment is made on first use and again when requirements change.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-deep bench lint imports pictures clean help package lock deploy invoke start logs destroy e2e

run: $(VENV)/.run ## Load real prices, update them by a day, and leave a weekly report to open
	@$(BIN)/python main.py run

test: $(VENV)/.test ## Run the whole suite, on a real PostgreSQL
	@$(BIN)/python -m pytest -n auto --dist worksteal --ignore=tests/e2e $(ARGS)

test-deep: $(VENV)/.test ## Run 1,200 more random lives, recorded years and 50 races (DEEPER=20, DEEP_SECONDS=120)
	@$(BIN)/python -m pytest -n auto --dist worksteal -m deep $(ARGS)

bench: $(VENV)/.bench ## Measure every claim of docs/benchmarks.md (about 4 minutes; ARGS=--json for objects)
	@for script in load transform parse market cold_start report; do \
		echo "== benchmarks/$$script.py"; $(BIN)/python benchmarks/$$script.py $(ARGS) || exit 1; \
	done

lint: imports ## Check style (ruff), the direction of imports and types (mypy --strict)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

TOP_LEVEL := main lambda_main reporting database utils config api_client transformations
imports: $(VENV)/.test ## Check that imports point down only (import-linter)
	@for module in $(TOP_LEVEL); do \
		mkdir -p build/imports/$$module && ln -sf ../../../$$module.py build/imports/$$module/__init__.py; \
	done
	@cd build/imports && PYTHONPATH=$(CURDIR) $(CURDIR)/$(BIN)/lint-imports --no-logo --no-cache $(CURDIR)/pyproject.toml

pictures: $(VENV)/.test ## Take the README's pictures of the report again, in a headless Chromium
	@$(BIN)/python -m tests.browser.pictures

# -- AWS ---------------------------------------------------------------------------------------------------------------

ARCH := x86_64
JOB := daily_update
PAYLOAD = {"job_type": "$(JOB)"}
PARAMETERS :=
# What `sam deploy --guided` wrote down the first time.
STACK := $(or $(shell sed -n 's/^stack_name *= *"\(.*\)"/\1/p' samconfig.toml 2>/dev/null | head -1),stock-tracker)
REGION := $(shell sed -n 's/^region *= *"\(.*\)"/\1/p' samconfig.toml 2>/dev/null | head -1)
SAM := $(or $(shell command -v sam 2>/dev/null),.venv-sam/bin/sam)
THERE = --stack-name $(STACK) $(if $(REGION),--region $(REGION))
export SAM_CLI_TELEMETRY ?= 0

package: build/layer-$(ARCH).zip ## Build the zips of the function and the layer (ARCH=arm64 for the other architecture)
	@$(BIN)/python -m layer.build function
	@cp build/layer-$(ARCH).zip build/layer.zip

build/layer-%.zip: layer/requirements.txt layer/rds-ca.pem layer/archive.py layer/wheels.py layer/build.py | $(BIN)/python
	@$(BIN)/python -m layer.build layer --architecture $*

lock: | $(BIN)/python ## Lock the layer's packages anew, as requirements.txt allows
	@$(BIN)/python -m layer.build lock

deploy: package $(SAM) ## Deploy to AWS, with questions the first time (PARAMETERS="LogLevel=DEBUG" changes one)
	@$(SAM) deploy --template-file template.yaml $(THERE) --resolve-s3 --capabilities CAPABILITY_IAM \
		--no-fail-on-empty-changeset --parameter-overrides Architecture=$(ARCH) $(PARAMETERS) \
		$(if $(wildcard samconfig.toml)$(PARAMETERS),,--guided) $(ARGS)

invoke: $(SAM) ## Run a job on AWS and show its result: JOB=daily_update, or PAYLOAD='{"job_type": …}'
	@$(SAM) remote invoke Function $(THERE) --event '$(PAYLOAD)' $(ARGS)

start: $(SAM) ## Run a job on AWS again and again until it is done: JOB=initialize, or PAYLOAD='{"job_type": …}'
	@$(SAM) remote invoke Continuation $(THERE) --event '$(PAYLOAD)' $(ARGS)

logs: $(SAM) ## Show the function's log of the last ten minutes (ARGS=--tail goes on)
	@$(SAM) logs --name Function $(THERE) $(ARGS)

destroy: $(SAM) ## Remove everything from AWS that deploy made there
	@$(SAM) delete $(THERE) $(ARGS)

e2e: $(VENV)/.test .venv-e2e/.done .venv-sam/bin/sam ## Deploy to a local AWS, and prove there what the README says of AWS
	@$(BIN)/python -m pytest tests/e2e $(ARGS)

.venv-sam/bin/sam: | $(BIN)/python
	@echo "Installing the AWS SAM CLI into .venv-sam"
	@$(BIN)/python -m venv .venv-sam
	@.venv-sam/bin/python -m pip install --quiet 'aws-sam-cli>=1.150,<2'

.venv-e2e/.done: tests/e2e/requirements.txt | $(BIN)/python
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' || { \
		echo "error: make e2e needs Python 3.13, which Lambda runs; here $(BIN)/python is $$($(BIN)/python --version)" >&2; exit 1; }
	@echo "Installing tests/e2e/requirements.txt into .venv-e2e"
	@$(BIN)/python -m venv .venv-e2e
	@.venv-e2e/bin/python -m pip install --quiet -r $<
	@touch $@

# -- The rest ----------------------------------------------------------------------------------------------------------

clean: ## Remove the environment, caches, the local database and the outbox
	rm -rf $(VENV) .venv-sam .venv-e2e build .aws-sam outbox stock_tracker.db* sandbox/quickchart/node_modules tests/browser/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A Python counts only when it really starts (a version manager may offer a name and then refuse it),
# is 3.11 or newer, and can make a virtual environment.
$(BIN)/python:
	@for candidate in python3.13 python3.14 python3.12 python3.11 python3 python; do \
		if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "Making $(VENV) with $$($$candidate --version)"; \
			exec $$candidate -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "error: no Python 3.11 or newer with venv was found on PATH (3.13 is best; on Debian also install python3-venv)" >&2; \
	exit 1

$(VENV)/.run: requirements.txt | $(BIN)/python
	@echo "Installing requirements.txt"
	@$(BIN)/python -m pip install --quiet -r $<
	@touch $@

$(VENV)/.test: requirements-dev.txt requirements.txt | $(BIN)/python
	@echo "Installing requirements-dev.txt"
	@$(BIN)/python -m pip install --quiet -r $<
	@touch $(VENV)/.run $@

$(VENV)/.bench: benchmarks/requirements.txt requirements-dev.txt requirements.txt | $(BIN)/python
	@echo "Installing benchmarks/requirements.txt"
	@$(BIN)/python -m pip install --quiet -r $<
	@touch $(VENV)/.run $(VENV)/.test $@
