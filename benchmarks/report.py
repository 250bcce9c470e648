"""The weekly report from stored data to a delivered mail: five symbols with charts, and thousands of symbols.

Both run the real job on a PostgreSQL table, with charts by the local renderer and a local SMTP server. Thousands of
symbols run in their own process, whose peak memory is measured, with charts of ten. Limits are 2 s, 10 s and 256 MB;
ratios are limit / measured, so a limit holds if its ratio is above 1. The mail is also built alone, without a database,
to show its share of the time.
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
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.common import machine, medians, peak_memory, show
from config import settings
from lambda_main import handler
from report.email import build_message
from report.model import Week
from reporting import build_report
from sandbox.history import PriceHistory
from sandbox.renderer import Renderer
from sandbox.server import MarketServer
from storage.engine import open_engine
from tests.support.postgresql import postgresql_server
from transformations import weekly_performance

AS_OF = "2013-03-02"
SESSIONS = 40
LIMITS = {"five_seconds": 2.0, "many_seconds": 10.0, "many_mb": 256.0}


def configure(**values: object) -> None:
    """Set settings for this process and its children."""
    os.environ.update({name: str(value) for name, value in values.items()})
    settings.cache_clear()


@contextmanager
def smtp_sink() -> Iterator[int]:
    """Run an SMTP server that accepts and drops every mail, and yield its port."""
    from tests.support.mail_server import Box, smtp_server

    with smtp_server(Box()) as port:
        yield port


def load(history: PriceHistory, url: str, symbols: str) -> None:
    """Fill the database with ``initialize``."""
    with open_engine(url).begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    with MarketServer(history, today=date.fromisoformat(AS_OF)) as market:
        configure(DATABASE_URL=url, POLYGON_BASE_URL=market.url, POLYGON_API_KEY=market.key, SYMBOLS=symbols)
        handler({"job_type": "initialize", "as_of": AS_OF, "sessions": SESSIONS})


def send_report() -> Any:
    """Send the weekly report."""
    return handler({"job_type": "weekly_report", "as_of": AS_OF, "force": True})


def mail_alone(symbols: int) -> float:
    """The seconds from bars in memory to the bytes of a mail, without database, charts or server."""
    dates = pd.Series(pd.bdate_range(end="2013-03-01", periods=30))
    bars = dates.to_frame("date").merge(pd.Series([f"SYN{n:05}" for n in range(symbols)], name="symbol"), how="cross")
    bars = bars.sort_values(["symbol", "date"], ignore_index=True)
    close = 100 + bars.index.to_numpy() % 97 / 10
    bars = bars.assign(open=close - 1, high=close + 2, low=close - 2, close=close, volume=1e6, volatility=4.0)
    started = time.perf_counter()
    performance = weekly_performance(bars, pd.Timestamp("2013-02-25"))
    report = build_report(performance, Week(date(2013, 2, 25), date(2013, 3, 1), 5))
    build_message(report, sender=None, recipients=(), sent_at=datetime.now(UTC)).as_bytes()
    return time.perf_counter() - started


def in_own_process() -> dict[str, float]:
    """The seconds of one report in a fresh process, without imports, and its peak memory."""
    done = subprocess.run([sys.executable, __file__, "--child"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def child() -> None:
    """Send one report in this process and print its figures."""
    started = time.perf_counter()
    result = send_report()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "mb": peak_memory(), "charts": len(result["charts"])}))


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--symbols", type=int, default=3_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child()
        return
    with tempfile.TemporaryDirectory() as folder, postgresql_server() as url, Renderer() as renderer:
        os.chdir(folder)  # where no .env is
        with smtp_sink() as port:
            configure(
                QUICKCHART_URL=renderer.url,
                POLYGON_CALLS_PER_MINUTE=0,
                SMTP_HOST="127.0.0.1",
                SMTP_PORT=port,
                SMTP_SECURITY="none",
                MAIL_FROM="a@example.com",
                MAIL_TO="b@example.com",
            )
            load(PriceHistory.recorded(), url, "AAPL,FB,GOOG,IBM,MSFT")
            five = medians({"five": lambda: send_report() and None}, options.repeats)["five"]
            load(PriceHistory.synthetic(options.symbols, SESSIONS, end=date(2013, 3, 1)), url, "*")
            runs = [in_own_process() for _ in range(options.repeats)]
    many = sorted(run["seconds"] for run in runs)[len(runs) // 2]
    peak = max(run["mb"] for run in runs)
    alone = medians({"alone": lambda: mail_alone(options.symbols)}, options.repeats)["alone"]
    results = [
        {"way": "data to delivered mail, charts by the local renderer", "symbols": 5, "seconds": round(five, 3)},
        {
            "way": "data to delivered mail, in its own process",
            "symbols": options.symbols,
            "seconds": round(many, 3),
            "peak_mb": round(peak, 1),
            "charts": int(runs[0]["charts"]),
        },
        {"way": "figures to mail, without database or charts", "symbols": options.symbols, "seconds": round(alone, 3)},
    ]
    measured = {"five_seconds": five, "many_seconds": many, "many_mb": peak}
    ratios = {name: round(limit / measured[name], 2) for name, limit in LIMITS.items()}
    show({**machine("jinja2"), "results": results, "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
