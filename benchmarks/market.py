r"""Load the whole market with the real handler, from HTTP into PostgreSQL, invoked as on Lambda, against ``psql``.

The provider (synthetic prices), the database and the handler are three processes. The first provider costs next to
nothing: its answers are prepared before anything is measured. The second is the sandbox, which makes each answer as it
is asked for, on the same cores. Each invocation of the handler is a new process with a time limit, repeated while the
result is ``partial``.

The reference is ``\copy`` of the same finished rows by an open session of ``psql``, one file and one transaction for
each session, into the same empty table with its unique key; the two take turns. A sample of symbols is checked against
an independent calculation in decimal arithmetic. Then a warm handler repeatedly updates the full table by one day,
compared with the merge of that day's rows alone. The claims: 11,000 symbols × 500 sessions load completely under
256 MB, the rate does not fall as the table grows, and a daily update takes less than three times its merge.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import Psql, machine, peak_memory, psql_path, show  # noqa: E402
from database import COLUMNS  # noqa: E402
from domain.calendar import last_sessions, sessions_between  # noqa: E402
from tests.support.postgresql import postgresql_server  # noqa: E402

END, TODAY = date(2025, 12, 31), date(2026, 1, 2)
SEED = 7
SETTLE_SESSIONS = 3
UPDATES = 5  # daily updates of the full table
NEW_YORK = ZoneInfo("America/New_York")


class Invocation:
    """Lambda's context: the remaining time."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> float:
        """Milliseconds until Lambda would stop this invocation."""
        return max(self._end - time.monotonic(), 0) * 1000


def serve(symbols: int, sessions: int, *, prepared: bool) -> None:
    """Run the provider until standard input closes."""
    from api_client import PolygonClient
    from domain.clock import Deadline, SystemClock
    from sandbox.history import PriceHistory
    from sandbox.local_http import Reply, Request
    from sandbox.server import MarketServer

    class PreparedMarket(MarketServer):
        """Make each answer once and keep it."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.replies: dict[str, Reply | None] = {}

        def _reply(self, request: Request) -> Reply | None:
            if request.target not in self.replies:
                self.replies[request.target] = super()._reply(request)
            return self.replies[request.target]

    server = PreparedMarket if prepared else MarketServer
    with server(PriceHistory.synthetic(symbols, sessions, seed=SEED, end=END), today=TODAY) as market:
        if prepared:
            deadline = Deadline(None, SystemClock())
            client = PolygonClient(base_url=market.url, api_key=market.key, calls_per_minute=0, deadline=deadline)
            for session in last_sessions(sessions, TODAY):
                client.grouped_bars(session)
        print(market.url, flush=True)
        sys.stdin.read()


def invoke(event: dict[str, Any], seconds: float) -> None:
    """Run one invocation, and print its result, time and memory."""
    from lambda_main import handler

    started, used = time.monotonic(), time.process_time()
    result = handler(event, Invocation(seconds))
    taken = {
        "status": result["status"],
        "rows": sum(result["rows"].values()),
        "api_calls": result["api_calls"],
        "seconds": time.monotonic() - started,
        "own_seconds": time.process_time() - used,
        "peak_mb": peak_memory(),
    }
    print(json.dumps(taken))


def update(repeats: int) -> None:
    """Run a warm handler on an ordinary morning: one new session, and three that are read again.

    The reference is the load of the same four sessions' finished rows alone.
    """
    import pandas as pd
    from sqlalchemy import text

    import database
    from lambda_main import handler
    from storage.engine import database_time, open_engine, transaction
    from transformations import Metrics

    engine, sessions = open_engine(os.environ["DATABASE_URL"]), last_sessions(SETTLE_SESSIONS + 1, TODAY)
    numbers = [f"CAST({name} AS DOUBLE PRECISION)" for name in database.VALUES]
    query = f"SELECT date, symbol, {', '.join(numbers)} FROM stock_data WHERE date >= :day ORDER BY symbol, date"
    with engine.connect() as connection:
        stored = connection.execute(text(query), {"day": sessions[0]}).all()
    rows = pd.DataFrame(stored, columns=database.COLUMNS)
    rows = rows.astype({"date": "datetime64[s]", "symbol": "str", "volume": "int64"})
    is_stored = (rows["date"] < pd.Timestamp(sessions[-1])).to_numpy()
    forget = [
        "DELETE FROM stock_data WHERE date = :day",
        "DELETE FROM coverage",
        "INSERT INTO coverage VALUES ('*', :first, :before, :before, :before)",
        "UPDATE job_runs SET splits_until = :before, seen_to = :before",
    ]
    first = sessions_between(date(1990, 1, 1), sessions[0])[-1]
    days = {"day": sessions[-1], "before": sessions[-2], "first": first}
    taken: dict[str, list[float]] = {"daily_update": [], "merge": []}
    for _ in range(repeats):
        for name, seconds in taken.items():
            with engine.begin() as connection:
                for statement in forget:
                    connection.execute(text(statement), {key: days[key] for key in days if f":{key}" in statement})
            started = time.monotonic()
            if name == "daily_update":
                written = handler({"job_type": "daily_update", "as_of": str(TODAY)})["rows"]["inserted"]
            else:
                with transaction(engine) as connection:
                    metrics = Metrics(rows, rows.iloc[:0], is_stored)
                    at = database_time(connection)
                    written = database.load_bars(connection, metrics, run_id="benchmark", at=at).inserted
            seconds.append(time.monotonic() - started)
            if written != (~is_stored).sum():
                raise SystemExit(f"{name} wrote {written:,} rows instead of {(~is_stored).sum():,}")
    print(json.dumps({**{name: median(seconds) for name, seconds in taken.items()}, "peak_mb": peak_memory()}))


@contextmanager
def provider(symbols: int, sessions: int, *, prepared: bool = True) -> Iterator[str]:
    """Run a provider in its own process and yield its URL."""
    command = [sys.executable, __file__, "--serve", "--symbols", str(symbols), "--sessions", str(sessions)]
    command += [] if prepared else ["--sandbox"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


def environment(url: str, database: str) -> dict[str, str]:
    """The environment of the handler's processes."""
    return {
        **os.environ,
        "DATABASE_URL": database,
        "POLYGON_BASE_URL": url,
        "POLYGON_API_KEY": "sandbox-key",
        "POLYGON_CALLS_PER_MINUTE": "0",
        "SYMBOLS": "*",
    }


