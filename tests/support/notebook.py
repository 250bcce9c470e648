"""Run the Python blocks of a page as the cells of a notebook: in a process of its own, with one namespace for all."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CELL = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
PROJECT = "/path/to/the/project"  # as the page names it


def run_cells(cells: list[str], folder: Path, **variables: str) -> list[str]:
    """Return what each cell prints, the value of its last expression among it."""
    environment = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1", "HOME": str(folder), **variables}
    done = subprocess.run(
        [sys.executable, __file__],
        cwd=folder,
        env=environment,
        input=json.dumps([cell.replace(PROJECT, str(ROOT)) for cell in cells]),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def _run_cell(cell: str, names: dict[str, Any]) -> str:
    tree = ast.parse(cell)
    last = tree.body[-1]
    shown = ast.Expression(tree.body.pop().value) if isinstance(last, ast.Expr) else None  # type: ignore[attr-defined]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        if shown and (value := eval(compile(shown, "cell", "eval"), names)) is not None:
            print(value)
    return "\n".join(line.rstrip() for line in printed.getvalue().rstrip().splitlines())


def _load_scanner(folder: Path) -> None:
    """Load what DuckDB would download to read SQLite's files."""
    import duckdb

    sys.path.append(str(ROOT))
    from tests.support.duckdb_extensions import scanner

    sys.path.remove(str(ROOT))
    duckdb.execute(f"LOAD '{scanner('sqlite', folder)}'")


if __name__ == "__main__":
    sys.path[0] = ""  # the folder of a notebook
    _load_scanner(Path.cwd())
    namespace: dict[str, Any] = {}
    print(json.dumps([_run_cell(cell, namespace) for cell in json.load(sys.stdin)]))
