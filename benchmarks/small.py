"""Update five symbols, morning by morning: the round trips, statements and time of a ``daily_update`` on PostgreSQL.

A warm handler does what an installation does every day: it loads one session of five symbols and reads the three
before it again, from a provider in another process whose answers are prepared. The provider's share is measured by the
same calls alone, and subtracted. The reference is the least that such a morning can cost: the same finished rows in one
upsert by the bare driver, in one transaction on an open connection. The three take turns.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.common import machine, peak_memory, show
from benchmarks.market import SETTLE_SESSIONS, TODAY, environment, provider
from domain.calendar import last_sessions
from tests.support.postgresql import postgresql_server
from tests.support.round_trips import count_messages

SYMBOLS, HISTORY = 5, 70
WARM_UP = 3  # mornings that are not counted
CALLS = SETTLE_SESSIONS + 2  # one for each session, and one for splits


def upsert(driver: Any, rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> None:
    """The reference: rows of ``stock_data`` into a copy of it, by one statement."""
    places = ", ".join(["(" + ", ".join(["%s"] * len(columns)) + ")"] * len(rows))
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[2:])
    driver.cursor().execute(
        f"INSERT INTO reference ({', '.join(columns)}) VALUES {places} "
        f"ON CONFLICT (symbol, date) DO UPDATE SET {changes}",
        [value for row in rows for value in row],
    )
    driver.commit()


def timed(step: Callable[..., Any], *arguments: Any) -> tuple[float, float, Any]:
    """Return the seconds and the CPU seconds of a step, and its result."""
    started, used = time.perf_counter(), time.process_time()
    result = step(*arguments)
    return time.perf_counter() - started, time.process_time() - used, result


def measure(url: str, mornings: Sequence[date]) -> dict[str, Any]:
    """Update on each morning, and compare with the reference; the environment names provider and database."""
    from sqlalchemy import text

    import database
    from api_client import PolygonClient
    from domain.clock import Deadline, SystemClock
    from lambda_main import handler
    from storage.engine import open_engine

    engine = open_engine(url)
    symbols = os.environ["SYMBOLS"].split(",")
    client = PolygonClient(
        base_url=os.environ["POLYGON_BASE_URL"],
        api_key=os.environ["POLYGON_API_KEY"],
        calls_per_minute=0,
        deadline=Deadline(None, SystemClock()),
    )

    def call_provider(sessions: Sequence[date]) -> None:
        for session in sessions:
            client.grouped_bars(session)
        client.splits(sessions[0], sessions[-1], symbols)

    handler({"job_type": "initialize", "as_of": str(mornings[0]), "sessions": HISTORY})
    counting = count_messages(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE reference (LIKE stock_data INCLUDING ALL)"))
        connection.execute(text("INSERT INTO reference SELECT * FROM stock_data"))
    driver = open_engine(f"{url}{'&' if '?' in url else '?'}application_name=reference").raw_connection()
    names = ", ".join(database.COLUMNS)
    taken: list[dict[str, float]] = []
    for morning in mornings[1:]:
        sessions = last_sessions(SETTLE_SESSIONS + 1, morning)
        before = counting.round_trips, counting.statements
        seconds, cpu, result = timed(handler, {"job_type": "daily_update", "as_of": str(morning)})
        after = counting.round_trips, counting.statements
        if (result["api_calls"], result["rows"]["inserted"]) != (CALLS, SYMBOLS):
            raise SystemExit(f"this is not an ordinary morning: {result}")
        calls, calls_cpu, _ = timed(call_provider, sessions)
        with engine.begin() as connection:
            query = text(f"SELECT {names} FROM stock_data WHERE date >= :first")
            rows = [tuple(row) for row in connection.execute(query, {"first": sessions[0]})]
        reference, _, _ = timed(upsert, driver, rows, database.COLUMNS)
        taken.append(
            {
                "seconds": seconds,
                "cpu_seconds": cpu,
                "provider_seconds": calls,
                "own_seconds": seconds - calls,
                "own_cpu_seconds": cpu - calls_cpu,
                "upsert_seconds": reference,
                "round_trips": after[0] - before[0],
                "statements": after[1] - before[1],
            }
        )
    driver.close()
    counted = taken[WARM_UP:]
    return {name: round(median(each[name] for each in counted), 5) for name in counted[0]}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mornings", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    mornings = last_sessions(options.mornings + WARM_UP + 1, TODAY)
    with provider(SYMBOLS, HISTORY + len(mornings)) as market, postgresql_server() as url:
        os.environ |= environment(market, url) | {"SYMBOLS": ",".join(f"SYN{n:05d}" for n in range(SYMBOLS))}
        result = {"mornings": options.mornings, **measure(url, mornings), "peak_mb": round(peak_memory())}
    ratios = {"of_upsert": round(result["own_seconds"] / result["upsert_seconds"], 2)}
    show({**machine(), "results": [result], "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
