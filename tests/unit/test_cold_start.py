"""A cold start imports nothing that its job does not need."""

from __future__ import annotations

import json
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


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that importing the handler loads."""
    program = "import json, sys, lambda_main; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", LATE)
def test_importing_the_handler_does_not_import(loaded: set[str], module: str) -> None:
    assert module not in loaded, LATE[module]


@pytest.mark.parametrize(
    "module",
    ["pipeline.loader", "domain.planner", "pipeline.splits", "reporting", "report.charts", "report.delivery"],
)
def test_importing_the_handler_imports_no_module_of_a_single_job(loaded: set[str], module: str) -> None:
    assert module not in loaded
