"""Two handlers at the same moment, in two processes, as EventBridge's at-least-once delivery may start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from connection import open_engine
from sandbox.market import MarketServer
from tests import independent
from tests.conftest import SYMBOLS
from tests.database_rows import rows, stock_data

ROOT = Path(__file__).parent.parent.parent
PAIRS = 50

# A process that imports the handler once and then runs each line it is told, as a warm container does.
WORKER = """
import json, sys
from pathlib import Path
from lambda_main import handler
from config import settings
import os
for line in sys.stdin:
    order = json.loads(line)
    os.environ["DATABASE_URL"], os.environ["OUTBOX"] = order["database"], order["outbox"]
    settings.cache_clear()
    results = [handler(event) for event in order["events"]]
    print(json.dumps(results), flush=True)
"""

EVENTS = [
    {"job_type": "initialize", "as_of": "2013-03-01", "sessions": 20},
    {"job_type": "daily_update", "as_of": "2013-03-02"},
    {"job_type": "weekly_report", "as_of": "2013-03-02"},
]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_handlers_at_once_end_as_one_fifty_times(
    kind: str, market: MarketServer, tmp_path: Path, postgresql_database: str
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
        "PYTHONPATH": str(ROOT),
        "POLYGON_BASE_URL": market.url,
        "POLYGON_API_KEY": market.key,
        "POLYGON_CALLS_PER_MINUTE": "0",
        "QUICKCHART_URL": "http://127.0.0.1:9/chart",
        "SYMBOLS": ",".join(SYMBOLS),
    }
    command = [sys.executable, "-c", WORKER]
    workers = [
        subprocess.Popen(
            command, env=environment, cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    expected = None
    try:
        for pair in range(PAIRS):
            url = postgresql_database if kind == "postgresql" else f"sqlite:///{tmp_path}/{pair}.db"
            engine = open_engine(url)
            if kind == "postgresql":
                with engine.begin() as connection:
                    connection.execute(text("DROP SCHEMA public CASCADE"))
                    connection.execute(text("CREATE SCHEMA public"))
            market.reset_calls()
            order = json.dumps({"database": url, "outbox": str(tmp_path / str(pair)), "events": EVENTS})
            for worker in workers:
                worker.stdin.write(order + "\n")
                worker.stdin.flush()
            results = [json.loads(worker.stdout.readline()) for worker in workers]

            statuses = [sorted(result[n]["status"] for result in results) for n in range(len(EVENTS))]
            assert statuses == [["nothing_to_do", "ok"], ["nothing_to_do", "ok"], ["already_sent", "sent"]]
            assert dict(market.calls) == {"range": 5, "grouped": 1, "splits": 1}
            assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("sent", 1)]
            table = stock_data(engine)
            expected = expected or independent.table(
                bar for bar in independent.recorded_bars() if str(bar.session) >= str(table[0].session)
            )
            assert table == expected
            engine.dispose()
    finally:
        for worker in workers:
            worker.stdin.close()
            worker.wait(timeout=30)
            worker.stdout.close()
