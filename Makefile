# The commands of this project. The virtual environment is made on first use and updated when requirements change.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start many processes, of which each would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE
# Tests wait for processes and servers a good part of their time.
WORKERS := $(shell echo $$(($$(nproc 2>/dev/null || echo 2) * 2)))

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements-dev.lock
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
# uv installs faster than pip; it is used when it is on PATH and works (`make UV= run` uses pip all the same).
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
# $(call venv,python,folder) and $(call install,folder,arguments of pip install)
venv = $(if $(UV),$(UV) venv --quiet --seed --clear --python $(1) $(2),$(1) -m venv --clear $(2))
install = $(if $(UV),$(UV) pip install --quiet --python $(1)/bin/python $(2),$(1)/bin/python -m pip install --quiet --no-compile $(2))

.PHONY: run check test test-deep bench lint imports workflows templates pictures site-assets docs docs-commands clean reset help
.PHONY: package lock calendar deploy deploy-role secret aws-invoke aws-start aws-logs doctor destroy e2e

run: $(VENV)/.run site-assets ## Load real prices, update them by a day, and write a weekly report to open
	@$(BIN)/python main.py run

check: lint ## Check format, style, imports and types, and run the unit tests: the fast loop
	@$(PYTEST) --quiet tests/unit $(ARGS)

test: $(VENV)/.test build/pgbouncer ## Run the whole suite, on a real PostgreSQL
	@$(PYTEST) --ignore=tests/e2e $(ARGS)

test-deep: $(VENV)/.test build/pgbouncer ## Run 1,200 more random lives, recorded years and 50 races (DEEPER=20, DEEP_SECONDS=120)
	@$(PYTEST) -m deep $(ARGS)

# Tests through a pooler take pgbouncer from PATH, or from Debian's package, unpacked here without root. Where neither
# is to be had they skip.
build/pgbouncer:
	@mkdir -p $@
	@PATH=$$PATH:/usr/sbin command -v pgbouncer >/dev/null || { cd $@ && timeout 60 apt-get download --quiet pgbouncer \
		$$(apt-cache depends pgbouncer | sed -n 's/^ *Depends: \(libevent\|libc-ares\)/\1/p') \
		&& for package in *.deb; do dpkg-deb -x $$package .; done; } >/dev/null 2>&1 || true

bench: $(VENV)/.bench ## Measure every claim of docs/benchmarks.md (about 10 minutes; ARGS=--json for objects)
	@for script in load transform parse market sqlite small export cold_start report site site_page; do \
		echo "== benchmarks/$$script.py"; $(BIN)/python benchmarks/$$script.py $(ARGS) || exit 1; \
	done

