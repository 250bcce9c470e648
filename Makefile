# Everything a person types. The virtual environment is made on first use and again when requirements change.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-deep lint pictures clean help

run: $(VENV)/.run ## Load real prices, update them by a day, and leave a weekly report to open
	@$(BIN)/python main.py run

test: $(VENV)/.test ## Run the whole suite, on a real PostgreSQL
	@$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-deep: $(VENV)/.test ## Drive twenty times as many random histories through the jobs (about half an hour)
	@DEEPER=20 $(BIN)/python -m pytest -n auto tests/integration/test_convergence.py $(ARGS)

lint: $(VENV)/.test ## Check style (ruff) and types (mypy --strict)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

pictures: $(VENV)/.test ## Take the README's pictures of the report again, in a headless Chromium
	@$(BIN)/python -m tests.browser.pictures

clean: ## Remove the environment, caches, the local database and the outbox
	rm -rf $(VENV) outbox stock_tracker.db* sandbox/quickchart/node_modules tests/browser/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
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
