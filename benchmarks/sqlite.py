"""Load the whole market with the real handler, from HTTP into SQLite, against a bare ``executemany``.

The provider's answers are prepared, in another process. Ours and the reference take turns in one process: the handler
loads an empty file, and ``executemany`` the same finished rows into the same table of another one, one transaction for
each session, on a connection as ``sqlite3`` opens it.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.common import machine, peak_memory, show
from benchmarks.market import TODAY, environment, provider
from database import COLUMNS
from storage.engine import open_engine, transaction
from storage.migration import ensure_schema

NAMES, PLACES = ", ".join(COLUMNS), ", ".join("?" for _ in COLUMNS)


def empty(file: Path) -> None:
    """Make a file anew with empty tables."""
    engine = open_engine(f"sqlite:///{file}")
    engine.dispose()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
    with transaction(engine) as connection:
        ensure_schema(connection)
    engine.dispose()


def load(sessions: int) -> None:
    """Load by the handler; the environment names the provider and the file."""
    from lambda_main import handler

    handler({"job_type": "initialize", "as_of": str(TODAY), "sessions": sessions})


def executemany(file: Path, days: list[list[tuple[Any, ...]]]) -> None:
    """Load the finished rows of each day in a transaction."""
    with closing(sqlite3.connect(file)) as connection:
        for rows in days:
            connection.executemany(f"INSERT INTO stock_data ({NAMES}) VALUES ({PLACES})", rows)
            connection.commit()


def finished_rows(file: Path) -> list[list[tuple[Any, ...]]]:
    """Read the rows of each day."""
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(f"SELECT {NAMES} FROM stock_data ORDER BY date, symbol").fetchall()
    return [list(day) for _, day in groupby(rows, key=lambda row: row[0])]


def measure(folder: Path, sessions: int, repeats: int) -> dict[str, Any]:
    """The median seconds and CPU seconds of both, in turns, and the peak memory of the first load."""
    file, other = folder / "ours.db", folder / "executemany.db"
    empty(file)
    load(sessions)  # what is imported and built at first use is not measured
    peak, days = peak_memory(), finished_rows(file)
    ways = {"ours": lambda: load(sessions), "executemany": lambda: executemany(other, days)}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            empty(file if name == "ours" else other)
            started, used = time.perf_counter(), time.process_time()
            way()
            taken[name].append((time.perf_counter() - started, time.process_time() - used))
    if finished_rows(file) != days or finished_rows(other) != days:
        raise SystemExit("the two files hold different rows")
    return {
        "rows": sum(map(len, days)),
        **{
            f"{name}_{unit}": round(median(column), 3)
            for name, pairs in taken.items()
            for unit, column in zip(("seconds", "cpu_seconds"), zip(*pairs, strict=True), strict=True)
        },
        "peak_mb": round(peak),
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--symbols", type=int, default=11_000)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with provider(options.symbols, options.sessions) as url, tempfile.TemporaryDirectory() as folder:
        os.environ |= environment(url, f"sqlite:///{folder}/ours.db")
        result = measure(Path(folder), options.sessions, options.repeats)
    ratios = {
        "of_executemany": result["ours_seconds"] / result["executemany_seconds"],
        "cpu_of_executemany": result["ours_cpu_seconds"] / result["executemany_cpu_seconds"],
        "peak_of_256_mb": result["peak_mb"] / 256,
    }
    ratios = {name: round(ratio, 3) for name, ratio in ratios.items()}
    show({**machine(), "results": [result], "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
