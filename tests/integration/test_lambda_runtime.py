"""The handler under AWS's runtime client: a process with a read-only task root, fed by the runtime API.

The tests are skipped with a reason where a read-only file system is not available.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sandbox.history import PriceHistory
from sandbox.local_http import LocalServer, Reply
from sandbox.server import MarketServer
from storage.engine import open_engine
from tests.conftest import SYMBOLS
from tests.support import cloudwatch
from tests.support.lambda_runtime import Container, why_not
from tests.support.mail_server import Box, smtp_server
from tests.support.tables import has_tables, scalar
from tests.support.tcp_proxy import TcpProxy

MEMORY = 256  # of the function, in MB
LISTED = 11_000  # symbols of the US market
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(30_000)  # as large as a chart

Contain = Callable[..., Container]


@pytest.fixture
def contain(tmp_path: Path, market: MarketServer) -> Iterator[Contain]:
    """Start a container whose settings point to the sandbox; keyword arguments add settings."""
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    charts = LocalServer(lambda _: Reply(200, PICTURE, {"Content-Type": "image/png"}))
    charts.start()
    mails = ExitStack()
    port = mails.enter_context(smtp_server(Box()))
    started: list[Container] = []

    def start(*, missing: Sequence[str] = (), **environment: str) -> Container:
        usual = {
            "POLYGON_BASE_URL": market.url,
            "POLYGON_API_KEY": market.key,
            "POLYGON_CALLS_PER_MINUTE": "0",
            "QUICKCHART_URL": f"{charts.url}/chart",
            "SYMBOLS": ",".join(SYMBOLS),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_SECURITY": "none",
            "MAIL_FROM": "me@example.com",
            "MAIL_TO": "me@example.com",
        }
        started.append(Container(tmp_path, {**usual, **environment}, missing=missing))
        return started[-1]

    yield start
    for container in started:
        container.stop()
    charts.stop()
    mails.close()


def last_metrics(container: Container) -> dict[str, float]:
    """The last invocation's metrics over all jobs, by name; they precede the last log line."""
    *_, blob, _ = cloudwatch.documents(container.lines)
    return {name: value for (name, dimensions), (value, _) in cloudwatch.metrics(blob).items() if not dimensions}


def test_the_three_jobs_run_warm_from_a_read_only_task_root(
    contain: Contain, tcp_url: str, record_property: Callable[[str, object], None]
) -> None:
    container = contain(DATABASE_URL=tcp_url)
    for job, as_of, status in [
        ("initialize", "2013-03-01", "ok"),
        ("daily_update", "2013-03-02", "ok"),
        ("weekly_report", "2013-03-02", "sent"),
    ]:
        answer = container.invoke({"job_type": job, "as_of": as_of})

        assert answer.error is None
        assert (answer.result["job_type"], answer.result["status"]) == (job, status)
        last = cloudwatch.documents(container.lines)[-1]
        assert last["result"]["run_id"] == last["run_id"] == answer.result["run_id"]
        peak = container.peak_memory
        record_property("peak memory", f"{peak:.0f} MB after {job} of {len(SYMBOLS)} symbols")
        assert peak < MEMORY
        assert last_metrics(container)["PeakMemoryMB"] == pytest.approx(peak, rel=0.05)
    assert len(answer.result["charts"]) == len(SYMBOLS)
    assert scalar(open_engine(tcp_url), "SELECT count(*) FROM stock_data") == 355
    assert container.files == set()


@pytest.mark.slow
def test_a_market_of_11000_symbols_fits_into_the_memory(
    contain: Contain, market: MarketServer, tcp_url: str, record_property: Callable[[str, object], None]
) -> None:
    market.history = PriceHistory.synthetic(LISTED, 40, end=date(2013, 3, 1))
    container = contain(DATABASE_URL=tcp_url, SYMBOLS="*")
    payloads: list[dict[str, Any]] = [
        {"job_type": "initialize", "as_of": "2013-03-01", "sessions": 5},
        {"job_type": "daily_update", "as_of": "2013-03-02"},
        {"job_type": "weekly_report", "as_of": "2013-03-02"},
    ]
    for payload in payloads:
        answer = container.invoke(payload)

        assert answer.error is None
        peak = container.peak_memory
        record_property("peak memory", f"{peak:.0f} MB after {payload['job_type']} of {LISTED} symbols")
        assert peak < MEMORY
    rows = scalar(open_engine(tcp_url), "SELECT count(*) FROM stock_data WHERE date = '2013-03-01'")
    assert LISTED * 0.9 < rows <= LISTED, "all that traded that day"
    assert max(map(len, container.lines)) < 10_000, "a market does not fill the log"


