"""A terminal for documented commands: ``main.py`` in a folder, without the seconds that its imports take.

A helper process imports the project once and forks per command, so each command starts as a fresh process would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

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
    from domain.calendar import last_sessions, today

    for name in ("main", "lambda_main", "api_client", "reporting", "database", "utils", "sandbox.server"):
        __import__(name)
    import datetime

    last_sessions(1, today(datetime.datetime.now(datetime.UTC)))  # reads the exchange's calendar, which is kept
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(question: dict[str, str]) -> None:
    """Become the command; never returns."""
    status: object = 1
    try:
        for descriptor, name in ((1, "output"), (2, "errors")):
            os.dup2(os.open(question[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.chdir(question["folder"])
        os.environ.update(question["variables"])
        sys.argv = ["main.py", *question["arguments"]]
        from main import main

        status = main()
    except SystemExit as end:
        status = end.code
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else int(bool(status)))


if __name__ == "__main__":
    _serve()
