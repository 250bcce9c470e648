"""The import of the handler: nothing that a job may not need, and on Lambda all that any job needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LATE = {
    "aws_lambda_powertools": "the logger, made once the handler runs on Lambda",
    "boto3": "Secrets Manager and SES",
    "exchange_calendars": "`make calendar`, which writes domain/holidays.py",
    "jinja2": "the report",
    "pg8000": "the first connection",
    "pyarrow.csv": "the first COPY",
    "rich": "the terminal",
    "schedule": "the terminal",
    "smtplib": "the mail",
    "sqlite3": "the first connection",
    "typer": "the terminal",
}


def modules(**environment: str) -> set[str]:
    """The modules that importing the handler loads, with these variables in the environment."""
    program = "import json, sys, lambda_main; print(json.dumps(sorted(sys.modules)))"
    variables = {"PATH": os.environ["PATH"], **environment}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=variables, check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that importing the handler loads on any other machine than Lambda's."""
    return modules()


@pytest.mark.parametrize("module", LATE)
def test_importing_the_handler_does_not_import(loaded: set[str], module: str) -> None:
    assert module not in loaded, LATE[module]


@pytest.mark.parametrize(
    "module",
    ["pipeline.loader", "domain.planner", "pipeline.splits", "reporting", "report.charts", "report.delivery"],
)
def test_importing_the_handler_imports_no_module_of_a_single_job(loaded: set[str], module: str) -> None:
    assert module not in loaded


def test_on_lambda_everything_that_a_job_needs_is_imported_at_init() -> None:
    needed = set(LATE) - {"boto3", "exchange_calendars", "rich", "schedule", "sqlite3", "typer"}
    loaded = modules(AWS_LAMBDA_FUNCTION_NAME="stock-tracker", DATABASE_URL="postgresql://u@localhost/d")
    assert needed <= loaded
    assert {"pipeline.loader", "pipeline.audit", "pipeline.weekly_report", "report.delivery"} <= loaded
    assert not {"exchange_calendars", "rich", "schedule", "typer"} & loaded
