"""The weekly report through the real handler: what it says, and that it goes out once."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path

import pytest
from sqlalchemy import Engine

from config import settings
from errors import DeliveryError
from sandbox.market import MarketServer
from sandbox.renderer import Renderer, RendererUnavailable
from tests.conftest import Job
from tests.database_rows import rows

SUBJECT = "Weekly Market Report - Best: FB: 2.3% | Worst: AAPL: -5.2%"


@pytest.fixture
def loaded(job: Job) -> Job:
    job("initialize", as_of="2013-03-02")
    return job


def test_the_report_of_the_recorded_week_goes_to_the_outbox(loaded: Job) -> None:
    result = loaded("weekly_report", as_of="2013-03-02")

    assert result["status"] == "sent"
    assert result["subject"] == SUBJECT
    assert result["sessions"] == {"first": "2013-02-25", "last": "2013-03-01", "count": 5}
    page, mail = result["files"]
    message = message_from_bytes(Path(mail).read_bytes(), policy=policy.strict)
    assert message["Subject"] == SUBJECT
    assert "FB" in Path(page).read_text(encoding="utf-8")


def test_charts_are_inside_the_mail_and_the_page(loaded: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with Renderer() as renderer:
            monkeypatch.setenv("QUICKCHART_URL", renderer.url)
            settings.cache_clear()
            result = loaded("weekly_report", as_of="2013-03-02")
    except RendererUnavailable as error:
        pytest.skip(str(error))

    assert result["charts"] == ["FB", "IBM", "GOOG", "MSFT", "AAPL"]
    assert not result["warnings"]
    page, mail = result["files"]
    parts = [part.get_content_type() for part in message_from_bytes(Path(mail).read_bytes()).walk()]
    assert parts.count("image/png") == Path(page).read_text(encoding="utf-8").count("data:image/png;base64,") == 5


def test_without_a_chart_service_the_report_goes_out_and_says_so(loaded: Job) -> None:
    result = loaded("weekly_report", as_of="2013-03-02")

    assert result["charts"] == []
    assert [warning.partition(":")[0] for warning in result["warnings"]] == ["no chart for AAPL, FB, GOOG, IBM, MSFT"]


def test_a_week_is_reported_once_unless_forced(loaded: Job, engine: Engine) -> None:
    loaded("weekly_report", as_of="2013-03-02")

    assert loaded("weekly_report", as_of="2013-03-02")["status"] == "already_sent"
    assert loaded("weekly_report", as_of="2013-03-04")["status"] == "already_sent"  # the week of the last session
    assert loaded("weekly_report", as_of="2013-03-02", force=True)["status"] == "sent"
    assert loaded("weekly_report", as_of="2013-02-23")["status"] == "sent"  # another week
    sent = rows(engine, "SELECT status, attempts FROM sent_reports ORDER BY week")
    assert sent == [("sent", 1), ("sent", 2)]


def test_a_report_that_could_not_be_written_is_sent_by_the_next_run(
    loaded: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("not-a-folder").write_text("")
    monkeypatch.setenv("OUTBOX", "not-a-folder")
    settings.cache_clear()
    with pytest.raises(DeliveryError, match="'not-a-folder'"):
        loaded("weekly_report", as_of="2013-03-02")
    assert rows(engine, "SELECT status FROM sent_reports") == [("claimed",)]

    monkeypatch.delenv("OUTBOX")
    settings.cache_clear()
    assert loaded("weekly_report", as_of="2013-03-02")["status"] == "sent"
    assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("sent", 2)]


def test_what_is_missing_is_said(job: Job, market: MarketServer) -> None:
    from datetime import date

    market.history.remove_bar("IBM", date(2013, 3, 1))
    market.history.put_bar("GOOG", date(2013, 2, 27), open=800, high=790, low=780, close=785, volume=5)
    job("initialize", as_of="2013-03-02")

    result = job("weekly_report", as_of="2013-03-02", symbols="AAPL,FB,GOOG,IBM,XYZZ")

    text = message_from_bytes(Path(result["files"][1]).read_bytes(), policy=policy.default).get_body(("plain",))
    said = " ".join(text.get_content().split())
    assert "IBM has no bar of Friday." in said
    assert "XYZZ has no bar in this week." in said
    assert "A bar of GOOG of Wednesday was rejected: its high 790.0 is below its open or close 800.0." in said


def test_a_dry_run_sends_nothing(loaded: Job, engine: Engine) -> None:
    result = loaded("weekly_report", as_of="2013-03-02", dry_run=True)

    assert result["subject"] == SUBJECT
    assert not Path("outbox").exists()
    assert not rows(engine, "SELECT * FROM sent_reports")


def test_an_empty_database_is_reported_as_such(job: Job) -> None:
    assert job("weekly_report", as_of="2013-03-02")["subject"] == "Weekly Market Report - No prices"
