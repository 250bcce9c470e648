"""A storm: many invocations at once over a pool of two connections, while every service fails and runs are killed."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from email import message_from_bytes
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from domain.calendar import last_sessions
from sandbox.history import PriceHistory
from sandbox.local_http import LocalServer, Reply, Request
from sandbox.server import Fault, MarketServer
from storage.engine import open_engine
from tests.conftest import SYMBOLS
from tests.support import oracle, pgbouncer
from tests.support.invocations import Invocation, invoke_many
from tests.support.mail_server import PASSWORD, Box, smtp_server
from tests.support.tables import rows, stock_data

TODAY = date(2013, 3, 2)
SECONDS = 9.0  # an invocation has these, of which it keeps 5 to commit and to answer
LEASE = 3.0  # seconds
KEY = "key-that-nobody-may-see"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Storm:
    """Faults of all services, one after another, until it is over."""

    def __init__(self, seed: int, market: MarketServer, box: Box, engine: Engine) -> None:
        self.random = random.Random(seed)
        self.market, self.box, self.engine = market, box, engine
        self.charts_fail = False
        self._over = threading.Event()

    @contextmanager
    def raging(self) -> Iterator[None]:
        """Let faults happen during the block."""
        thread = threading.Thread(target=self._rage)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self.market.forget_faults()
            self.box.accept = lambda box: "250 OK"
            self.box.replies = {}
            self.charts_fail = False

    def chart(self, _request: Request) -> Reply | None:
        """Answer the chart service's only call."""
        if self.charts_fail:
            return self.random.choice([None, Reply(500, b"\x00\x1b[31mno"), Reply(200, b"not a picture")])
        return Reply(200, PIXEL, {"Content-Type": "image/png"})

    def _rage(self) -> None:
        faults = [
            self._provider,
            self._provider,
            self._provider,
            self._connection,
            self._lock,
            self._mail,
            self._charts,
        ]
        while not self._over.wait(self.random.uniform(0, 0.15)):
            self.random.choice(faults)()

    def _provider(self) -> None:
        echo = f'{{"status": "ERROR", "error": "bad key {KEY}\\u0000\\u001b[31m"}}'.encode()
        fault = self.random.choice(
            [
                Fault(disconnect=True),
                Fault(status=500),
                Fault(status=429, headers={"Retry-After": "0"}),
                Fault(status=400, body=echo),
                Fault(status=401, body=echo),
                Fault(delay=0.5),
                Fault(body=b'{"status": "OK", "resultsCount": 7, "results": [{"t": 13'),
                Fault(body=b'{"status": "OK", "resultsCount": 7, "results": []}'),
                Fault(body=b'{"status": "OK", "ticker": "ZZZ", "results": []}'),
                Fault(body=b"\xff\xfe\x00"),
            ]
        )
        self.market.fail_next(fault)

    def _connection(self) -> None:
        """End one of the server's sessions, whatever it is doing."""
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
        )
        self._execute(query)

    def _lock(self) -> None:
        """Hold a table for a moment, as a backup or a migration does."""
        table = self.random.choice(["stock_data", "job_runs", "coverage"])
        self._execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", f"SELECT pg_sleep({self.random.uniform(0, 0.7)})")

    def _execute(self, *statements: str) -> None:
        try:
            with self.engine.begin() as connection:
                for statement in ("SET LOCAL lock_timeout = '1s'", *statements):
                    connection.execute(text(statement))
        except DBAPIError:
            return  # the table is not there yet, or another one holds it

    def _mail(self) -> None:
        encoded = base64.b64encode(f"\0reports\0{PASSWORD}".encode()).decode()
        reply = self.random.choice(
            ["250 OK", "421 later", "451 busy", f"554 AUTH PLAIN {encoded} seen", "450 \x1b[31m"]
        )
        self.box.accept = lambda box: reply
        self.box.replies = {"you@example.com": [self.random.choice(["250 OK", "450 greylisted"])]}

    def _charts(self) -> None:
        self.charts_fail = not self.charts_fail


def _invocations(generator: random.Random, count: int) -> list[Invocation]:
    jobs = [{"job_type": name, "as_of": str(TODAY)} for name in ("initialize", "daily_update", "weekly_report")]
    return [
        Invocation(generator.choice(jobs), SECONDS, generator.choice([None, None, None, generator.uniform(0.05, 1.5)]))
        for _ in range(count)
    ]


