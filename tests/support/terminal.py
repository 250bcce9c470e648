"""A terminal for documented commands: ``main.py`` in a folder, without the seconds that its imports take.

A helper process imports the project once and forks per command, so each command starts as a fresh process would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from domain.calendar import last_sessions

ROOT = Path(__file__).parents[2]
COLUMNS = 100


class Terminal:
    """Run commands of ``main.py``; a context manager."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._environment = {"PATH": os.environ["PATH"], "COLUMNS": str(COLUMNS), "PYTHONUTF8": "1", **variables}

    def __enter__(self) -> Terminal:
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.terminal"],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._helper.communicate()  # the end of its input ends it

    def run(self, folder: Path, arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
        """Run a command in a folder and return what it prints on standard output.

        Raises
        ------
        AssertionError
            If its exit status is not 0; the message is what it printed on standard error.
        """
        output, errors = folder.parent / "stdout.txt", folder.parent / "stderr.txt"
        question = {
            "folder": str(folder),
            "arguments": list(arguments),
            "variables": dict(variables or {}),
            "output": str(output),
            "errors": str(errors),
        }
        assert self._helper.stdin is not None
        assert self._helper.stdout is not None
        self._helper.stdin.write(json.dumps(question) + "\n")
        self._helper.stdin.flush()
        status = int(self._helper.stdout.readline())
        assert status == 0, errors.read_text(encoding="utf-8")
        return output.read_text(encoding="utf-8")


def _serve() -> None:
    """Fork per command read from standard input, and answer with its exit status."""
    for name in ("main", "lambda_main", "api_client", "reporting", "database", "utils", "sandbox.server"):
        import_module(name)
    last_sessions(1, date(2013, 3, 2))  # loads the exchange's calendar, which stays in memory
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(question: dict[str, Any]) -> None:
    """Run a command and end as it does, so that an error's traceback and exit status are its own."""
    for descriptor, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(question[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.chdir(question["folder"])
    os.environ.update(question["variables"])
    sys.argv = ["main.py", *question["arguments"]]
    sys.exit(import_module("main").main())


if __name__ == "__main__":
    _serve()