lint: $(VENV)/.test imports workflows templates ## Check format and style (ruff), imports, types (mypy), workflows and templates
	@$(BIN)/ruff format --check --quiet . || { echo "error: run $(BIN)/ruff format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

TOP_LEVEL := main lambda_main stock_tracker reporting database utils config api_client transformations
imports: $(VENV)/.test ## Check that imports point down only (import-linter)
	@for module in $(TOP_LEVEL); do \
		mkdir -p build/imports/$$module && ln -sf ../../../$$module.py build/imports/$$module/__init__.py; \
	done
	@cd build/imports && PYTHONPATH=$(CURDIR) $(CURDIR)/$(BIN)/lint-imports --no-logo --no-cache $(CURDIR)/pyproject.toml

# actionlint is a Go program that no Python index hosts: its package there downloads it while it is installed.
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
workflows: $(VENV)/.test ## Check .github with zizmor, and with actionlint if it or Go is on PATH
	@$(BIN)/zizmor --offline --no-progress --quiet .github
	@if command -v actionlint >/dev/null; then actionlint; \
	elif command -v go >/dev/null; then go run $(ACTIONLINT); \
	else echo "Neither actionlint nor Go is on PATH: .github/workflows is checked by zizmor only"; fi

# Exceptions stand with their reasons in the templates. The unit tests run cfn-lint.
templates: .venv-checkov/.done ## Check template.yaml and deploy/role.yaml for what is not secure (checkov)
	@.venv-checkov/bin/checkov --framework cloudformation --file template.yaml deploy/role.yaml --compact --quiet --skip-download

CHECKOV := checkov>=3.2,<4
.venv-checkov/.done: | $(BIN)/python
	@echo "Installing checkov into .venv-checkov"
	@$(call venv,$(BIN)/python,.venv-checkov)
	@$(call install,.venv-checkov,'$(CHECKOV)')
	@touch $@

pictures: $(VENV)/.test ## Update the pictures in the documentation: the report, with a headless Chromium, and the terminal
	@$(BIN)/python -m tests.support.terminal_pictures
	@$(BIN)/python -m tests.browser.pictures

site-assets: | $(BIN)/python ## Build the script and style of the market's pages, if Node.js is on PATH
	@$(BIN)/python -m web.build

docs-commands: $(VENV)/.test ## Update the help texts in docs/commands.md
	@$(BIN)/python -m tests.support.command_page

docs: $(VENV)/.docs ## Build the documentation site into build/site
	@$(BIN)/mkdocs build --strict --quiet --site-dir build/site
	@echo "Open build/site/index.html"

# -- AWS ---------------------------------------------------------------------------------------------------------------

STAGE ?= production
STAGES ?= deploy
ARCH := x86_64
JOB := daily_update
PAYLOAD = {"job_type": "$(JOB)"}
SAM := $(or $(shell command -v sam 2>/dev/null),.venv-sam/bin/sam)
STAGED = $(BIN)/python -m deploy
AT = --stage '$(STAGE)' --folder '$(STAGES)'
# Where the stage's stack is. A stage that is not valid stops the recipe.
THERE = place="$$($(STAGED) show place $(AT))" &&
export SAM_CLI_TELEMETRY ?= 0

package: build/layer-$(ARCH).zip site-assets ## Build the zips of the function and the layer (ARCH=arm64 for the other architecture)
	@$(BIN)/python -m layer.build function
	@cp build/layer-$(ARCH).zip build/layer.zip

build/layer-%.zip: layer/requirements.txt layer/rds-ca.pem layer/archive.py layer/bytecode.py layer/wheels.py layer/build.py | $(BIN)/python
	@$(BIN)/python -m layer.build layer --architecture $*

lock: | $(BIN)/python ## Lock the packages of the layer and of development anew, as the requirements files allow
	@$(if $(UV),,echo "error: make lock needs uv on PATH" >&2; exit 1)
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' benchmarks/requirements.txt docs/requirements.txt --output-file $(LOCK)
	@$(BIN)/python -m layer.build lock

calendar: $(VENV)/.test ## Write the days on which the exchange is closed anew, by the newest exchange-calendars
	@$(call install,$(VENV),--upgrade 'exchange-calendars<5')
	@$(BIN)/python -m layer.build calendar

# The doctor's findings do not change the exit status: by then the stage is deployed. `make doctor` fails with them.
deploy: $(VENV)/.deploy $(SAM) ## Deploy to AWS what deploy/production.env says, and check it (STAGE=staging: another stage)
	@$(if $(PARAMETERS)$(filter command line,$(origin ARCH)),echo "error: PARAMETERS and ARCH are lines of" \
		"deploy/$(STAGE).env now: Architecture=arm64" >&2; exit 2)
	@$(STAGED) check $(AT)
	@$(STAGED) ready $(AT)
	@$(MAKE) --no-print-directory package ARCH="$$($(STAGED) show architecture $(AT))"
	@$(THERE) $(SAM) deploy --template-file template.yaml $$place --resolve-s3 --capabilities CAPABILITY_IAM \
		--no-fail-on-empty-changeset --no-confirm-changeset --no-progressbar --tags "$$($(STAGED) show tags $(AT))" \
		--parameter-overrides "file://build/deploy/$(STAGE).yaml" $(ARGS)
	@$(MAKE) --no-print-directory doctor || echo "Deployed; the doctor's cures are above"

secret: $(VENV)/.deploy ## Ask for the key and the passwords of a stage that are missing (CHANGE=POLYGON_API_KEY: a new one)
	@$(STAGED) secret $(AT) --change '$(CHANGE)' --from '$(FROM)' $(if $(REMOVE),--remove)

aws-invoke: $(VENV)/.deploy $(SAM) ## Run a job on AWS and show its result: JOB=daily_update, or PAYLOAD='{"job_type": …}'
	@$(THERE) $(SAM) remote invoke Function $$place --event '$(PAYLOAD)' $(ARGS)

aws-start: $(VENV)/.deploy $(SAM) ## Run a job on AWS repeatedly until it is done: JOB=initialize, or PAYLOAD='{"job_type": …}'
	@$(THERE) $(SAM) remote invoke Continuation $$place --event '$(PAYLOAD)' $(ARGS)

aws-logs: $(VENV)/.deploy $(SAM) ## Show the function's log of the last ten minutes (ARGS=--tail follows it)
	@$(THERE) $(SAM) logs --name Function $$place $(ARGS)

doctor: $(VENV)/.deploy ## Check the set-up of the function on AWS (SEND=1 sends a test mail; here: python main.py doctor)
	@$(STAGED) doctor $(AT) $(if $(SEND),--send)

destroy: $(VENV)/.deploy $(SAM) ## Remove everything that deploy created on AWS; the secret stays (make secret REMOVE=1)
	@$(THERE) $(SAM) delete $$place $(ARGS)

deploy-role: $(VENV)/.deploy $(SAM) ## Create the role with which GitHub Actions deploys: REPOSITORY=owner/name
	@mkdir -p build/deploy && echo 'version = 0.1' > build/deploy/samconfig.toml
	@$(SAM) deploy --template-file deploy/role.yaml --stack-name deploys-stock-tracker --capabilities CAPABILITY_NAMED_IAM \
		--config-file build/deploy/samconfig.toml --no-fail-on-empty-changeset --no-confirm-changeset \
		--parameter-overrides "Repository=$(REPOSITORY)" $(if $(NO_PROVIDER),CreateProvider=false) $(ARGS)

e2e: $(VENV)/.test $(VENV)/.deploy .venv-e2e/.done .venv-sam/bin/sam ## Deploy to a local AWS and test there
	@$(BIN)/python -m pytest tests/e2e $(ARGS)

SAM_CLI := aws-sam-cli>=1.150,<2
.venv-sam/bin/sam: | $(BIN)/python
	@echo "Installing the AWS SAM CLI into .venv-sam"
	@$(call venv,$(BIN)/python,.venv-sam)
	@$(call install,.venv-sam,'$(SAM_CLI)')

.venv-e2e/.done: tests/e2e/requirements.txt | $(BIN)/python
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' || { \
		echo "error: make e2e needs Python 3.13, which Lambda runs; here $(BIN)/python is $$($(BIN)/python --version)" >&2; exit 1; }
	@echo "Installing tests/e2e/requirements.txt into .venv-e2e"
	@$(call venv,$(BIN)/python,.venv-e2e)
	@$(call install,.venv-e2e,-r $<)
	@touch $@

# -- The rest ----------------------------------------------------------------------------------------------------------

clean: ## Remove the environment and caches; prices and reports stay
	rm -rf $(VENV) .venv-sam .venv-e2e .venv-checkov build .aws-sam web/assets {sandbox/quickchart,tests/browser,web/app}/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

reset: ## Remove the local database and the outbox, after asking (YES=1 does not ask)
	@if [ "$(YES)" != 1 ]; then read -r -p "Remove stock_tracker.db and outbox/? [y/N] " answer; fi; \
	if [[ "$(YES)" == 1 || "$$answer" == [yY]* ]]; then rm -rf outbox stock_tracker.db*; echo "Removed"; \
	else echo "Nothing removed"; fi

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A candidate counts only if it starts (a version manager may offer a name that does not run), is Python 3.11 or newer,
# and can create virtual environments.
$(BIN)/python:
	@for candidate in python3.13 python3.14 python3.12 python3.11 python3 python; do \
		if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "Making $(VENV) with $$($$candidate --version)"; \
			exec $(call venv,$$candidate,$(VENV)); \
		fi; \
	done; \
	echo "error: no Python 3.11 or newer with venv was found on PATH (3.13 is best; on Debian also install python3-venv)" >&2; \
	exit 1

$(VENV)/.run: requirements.txt $(LOCK) | $(BIN)/python
	@echo "Installing requirements.txt"
	@$(call install,$(VENV),-r $< -c $(LOCK))
	@touch $@

$(VENV)/.deploy: deploy/requirements.txt requirements.txt $(LOCK) | $(BIN)/python
	@echo "Installing deploy/requirements.txt"
	@$(call install,$(VENV),-r $< -c $(LOCK))
	@touch $(VENV)/.run $@

$(VENV)/.test: requirements-dev.txt requirements.txt $(LOCK) | $(BIN)/python
	@echo "Installing requirements-dev.txt"
	@$(call install,$(VENV),-r $< -c $(LOCK))
	@touch $(VENV)/.run $@

$(VENV)/.bench: benchmarks/requirements.txt requirements-dev.txt requirements.txt $(LOCK) | $(BIN)/python
	@echo "Installing benchmarks/requirements.txt"
	@$(call install,$(VENV),-r $< -c $(LOCK))
	@touch $(VENV)/.run $(VENV)/.test $@

$(VENV)/.docs: docs/requirements.txt $(LOCK) | $(BIN)/python
	@echo "Installing docs/requirements.txt"
	@$(call install,$(VENV),-r $< -c $(LOCK))
	@touch $@
