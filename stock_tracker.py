"""The stored prices in a notebook or a script: ``stock_tracker.load("AAPL", "MSFT")``.

In any folder, this line makes the module known, with the path of the project; an installed project needs no line:

    import sys; sys.path.append("/path/to/the/project")

The table is read by ``main.py export`` in a process of its own, which sends it back as Arrow. So nothing but this file
is imported into the notebook: the modules of the project have everyday names (``utils``, ``config``, ``database``), and
would otherwise replace the notebook's own, or be replaced by them. For the same reason this module imports none of
them. The process takes about a second to start. It runs in the project's ``.venv``, if there is one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

HERE = Path(__file__).resolve().parent
IS_CHECKOUT = (HERE / "pyproject.toml").is_file()  # whose settings and relative paths are those of its own folder
SQLITE = "sqlite:///"


class LoadError(Exception):
    """The prices cannot be loaded; the message is one line that says why."""


def load(
    *symbols: str | Iterable[str],
    start: str | date | None = None,
    end: str | date | None = None,
    known_at: str | datetime | None = None,
    wide: bool = False,
    as_polars: bool = False,
    url: str | None = None,
) -> Any:
    """Load rows of ``stock_data`` as a DataFrame.

    Parameters
    ----------
    *symbols : str, or one list of str
        Default all.
    start, end : str or datetime.date, optional
        The first and the last session, both included; an ISO date such as ``2026-01-02``.
    known_at : str or datetime.datetime, optional
        The table as it was known at this moment, which needs a zone; default now.
    wide : bool
        A row per session instead of one per symbol and session.
    as_polars : bool
        A DataFrame of polars instead of pandas.
    url : str, optional
        The database; default is ``DATABASE_URL`` of the settings, as the commands use it. A relative path of a SQLite
        file starts in the working directory.

    Returns
    -------
    pandas.DataFrame or polars.DataFrame
        ``date`` (datetime64), ``symbol``, and the numbers of ``stock_data`` as float64 and int64, sorted by symbol and
        session. If wide, pandas has ``date`` as index and columns such as ``("close", "AAPL")``, polars a column
        ``date`` and others such as ``close_AAPL``.

    Raises
    ------
    LoadError
        If an argument is not valid, nothing of a symbol was ever stored, or the database cannot be read.

    Examples
    --------
    >>> closes = load("AAPL", "MSFT", start="2026-01-02", wide=True)["close"]
    """
    names = [name for each in symbols for name in ([each] if isinstance(each, str) else each)]
    moment = known_at.isoformat() if isinstance(known_at, datetime) else known_at
    options = {"symbols": ",".join(names), "start": _day(start), "end": _day(end), "known-at": moment}
    table = _read([f"--{name}={value}" for name, value in options.items() if value], url)
    if as_polars:
        return _polars_frame(table, wide=wide)
    frame = table.to_pandas()
    return frame.pivot(index="date", columns="symbol") if wide else frame


def _day(value: str | date | None) -> str | None:
    """Return a date as the command takes it; a Timestamp of pandas is one as well."""
    return f"{value:%Y-%m-%d}" if isinstance(value, date) else value


def _read(options: list[str], url: str | None) -> pa.Table:
    variables = dict(os.environ)
    if url is not None:
        path = url.removeprefix(SQLITE)
        variables["DATABASE_URL"] = f"{SQLITE}{Path(path).absolute()}" if url.startswith(SQLITE) and path else url
    own = HERE / ".venv" / "bin" / "python"
    done = subprocess.run(
        [own if own.exists() else sys.executable, HERE / "main.py", "export", "--format=arrow", "--output=-", *options],
        cwd=HERE if IS_CHECKOUT else None,
        env=variables,
        capture_output=True,
        check=False,
    )
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        last_line = said.rpartition("\n")[2] or f"the process ended with status {done.returncode}"
        raise LoadError(re.sub(r"--(symbols|start|end|known-at)\b", _argument, last_line.removeprefix("error: ")))
    return pa.ipc.open_stream(done.stdout).read_all()


def _argument(option: re.Match[str]) -> str:
    return option[1].replace("-", "_")


def _polars_frame(table: pa.Table, *, wide: bool) -> Any:
    try:
        import polars
    except ImportError:
        raise LoadError("as_polars is True, and polars is not installed: pip install polars") from None
    frame: Any = polars.from_arrow(table)
    if not wide:
        return frame
    numbers = [name for name in frame.columns if name not in ("date", "symbol")]
    return frame.pivot(on="symbol", index="date", values=numbers).sort("date")