def test_an_error_is_one_line_with_its_type_and_the_container_goes_on(contain: Contain, tcp_url: str) -> None:
    container = contain(DATABASE_URL=tcp_url)

    refused = container.invoke({"job_type": "daily_update", "as_of": "2013-03-02", "symbol": "GOOG"})

    assert refused.error is not None
    assert refused.error["errorType"] == "PayloadError"
    assert refused.error["errorMessage"].startswith("the key 'symbol' is unknown: valid are job_type, symbols,")
    assert refused.error["errorMessage"].isprintable(), "one line"
    line = cloudwatch.documents(container.lines)[-1]
    assert (line["level"], line["error"], line["message"]) == ("ERROR", "PayloadError", refused.error["errorMessage"])
    assert container.invoke({"job_type": "daily_update", "as_of": "2013-03-02"}).result["status"] == "ok"


def test_a_connection_dropped_while_the_container_was_frozen_is_replaced(
    contain: Contain, tcp_url: str, proxy: TcpProxy
) -> None:
    container = contain(DATABASE_URL=tcp_url)
    container.invoke({"job_type": "initialize", "as_of": "2013-03-01"})
    proxy.cut()

    assert container.invoke({"job_type": "daily_update", "as_of": "2013-03-02"}).result["rows"]["inserted"] == 5


def test_without_settings_a_run_names_the_missing_one_and_writes_no_file(contain: Contain) -> None:
    container = contain()

    answer = container.invoke({"job_type": "daily_update", "as_of": "2013-03-02"})

    assert answer.error is not None
    assert answer.error["errorType"] == "ConfigError"
    assert answer.error["errorMessage"].startswith("DATABASE_URL is not set: valid on Lambda is postgresql://")
    assert container.files == set()


def test_the_doctor_answers_what_is_broken_and_is_no_run(
    contain: Contain, tcp_url: str, record_property: Callable[[str, object], None]
) -> None:
    container = contain(DATABASE_URL=tcp_url, SMTP_PORT="9")

    answer = container.invoke({"job_type": "doctor", "send": True})

    assert answer.error is None, "an error would be retried"
    checks = {check["name"]: check["status"] for check in answer.result["checks"]}
    assert not answer.result["ok"]
    assert [name for name, status in checks.items() if status == "failed"] == ["mail"]
    assert (checks["test mail"], checks["database"], checks["charts"]) == ("skipped", "ok", "ok")
    line, *others = cloudwatch.documents(container.lines)
    assert (line["message"], line["result"], others) == ("doctor failed", answer.result, [])
    assert not has_tables(open_engine(tcp_url))
    assert container.files == set()
    assert container.peak_memory < MEMORY
    record_property("peak memory", f"{container.peak_memory:.0f} MB after doctor")
    assert container.invoke({"job_type": "daily_update", "as_of": "2013-03-02"}).result["status"] == "ok"
    assert scalar(open_engine(tcp_url), "SELECT count(*) FROM job_runs") == 1


def test_the_doctor_answers_also_without_settings_that_can_be_read(contain: Contain) -> None:
    answer = contain(LOG_LEVEL="loud").invoke({"job_type": "doctor"})

    assert answer.error is None
    assert answer.result["checks"][0]["message"].startswith("LOG_LEVEL is 'loud'")
    assert answer.result["checks"][0]["cure"] == "correct it in the stack's parameters or its secret"


def test_a_missing_layer_is_reported_by_name(contain: Contain) -> None:
    answer = contain(missing=["pg8000", "sqlalchemy"]).invoke({"job_type": "daily_update"})

    assert answer.error is not None
    assert answer.error["errorType"] == "Runtime.ImportModuleError"
    assert answer.error["errorMessage"] == "Unable to import module 'lambda_main': No module named 'sqlalchemy'"


def test_an_invocation_with_too_little_time_ends_as_partial(contain: Contain, tcp_url: str) -> None:
    container = contain(DATABASE_URL=tcp_url, POLYGON_CALLS_PER_MINUTE="3")

    partial: dict[str, Any] = container.invoke({"job_type": "initialize", "as_of": "2013-03-01"}, seconds=30).result

    assert (partial["status"], partial["api_calls"]) == ("partial", 3)
    assert last_metrics(container).keys() >= {"RunPartial", "RowsInserted"}
    assert last_metrics(container)["RowsInserted"] == 210