def load(url: str, database: str, job_type: str, seconds: float, **payload: Any) -> list[dict[str, Any]]:
    """Invoke until the result is no longer ``partial``, each time in a new process."""
    event = json.dumps({"job_type": job_type, "as_of": str(TODAY), **payload})
    command = [sys.executable, __file__, "--invoke", event, "--invocation-seconds", str(seconds)]
    invocations: list[dict[str, Any]] = []
    while not invocations or invocations[-1]["status"] == "partial":
        done = subprocess.run(command, env=environment(url, database), check=True, capture_output=True, text=True)
        invocations.append(json.loads(done.stdout.splitlines()[-1]))
    return invocations


def empty(database: str) -> None:
    """Remove all tables."""
    from storage.engine import open_engine, transaction
    from storage.schema import METADATA

    engine = open_engine(database)
    with transaction(engine) as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {', '.join(METADATA.tables)}")
    engine.dispose()


def export(psql: Psql, folder: Path) -> list[Path]:
    """Write the finished rows to one CSV file for each session."""
    whole, names = folder / "all.csv", ", ".join(COLUMNS)
    psql.run(f"\\copy (SELECT {names} FROM stock_data ORDER BY date, symbol) TO '{whole}' WITH (FORMAT csv)")
    files = []
    with whole.open() as lines:
        for session, rows in groupby(lines, key=lambda line: line[: len("2025-12-31")]):
            files.append(folder / f"{session}.csv")
            files[-1].write_text("".join(rows))
    whole.unlink()
    return files


def copy(psql: Psql, files: list[Path]) -> float:
    """Load the files into the emptied table, and return the seconds."""
    psql.run("TRUNCATE stock_data; CHECKPOINT;")
    started = time.monotonic()
    psql.run("\n".join(f"\\copy stock_data ({', '.join(COLUMNS)}) FROM '{file}' WITH (FORMAT csv)" for file in files))
    return time.monotonic() - started


