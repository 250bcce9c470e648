"""One mail per week, despite repeats, concurrent runs, runs killed at any step and a chart service that fails.

The mails go to a real SMTP server with TLS and login, or to moto's Amazon SES.
"""

from __future__ import annotations

import email
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from email import policy
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiosmtpd.smtp import SMTP
from moto import mock_aws
from sqlalchemy import Engine

from config import settings
from domain.errors import CredentialsError, DeliveryError
from lambda_main import handler
from sandbox.local_http import LocalServer, Reply
from sandbox.server import MarketServer
from tests.conftest import SYMBOLS, Job
from tests.support import runs
from tests.support.mail_server import (
    PASSWORD,
    Box,
    conversation,
    make_certificate,
    raw_server,
    server_context,
    smtp_server,
)
from tests.support.tables import rows

pytestmark = pytest.mark.in_turn

ROOT = Path(__file__).parents[2]
WEEKS = 16 if os.environ.get("DEEPER", "1") == "1" else 50  # make test-deep repeats the race more often
SATURDAYS = [date(2013, 3, 2) - timedelta(weeks=n) for n in range(WEEKS)]
REPORT = {"job_type": "weekly_report", "as_of": "2013-03-02"}
ONE, TWO = "one@example.com", "two@example.com"
MESSAGE_ID = "<weekly-report-2013-03-01@example.com>"

# A process that runs the events on its standard input, as a warm container does. It kills itself at the n-th reading of
# its clock, n being its first argument; 0 is never.
WORKER = """
import json, os, signal, sys
from dataclasses import replace
from datetime import UTC, datetime
from pipeline import jobs
from entrypoints.payload import parse_payload
from lambda_main import run_context
readings_left = int(sys.argv[1])
def now():
    global readings_left
    readings_left -= 1
    if readings_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return datetime.now(UTC)
context = replace(run_context(None), now=now)
for line in sys.stdin:
    request = parse_payload(json.loads(line), context.settings, datetime.now(UTC).date())
    print(json.dumps(jobs.run_job(request, context)), flush=True)
"""


class Worker:
    """A warm process that runs jobs, with the settings of this test."""

    def __init__(self, killed_at_reading: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(killed_at_reading)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, event: dict[str, Any]) -> None:
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, Any] | None:
        """The result of the last event; None if the process died."""
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        self.process.stdin.close()
        status = self.process.wait(timeout=30)
        self.process.stdout.close()
        return status


class Courier(SMTP):
    """An SMTP server whose box can act at QUIT, when the sender knows that its mail was accepted."""

    async def smtp_QUIT(self, arg):  # noqa: N802
        self.event_handler.at("quit")
        await super().smtp_QUIT(arg)