@pytest.fixture
def pooled_url(postgresql_url: str) -> Iterator[str]:
    """The database through a pooler in transaction mode with two connections."""
    if not pgbouncer.program():
        pytest.skip("pgbouncer is neither on PATH nor in build/: apt-get install pgbouncer")
    with pgbouncer.pooler(postgresql_url, connections=2) as url:
        yield make_url(url).set(password="db-pass-secret").render_as_string(hide_password=False)


@pytest.mark.parametrize(("seed", "count"), [(1, 20), pytest.param(2, 200, marks=pytest.mark.deep)])
def test_a_storm_ends_in_the_table_and_the_mail_of_a_calm_day(
    seed: int, count: int, pooled_url: str, postgresql_url: str, tmp_path: Path
) -> None:
    engine, box = open_engine(postgresql_url), Box()
    generator = random.Random(seed)
    market = MarketServer(PriceHistory.recorded(), today=TODAY, key=KEY)
    with market, smtp_server(box, authenticator=box.log_in, auth_require_tls=False) as mail_port:
        storm = Storm(seed, market, box, engine)
        charts = LocalServer(storm.chart)
        charts.start()
        environment = {
            "DATABASE_URL": pooled_url,
            "POLYGON_BASE_URL": market.url,
            "POLYGON_API_KEY": KEY,
            "POLYGON_CALLS_PER_MINUTE": "0",
            "QUICKCHART_URL": f"{charts.url}/chart",
            "SYMBOLS": ",".join(SYMBOLS),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(mail_port),
            "SMTP_USER": "reports",
            "SMTP_PASSWORD": PASSWORD,
            "SMTP_SECURITY": "none",
            "MAIL_FROM": "reports@example.com",
            "MAIL_TO": "me@example.com,you@example.com",
        }
        try:
            with storm.raging():
                stormy = invoke_many(_invocations(generator, count), environment, tmp_path, at_once=8, lease=LEASE)
            calm_folder = tmp_path / "calm"
            calm_folder.mkdir()
            events = [{"job_type": name, "as_of": str(TODAY)} for name in ("daily_update", "weekly_report")]
            calm = invoke_many(
                [Invocation(event, 60) for event in events], environment, calm_folder, at_once=1, lease=LEASE
            )
        finally:
            charts.stop()

    update, report = (each.result["status"] if each.result else each.output for each in calm)
    assert update in ("ok", "nothing_to_do")
    assert report in ("sent", "already_sent")
    chosen = [bar for bar in oracle.recorded_bars() if bar.session >= last_sessions(70, TODAY)[0]]
    assert stock_data(engine) == oracle.table(oracle.adjusted(chosen, TODAY))
    late = [each for each in stormy if each.taken > each.seconds]
    assert not late, [(each.event, each.taken, each.output) for each in late]
    _check_mails(box, sum(each.killed for each in stormy))
    assert not rows(engine, "SELECT * FROM job_runs WHERE status = 'running'")
    _check_secrets([each.output + str(each.result) for each in (*stormy, *calm)], engine, pooled_url)


def _check_mails(box: Box, killed: int) -> None:
    """Each recipient has the one report of the week; only a run that was killed can have sent it once more."""
    ids = {message_from_bytes(mail)["Message-ID"] for _, _, mail in box.mails}
    assert len(ids) == 1, ids
    for recipient in ("me@example.com", "you@example.com"):
        copies = sum(recipient in recipients for _, recipients, _ in box.mails)
        assert 1 <= copies <= 1 + killed, (recipient, copies)


def _check_secrets(outputs: list[str], engine: Engine, url: str) -> None:
    """No secret, in any form, is in what was written anywhere."""
    stored = [str(row) for table in inspect(engine).get_table_names() for row in rows(engine, f"SELECT * FROM {table}")]
    plain = [KEY, PASSWORD, f"\0reports\0{PASSWORD}", str(make_url(url).password)]
    forms = {form for secret in plain for form in (secret, quote(secret), base64.b64encode(secret.encode()).decode())}
    for written in (*outputs, *stored):
        assert not [form for form in forms if form in written], written