def measure(
    symbols: int, sessions: int, seconds: float, *, sample: int, repeats: int, prepared: bool
) -> dict[str, Any]:
    """Load a market into an empty database, check it, then update it by one day."""
    path, references = psql_path(), list[float]()
    rounds: list[list[dict[str, Any]]] = []
    with (
        provider(symbols, sessions, prepared=prepared) as url,
        postgresql_server() as database,
        tempfile.TemporaryDirectory() as folder,
    ):
        for _ in range(repeats):
            empty(database)
            rounds.append(load(url, database, "initialize", seconds, sessions=sessions))
            if path:
                with closing(Psql(path, database)) as psql:
                    references.append(copy(psql, export(psql, Path(folder))))
        checked = check(database, symbols, sessions, sample)
        command = [sys.executable, __file__, "--update", str(UPDATES)]
        done = subprocess.run(command, env=environment(url, database), check=True, capture_output=True, text=True)
        day = json.loads(done.stdout.splitlines()[-1])
    total = median(sum(step["seconds"] for step in invocations) for invocations in rounds)
    own = median(sum(step["own_seconds"] for step in invocations) for invocations in rounds)
    invocations = rounds[0]
    rows = sum(step["rows"] for step in invocations)
    reference = {}
    if references:
        reference = {"psql_seconds": round(median(references), 2), "of_psql": round(total / median(references), 3)}
    return {
        "provider": "prepared" if prepared else "sandbox",
        "symbols": symbols,
        "sessions": sessions,
        "rows": rows,
        "api_calls": sum(step["api_calls"] for step in invocations),
        "invocations": len(invocations),
        "longest_invocation_seconds": round(max(step["seconds"] for steps in rounds for step in steps), 1),
        "seconds": round(total, 2),
        "own_cpu_seconds": round(own, 2),
        **reference,
        "rows_a_second": round(rows / total),
        "peaks_mb": [round(step["peak_mb"]) for steps in rounds for step in steps],
        "own_time_share": round(own / total, 3),
        "checked_rows": checked,
        "daily_update_seconds": round(day["daily_update"], 3),
        "merge_alone_seconds": round(day["merge"], 3),
        "daily_peak_mb": round(day["peak_mb"]),
    }


def check(database: str, symbols: int, sessions: int, sample: int) -> int:
    """Compare the rows of a sample of symbols with an independent calculation, and return their number."""
    from sqlalchemy import text

    from sandbox.history import PriceHistory
    from storage.engine import open_engine
    from tests.support import oracle
    from tests.support.tables import stock_data

    history = PriceHistory.synthetic(symbols, sessions, seed=SEED, end=END)
    chosen = history.symbols[:: max(symbols // sample, 1)][:sample]
    engine = open_engine(database)
    with engine.begin() as connection:
        count = connection.execute(text("SELECT count(*) FROM stock_data")).scalar_one()
    compared = 0
    for symbol in chosen:
        raw = history.range_bars(symbol, date(1990, 1, 1), END, adjusted=True, today=TODAY)
        bars = [
            oracle.Bar(
                symbol,
                datetime.fromtimestamp(bar["t"] / 1000, NEW_YORK).date(),
                *(Decimal(repr(bar[key])) for key in ("o", "h", "l", "c", "v")),
            )
            for bar in raw
        ]
        rows = stock_data(engine, f"WHERE symbol = '{symbol}'")
        if rows != oracle.table(bars):
            raise SystemExit(f"the rows of {symbol} differ from the independent calculation")
        compared += len(rows)
    engine.dispose()
    expected = symbols * sessions
    if count != expected:
        raise SystemExit(f"the table has {count:,} rows instead of {expected:,}")
    return compared


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--symbols", type=int, default=11_000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--baseline-sessions", type=int, help="for the ratio; default is a tenth of --sessions")
    parser.add_argument("--invocation-seconds", type=float, default=300)
    parser.add_argument("--sample", type=int, default=100, help="symbols to check")
    parser.add_argument("--repeats", type=int, default=3, help="loads of each market, in turns with psql")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sandbox", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--invoke", help=argparse.SUPPRESS)
    parser.add_argument("--update", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.symbols, options.sessions, prepared=not options.sandbox)
    if options.update:
        return update(options.update)
    if options.invoke:
        return invoke(json.loads(options.invoke), options.invocation_seconds)
    if not psql_path():
        print("psql is neither in the server's wheel nor on PATH: the reference is left out", file=sys.stderr)
    baseline = options.baseline_sessions or max(options.sessions // 10, 1)
    results = [
        measure(
            options.symbols,
            sessions,
            options.invocation_seconds,
            sample=options.sample,
            repeats=options.repeats,
            prepared=prepared,
        )
        for sessions, prepared in ((baseline, True), (options.sessions, True), (options.sessions, False))
    ]
    small, large, sandbox = results
    peaks = [peak for result in results for peak in (*result["peaks_mb"], result["daily_peak_mb"])]
    ratios = {
        "rate": large["rows_a_second"] / small["rows_a_second"],
        "own_time_share": large["own_time_share"],
        "peak_of_256_mb": max(peaks) / 256,
        "daily_update_of_merge": large["daily_update_seconds"] / large["merge_alone_seconds"],
    }
    if "of_psql" in large:
        ratios |= {"of_psql": large["of_psql"], "of_psql_with_sandbox": sandbox["of_psql"]}
    ratios = {name: round(ratio, 3) for name, ratio in ratios.items()}
    return show({**machine(), "results": results, "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