class Mailbox(Box):
    """A box that runs an action of a test once, at step "mail" (MAIL FROM), "data" (mail received) or "quit"."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: dict[str, Callable[[], None]] = {}

    def at(self, step: str) -> None:
        self.actions.pop(step, lambda: None)()

    async def handle_MAIL(self, server, session, envelope, address, options):  # noqa: N802
        self.at("mail")
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        reply = await super().handle_DATA(server, session, envelope)
        self.at("data")
        return reply

    @property
    def message_ids(self) -> list[str]:
        return [email.message_from_bytes(content)["Message-ID"] for _, _, content in self.mails]


def configure(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    settings.cache_clear()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def mailbox(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """The box of a real SMTP server with STARTTLS and login that receives the reports."""
    box = Mailbox()
    options: dict[str, Any] = {
        "tls_context": server_context(certificate),
        "require_starttls": True,
        "auth_required": True,
    }
    with smtp_server(box, server_class=Courier, authenticator=box.log_in, **options) as port:
        configure(
            monkeypatch,
            SSL_CERT_FILE=certificate,
            SMTP_HOST="127.0.0.1",
            SMTP_PORT=port,
            SMTP_USER="me",
            SMTP_PASSWORD=PASSWORD,
            MAIL_FROM="me@example.com",
            MAIL_TO="one@example.com,two@example.com",
        )
        yield box


@pytest.fixture
def loaded(job: Job) -> Job:
    job("initialize", as_of="2013-03-02")
    return job


def test_a_report_is_mailed_once_over_tls_with_a_login(loaded: Job, mailbox: Mailbox) -> None:
    statuses = [loaded("weekly_report", as_of="2013-03-02")["status"] for _ in range(3)]

    assert statuses == ["sent", "already_sent", "already_sent"]
    ((sender, recipients, content),) = mailbox.mails
    assert (sender, recipients) == ("me@example.com", ["one@example.com", "two@example.com"])
    assert mailbox.logins == [("me", PASSWORD)]
    assert not email.message_from_bytes(content, policy=policy.strict).defects


def test_force_mails_the_report_again_with_the_same_message_id(loaded: Job, mailbox: Mailbox, engine: Engine) -> None:
    for force in (False, True):
        assert loaded("weekly_report", as_of="2013-03-02", force=force)["status"] == "sent"

    assert mailbox.message_ids == [MESSAGE_ID, MESSAGE_ID]
    assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("sent", 2)]


def test_a_dry_run_mails_nothing(loaded: Job, mailbox: Mailbox) -> None:
    assert loaded("weekly_report", as_of="2013-03-02", dry_run=True)["status"] == "ok"
    assert mailbox.logins == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_two_processes_at_once_mail_one_report_per_week(
    job: Job, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, CHART_SYMBOLS="IBM")  # one failing chart is enough here
    workers = [Worker(), Worker()]  # they start while history is loaded
    job("initialize", start=str(SATURDAYS[-1] - timedelta(weeks=6)), as_of="2013-03-02")
    for saturday in SATURDAYS:
        before = len(mailbox.mails)
        for worker in workers:
            worker.start({**REPORT, "as_of": str(saturday)})
        results = [worker.result() for worker in workers]
        assert sorted(result["status"] for result in results) == ["already_sent", "sent"]
        assert len(mailbox.mails) == before + 1

    assert len(set(mailbox.message_ids)) == WEEKS
    assert [worker.end() for worker in workers] == [0, 0]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_two_runs_at_once_hand_one_report_per_week_to_ses(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.ses.models import ses_backends

    configure(
        monkeypatch,
        AWS_DEFAULT_REGION="us-east-1",
        MAIL_TRANSPORT="ses",
        MAIL_FROM="me@example.com",
        MAIL_TO="one@example.com",
        CHART_SYMBOLS="IBM",  # one failing chart is enough here
    )
    job("initialize", start=str(SATURDAYS[-1] - timedelta(weeks=6)), as_of="2013-03-02")
    with mock_aws(), ThreadPoolExecutor(2) as both:
        boto3.client("sesv2").create_email_identity(EmailIdentity="me@example.com")
        for saturday in SATURDAYS:
            together = threading.Barrier(2)

            def report(_: int, as_of: str = str(saturday), start: threading.Barrier = together) -> str:
                start.wait()
                return str(handler({**REPORT, "as_of": as_of})["status"])

            assert sorted(both.map(report, range(2))) == ["already_sent", "sent"]
        sent = next(iter(ses_backends.values()))["us-east-1"].sent_messages
        identities = [email.message_from_string(mail.raw_data)["Message-ID"] for mail in sent]
    assert len(identities) == len(set(identities)) == WEEKS


@pytest.mark.parametrize(
    ("step", "claimed", "mails", "recorded"),
    [
        ("charts", [], 1, ("sent", 1)),
        ("mail", [("claimed", 1)], 1, ("resent", 2)),
        ("data", [("claimed", 1)], 2, ("resent", 2)),
        ("quit", [("claimed", 1)], 2, ("resent", 2)),
        ("confirmed", [("sent", 1)], 1, ("sent", 1)),
    ],
)
def test_the_run_after_a_killed_one_delivers_the_report(
    step: str,
    claimed: list[tuple[str, int]],
    mails: int,
    recorded: tuple[str, int],
    loaded: Job,
    mailbox: Mailbox,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed before delivery, the mail goes out once; between delivery and confirmation, twice with one Message-ID."""
    chart_service = LocalServer(lambda _: mailbox.at("charts"))
    chart_service.start()
    configure(monkeypatch, QUICKCHART_URL=f"{chart_service.url}/chart")
    # A run reads the clock when it starts, has its turn, claims, confirms and ends.
    worker = Worker(killed_at_reading=5 if step == "confirmed" else 0)
    mailbox.actions[step] = worker.kill

    worker.start(REPORT)

    assert worker.result() is None
    assert worker.end() == -signal.SIGKILL
    runs.let_leases_end(engine)
    assert rows(engine, "SELECT status, attempts FROM sent_reports") == claimed

    again = loaded("weekly_report", as_of="2013-03-02")

    chart_service.stop()
    assert again["status"] == ("already_sent" if step == "confirmed" else "sent")
    assert mailbox.message_ids == [MESSAGE_ID] * mails
    assert rows(engine, "SELECT status, attempts FROM sent_reports") == [recorded]
    warned = any("did not confirm its mail" in warning for warning in again["warnings"])
    assert warned is (recorded[0] == "resent")
    assert loaded("weekly_report", as_of="2013-03-02")["status"] == "already_sent"


class TestLater:
    """Who is refused for now gets the report from the next run of the week, and nobody gets it twice."""

    @pytest.fixture(autouse=True)
    def _brief(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("report.delivery._FIRST_PAUSE", 60.0)  # one attempt per run

    @staticmethod
    def addressed(mailbox: Mailbox) -> list[list[str]]:
        return [recipients for _, recipients, _ in mailbox.mails]

    @pytest.mark.parametrize("next_run", ["2013-03-02", "2013-03-03"], ids=["an hour later", "next morning"])
    def test_a_greylisted_recipient_gets_the_report_from_the_next_run(
        self, loaded: Job, mailbox: Mailbox, engine: Engine, next_run: str
    ) -> None:
        mailbox.replies = {TWO: ["450 greylisted"] * 2}

        first = loaded("weekly_report", as_of="2013-03-02")

        assert (first["status"], first["recipients"], first["waiting"]) == ("sent", [ONE], {TWO: "450 greylisted"})
        assert (
            f"{TWO} was refused for now: 450 greylisted; the next weekly_report of this week sends it"
            in (first["warnings"])
        )

        still = loaded("weekly_report", as_of=next_run)

        assert (still["status"], still["recipients"], still["waiting"]) == (
            "already_sent",
            [ONE],
            {TWO: "450 greylisted"},
        )

        later = loaded("weekly_report", as_of=next_run)

        assert (later["status"], later["recipients"], later["waiting"]) == ("sent", [TWO], {})
        assert self.addressed(mailbox) == [[ONE], [TWO]]
        assert mailbox.message_ids == [MESSAGE_ID, MESSAGE_ID]
        done = loaded("weekly_report", as_of=next_run)
        assert (done["status"], done["recipients"], done["waiting"]) == ("already_sent", [ONE, TWO], {})
        assert rows(engine, "SELECT status, attempts, undelivered FROM sent_reports") == [("sent", 3, None)]

    def test_a_recipient_refused_for_good_is_named_and_tried_again_by_force_only(
        self, loaded: Job, mailbox: Mailbox
    ) -> None:
        mailbox.replies = {TWO: ["550 no such mailbox"]}

        results = [loaded("weekly_report", as_of="2013-03-02") for _ in range(2)]

        assert [result["status"] for result in results] == ["sent", "already_sent"]
        for result in results:
            assert (result["recipients"], result["refused"]) == ([ONE], {TWO: "550 no such mailbox"})
            assert f"{TWO} was refused: 550 no such mailbox; only force tries again" in result["warnings"]
        assert loaded("weekly_report", as_of="2013-03-02", force=True)["recipients"] == [ONE, TWO]
        assert loaded("weekly_report", as_of="2013-03-02")["recipients"] == [ONE, TWO]

    def test_a_report_that_went_to_the_outbox_is_mailed_once_there_is_a_mail_server(
        self, loaded: Job, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure(monkeypatch, MAIL_TRANSPORT="outbox")
        results = [loaded("weekly_report", as_of="2013-03-02") for _ in range(2)]
        assert [result["status"] for result in results] == ["sent", "already_sent"]
        configure(monkeypatch, MAIL_TRANSPORT="auto")

        results = [loaded("weekly_report", as_of="2013-03-02") for _ in range(2)]

        assert [result["status"] for result in results] == ["sent", "already_sent"]
        assert self.addressed(mailbox) == [[ONE, TWO]]

    def test_a_corrected_address_gets_the_report_and_the_others_no_copy(
        self, loaded: Job, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mailbox.replies = {TWO: ["550 no such mailbox"]}
        loaded("weekly_report", as_of="2013-03-02")
        configure(monkeypatch, MAIL_TO="ONE@example.com,too@example.com")

        result = loaded("weekly_report", as_of="2013-03-02")

        assert (result["recipients"], result["refused"]) == (["too@example.com"], {})
        assert self.addressed(mailbox) == [[ONE], ["too@example.com"]]

    @pytest.mark.parametrize("reply", ["450 greylisted", "550 no such mailbox"])
    def test_a_report_that_all_recipients_refused_is_sent_by_the_next_run_and_is_no_copy(
        self, loaded: Job, mailbox: Mailbox, engine: Engine, reply: str
    ) -> None:
        mailbox.replies = {ONE: [reply], TWO: [reply]}
        with pytest.raises(DeliveryError, match=f"accepted no recipient: {ONE}, {TWO}: {reply}"):
            loaded("weekly_report", as_of="2013-03-02")
        assert rows(engine, "SELECT status FROM sent_reports") == [("failed",)]

        result = loaded("weekly_report", as_of="2013-03-02")

        assert (result["status"], result["recipients"]) == ("sent", [ONE, TWO])
        assert not any("copy" in warning for warning in result["warnings"])
        assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("sent", 2)]

    def test_after_a_refused_login_the_next_mail_is_no_copy(
        self, loaded: Job, mailbox: Mailbox, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure(monkeypatch, SMTP_PASSWORD="wrong")
        with pytest.raises(CredentialsError):
            loaded("weekly_report", as_of="2013-03-02")
        configure(monkeypatch, SMTP_PASSWORD=PASSWORD)

        assert loaded("weekly_report", as_of="2013-03-02")["recipients"] == [ONE, TWO]
        assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("sent", 2)]

    def test_a_forced_report_that_is_refused_leaves_on_record_who_has_the_first(
        self, loaded: Job, mailbox: Mailbox
    ) -> None:
        loaded("weekly_report", as_of="2013-03-02")
        mailbox.replies = {ONE: ["450 later"], TWO: ["550 no"]}
        with pytest.raises(DeliveryError):
            loaded("weekly_report", as_of="2013-03-02", force=True)

        after = loaded("weekly_report", as_of="2013-03-02")

        assert (after["status"], after["recipients"], after["refused"]) == ("already_sent", [ONE, TWO], {})
        assert len(mailbox.mails) == 1

    @pytest.mark.parametrize("step", ["mail", "data", "quit"])
    def test_a_run_that_dies_on_its_way_to_the_second_sends_the_first_no_copy(
        self, step: str, loaded: Job, mailbox: Mailbox, engine: Engine
    ) -> None:
        mailbox.replies = {TWO: ["450 greylisted"]}
        loaded("weekly_report", as_of="2013-03-02")
        worker = Worker()
        mailbox.actions[step] = worker.kill
        worker.start(REPORT)
        assert worker.result() is None
        worker.end()
        runs.let_leases_end(engine)

        assert loaded("weekly_report", as_of="2013-03-02")["recipients"] == [TWO]

        assert self.addressed(mailbox) == [[ONE], *[[TWO]] * (1 if step == "mail" else 2)]
        assert loaded("weekly_report", as_of="2013-03-02")["status"] == "already_sent"

    @pytest.mark.usefixtures("mailbox")
    def test_a_mail_that_was_taken_without_an_answer_is_resent_and_says_so(
        self, loaded: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mails: list[object] = []
        monkeypatch.setattr("report.delivery._FIRST_PAUSE", 0.05)
        with raw_server(conversation(CONTENT=mails.append)) as port:
            configure(monkeypatch, SMTP_PORT=port, SMTP_SECURITY="none", SMTP_USER="")
            with pytest.raises(DeliveryError, match="no answer to the mail"):
                loaded("weekly_report", as_of="2013-03-02")
            assert len(mails) == 2
        assert rows(engine, "SELECT status FROM sent_reports") == [("claimed",)]
        with raw_server(conversation()) as port:
            configure(monkeypatch, SMTP_PORT=port)
            result = loaded("weekly_report", as_of="2013-03-02")
        assert any("did not confirm its mail" in warning for warning in result["warnings"])
        assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("resent", 2)]

    def test_a_week_without_prices_reaches_the_second_later_as_well(
        self, job: Job, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mailbox.replies = {TWO: ["450 greylisted"]}
        key = os.environ["POLYGON_API_KEY"]
        configure(monkeypatch, POLYGON_API_KEY="")
        results = [job("weekly_report", as_of="2013-03-02") for _ in range(3)]
        assert [result["recipients"] for result in results] == [[ONE], [TWO], [ONE, TWO]]
        configure(monkeypatch, POLYGON_API_KEY=key)
        assert job("weekly_report", as_of="2013-03-02")["recipients"] == [ONE, TWO], "the full report is for all"


class Context:
    """Lambda's context of a run with 9 s left: 5 s are reserved for the response, 2 s go to the charts."""

    def get_remaining_time_in_millis(self) -> int:
        return 9_000


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(Reply(500, b"oops"), "HTTP 500", id="down"),
        pytest.param(None, "the chart service did not answer", id="hanging up"),
        pytest.param("silent", "no response within", id="slow"),
        pytest.param(
            Reply(400, PNG, {"Content-Type": "image/png", "X-quickchart-error": "Chart Error: no"}),
            "the chart service says 'Chart Error: no'",
            id="a picture of an error",
        ),
        pytest.param(
            Reply(200, b"<html>", {"Content-Type": "text/html"}), "the response is text/html, not image/png", id="HTML"
        ),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_failing_chart_service_does_not_hold_back_the_mail_which_names_the_reason(
    reply: Reply | str | None, reason: str, loaded: Job, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def respond(_: object) -> Reply | None:
        if reply == "silent":
            ended.wait(30)
        return reply if isinstance(reply, Reply) else None

    service = LocalServer(respond)
    service.start()
    configure(monkeypatch, QUICKCHART_URL=f"{service.url}/chart")

    result = handler(REPORT, Context())

    ended.set()
    service.stop()
    assert result["elapsed_seconds"] < 20
    assert result["charts"] == []
    ((_, _, content),) = mailbox.mails
    mail = email.message_from_bytes(content, policy=policy.strict)
    for kind in ("plain", "html"):
        body = " ".join(mail.get_body((kind,)).get_content().replace("&#39;", "'").split())
        assert f"no chart for AAPL, FB, GOOG, IBM, MSFT: {reason}" in body
    assert "image/png" not in [part.get_content_type() for part in mail.walk()]


def test_a_worker_uses_the_settings_of_the_test(market: MarketServer, job: Job) -> None:
    """Otherwise the tests above would prove nothing."""
    worker = Worker()
    worker.start({"job_type": "initialize", "as_of": "2013-03-02", "sessions": 3})
    assert tuple(worker.result()["symbols"]) == SYMBOLS
    assert worker.end() == 0
    assert market.calls["grouped"] == 3
