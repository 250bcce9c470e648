"""The weekly report through the real handler: its content, and that each week is reported once."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from config import settings
from domain.errors import DeliveryError
from domain.models import Split
from lambda_main import handler
from sandbox.renderer import Renderer, RendererUnavailable
from sandbox.server import Fault, MarketServer
from tests.conftest import SYMBOLS, Job
from tests.support.tables import rows

pytestmark = pytest.mark.in_turn

SUBJECT = "Weekly Market Report - Best: FB: 2.3% | Worst: AAPL: -5.2%"


Setting = Callable[..., None]


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """Change settings, as an edit of ``.env`` would; None removes one."""

    def change(**values: str | None) -> None:
        for name, value in values.items():
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        settings.cache_clear()

    return change


def report_text(result: Any) -> str:
    """The plain text of a report in the outbox, in one line."""
    mail = message_from_bytes(Path(result["files"][1]).read_bytes(), policy=policy.default)
    return " ".join(mail.get_body(("plain",)).get_content().split())


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


def test_charts_are_embedded_in_the_mail_and_the_page(loaded: Job, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_without_a_chart_service_the_report_goes_out_with_a_warning(loaded: Job) -> None:
    result = loaded("weekly_report", as_of="2013-03-02")

    assert result["charts"] == []
    assert [warning.partition(":")[0] for warning in result["warnings"]] == ["no chart for AAPL, FB, GOOG, IBM, MSFT"]


def test_a_week_is_reported_once_unless_forced(loaded: Job, engine: Engine) -> None:
    first = loaded("weekly_report", as_of="2013-03-02")

    again = loaded("weekly_report", as_of="2013-03-02")
    assert again["status"] == "already_sent"
    assert again["files"] == first["files"]
    assert loaded("weekly_report", as_of="2013-03-04")["status"] == "already_sent"  # the last week that has ended
    assert loaded("weekly_report", as_of="2013-03-02", force=True)["status"] == "sent"
    assert loaded("weekly_report", as_of="2013-02-23")["status"] == "sent"  # another week
    sent = rows(engine, "SELECT status, attempts FROM sent_reports ORDER BY week")
    assert sent == [("sent", 1), ("sent", 2)]


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ("AAPL", "weekly-report-2013-03-01-AAPL"),
        ("MSFT,IBM", "weekly-report-2013-03-01-IBM-MSFT"),
        (f"IBM,{','.join(f'X{n}' for n in range(20))}", r"weekly-report-2013-03-01-[0-9a-f]{16}"),
        ("*", r"weekly-report-2013-03-01-[0-9a-f]{16}"),
    ],
)
def test_a_report_of_chosen_symbols_does_not_use_up_the_week(
    loaded: Job, engine: Engine, setting: Setting, chosen: str, name: str
) -> None:
    some = loaded("weekly_report", as_of="2013-03-02", symbols=chosen)
    every = loaded("weekly_report", as_of="2013-03-02")

    assert (some["status"], every["status"], every["subject"]) == ("sent", "sent", SUBJECT)
    assert re.fullmatch(name, Path(some["files"][1]).stem), "it has a name of its own, also for mailboxes"
    assert message_from_bytes(Path(some["files"][1]).read_bytes())["Message-ID"] == (
        f"<{Path(some['files'][1]).stem}@localhost>"
    )
    again = [loaded("weekly_report", as_of="2013-03-02", symbols=symbols) for symbols in (chosen, list(SYMBOLS[::-1]))]
    assert [result["status"] for result in again] == ["already_sent", "already_sent"]
    assert again[0]["files"] == some["files"]
    assert again[1]["files"] == every["files"]
    assert rows(engine, "SELECT count(*) FROM sent_reports WHERE status = 'sent' AND attempts = 1") == [(2,)]
    setting(SYMBOLS="AAPL,IBM")
    assert loaded("weekly_report", as_of="2013-03-02")["status"] == "already_sent", "a change of the list sends no copy"


def test_a_run_within_a_week_reports_the_week_before(loaded: Job) -> None:
    assert loaded("weekly_report", as_of="2013-02-28")["sessions"] == {
        "first": "2013-02-19",
        "last": "2013-02-22",
        "count": 4,
    }
    assert loaded("weekly_report", as_of="2013-03-02")["status"] == "sent"


def test_a_report_that_failed_to_be_written_is_sent_by_the_next_run(
    loaded: Job, engine: Engine, setting: Setting
) -> None:
    Path("not-a-folder").write_text("")
    setting(OUTBOX="not-a-folder")
    with pytest.raises(DeliveryError, match="'not-a-folder'"):
        loaded("weekly_report", as_of="2013-03-02")
    assert rows(engine, "SELECT status FROM sent_reports") == [("failed",)]

    setting(OUTBOX=None)
    assert loaded("weekly_report", as_of="2013-03-02")["status"] == "sent"
    assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("sent", 2)]


def test_a_week_that_was_tried_keeps_its_message_id_even_when_the_sender_changes(loaded: Job, setting: Setting) -> None:
    Path("not-a-folder").write_text("")
    setting(OUTBOX="not-a-folder", MAIL_FROM="first@example.com")
    with pytest.raises(DeliveryError):
        loaded("weekly_report", as_of="2013-03-02")
    setting(OUTBOX=None, MAIL_FROM="second@example.org")

    result = loaded("weekly_report", as_of="2013-03-02")

    mail = message_from_bytes(Path(result["files"][1]).read_bytes(), policy=policy.default)
    assert (mail["From"].addresses[0].addr_spec, mail["Message-ID"]) == (
        "second@example.org",
        "<weekly-report-2013-03-01@example.com>",
    )


def test_missing_and_rejected_bars_and_splits_are_reported(job: Job, market: MarketServer) -> None:
    market.history.remove_bar("IBM", date(2013, 3, 1))
    market.history.put_bar("GOOG", date(2013, 2, 27), open=800, high=790, low=780, close=785, volume=5)
    market.history.add_split(Split("FB", date(2013, 2, 26), 1, 2))
    job("initialize", as_of="2013-02-23")

    result = job("weekly_report", as_of="2013-03-02", symbols="AAPL,FB,GOOG,IBM,XYZZ")

    text = report_text(result)
    assert "IBM has no bar for Friday." in text
    assert "XYZZ has no bar this week." in text
    assert "The bar of GOOG for Wednesday was rejected: its high 790.0 is below its open or close 800.0." in text
    assert "GOOG has no bar" not in text  # it is not reported as missing too
    assert "FB split 2 for 1 on Tuesday; all its prices are adjusted for the split." in text


def test_a_report_of_the_whole_market_names_missing_bars(job: Job, market: MarketServer) -> None:
    market.history.remove_bar("IBM", date(2013, 3, 1))
    job("initialize", as_of="2013-03-02", symbols="*", sessions=10)

    result = job("weekly_report", as_of="2013-03-02", symbols="*")

    assert result["subject"] == SUBJECT
    assert "IBM has no bar for Friday." in report_text(result)
    assert report_text(result).count("has no bar") == 1


def test_a_short_week_is_described_as_short(loaded: Job) -> None:
    result = loaded("weekly_report", as_of="2013-02-23")

    assert "4 sessions, a short week" in report_text(result)
    assert "The exchange was closed on Monday." in report_text(result)
    assert not any("closed" in warning for warning in result["warnings"])  # a holiday is no problem


def test_a_dry_run_leaves_a_preview_and_sends_nothing(
    loaded: Job, engine: Engine, market: MarketServer, setting: Setting
) -> None:
    setting(MAIL_TRANSPORT="smtp", SMTP_HOST="127.0.0.1", SMTP_PORT="9", MAIL_FROM="a@example.com", MAIL_TO="b@c.com")
    market.reset_calls()

    result = loaded("weekly_report", as_of="2013-03-02", dry_run=True)

    assert (result["status"], result["subject"], result["plan"]) == ("ok", SUBJECT, [])
    assert [Path(file).name for file in result["files"]] == [
        "weekly-report-2013-03-01-preview.html",
        "weekly-report-2013-03-01-preview.eml",
    ]
    assert "FB 27.78" in report_text(result)
    assert not rows(engine, "SELECT * FROM sent_reports")
    assert not market.calls


def test_a_dry_run_lists_what_the_report_would_load_first(loaded: Job, market: MarketServer) -> None:
    market.reset_calls()

    result = loaded("weekly_report", as_of="2013-03-02", symbols="AAPL,IBM,KO", dry_run=True)

    assert result["plan"] == ["KO from 2013-02-25 to 2013-03-01"]
    assert not market.calls


def test_a_dry_run_of_a_reported_week_keeps_its_report(loaded: Job, engine: Engine) -> None:
    sent = loaded("weekly_report", as_of="2013-03-02")
    before = Path(sent["files"][1]).read_bytes()

    preview = loaded("weekly_report", as_of="2013-03-02", dry_run=True)

    assert any("only force sends it again" in warning for warning in preview["warnings"])
    assert Path(sent["files"][1]).read_bytes() == before
    assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("sent", 1)]


class TestFresh:
    """Missing prices of the week are loaded first; those that cannot be loaded are reported."""

    def test_a_missed_week_is_loaded_before_it_is_reported(self, job: Job, market: MarketServer) -> None:
        job("initialize", as_of="2013-02-23")
        market.reset_calls()

        result = job("weekly_report", as_of="2013-03-02")

        assert result["subject"] == SUBJECT
        assert (result["api_calls"], result["rows"]["inserted"]) == (11, 25)
        assert dict(market.calls) == {"splits": 1, "range": 5 + 5}, "the week, and the audit of what was settled before"

    def test_a_complete_week_needs_no_call_even_when_forced(self, loaded: Job, market: MarketServer) -> None:
        loaded("weekly_report", as_of="2013-03-02")
        market.reset_calls()

        assert loaded("weekly_report", as_of="2013-03-02", force=True)["api_calls"] == 0
        assert not market.calls

    def test_an_empty_table_gets_the_history_that_an_update_would_load(self, job: Job) -> None:
        result = job("weekly_report", as_of="2013-03-02")

        assert (result["subject"], result["rows"]["inserted"]) == (SUBJECT, 350)
        assert job("daily_update", as_of="2013-03-02")["rows"]["inserted"] == 0

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (Fault(status=401, body=b"{}"), "the provider refused the key in POLYGON_API_KEY"),
            (Fault(status=403, body=b"{}"), "the plan of this POLYGON_API_KEY does not include"),
            (Fault(status=200, body=b"<html>"), "is not a JSON object"),
        ],
    )
    def test_a_failing_provider_does_not_hold_back_the_report(
        self, job: Job, market: MarketServer, fault: Fault, reason: str
    ) -> None:
        job("initialize", as_of="2013-03-01")
        market.fail_next(*[fault] * 9)

        result = job("weekly_report", as_of="2013-03-02")

        assert result["status"] == "sent"
        assert "Some prices of this week could not be loaded: " in report_text(result)
        assert reason in report_text(result)
        assert "AAPL, FB, GOOG, IBM and MSFT have no bar for Friday." in report_text(result)

    def test_a_missing_key_is_reported_only_if_prices_are_missing(self, job: Job, setting: Setting) -> None:
        job("initialize", as_of="2013-03-01")
        setting(POLYGON_API_KEY=None)

        assert "POLYGON_API_KEY is not set" in report_text(job("weekly_report", as_of="2013-03-02"))
        assert "POLYGON_API_KEY" not in report_text(job("weekly_report", as_of="2013-02-23"))

    def test_when_time_is_short_the_report_comes_first(self, job: Job, market: MarketServer) -> None:
        class Context:
            def get_remaining_time_in_millis(self) -> int:
                return 44_000  # 40 s are reserved for the report, 5 s for the response

        job("initialize", as_of="2013-03-01")
        market.reset_calls()

        result = handler({"job_type": "weekly_report", "as_of": "2013-03-02"}, Context())

        assert result["status"] == "sent"
        assert "could not be loaded in the time that there was" in report_text(result)
        assert not market.calls["grouped"]


class TestChanges:
    """What the provider says otherwise than before is named in the report."""

    def test_corrected_withdrawn_and_late_bars_of_the_week_are_named(self, job: Job, market: MarketServer) -> None:
        tuesday, wednesday = date(2013, 2, 26), date(2013, 2, 27)
        late = bar(market, "IBM", wednesday)
        market.today = date(2013, 2, 27)
        job("initialize", as_of="2013-02-27")
        correct(market, "IBM", tuesday, close=199.5)
        correct(market, "FB", tuesday, volume=1)
        market.history.remove_bar("IBM", wednesday)
        market.today = date(2013, 2, 28)
        job("daily_update", as_of="2013-02-28")
        market.history.put_bar("IBM", wednesday, **late)
        market.history.remove_bar("AAPL", tuesday)
        market.today = date(2013, 3, 1)
        job("daily_update", as_of="2013-03-01")
        market.today = date(2013, 3, 2)
        job("daily_update", as_of="2013-03-02")

        result = job("weekly_report", as_of="2013-03-02")

        text = report_text(result)
        assert "IBM's close of Tuesday was corrected from 199.14 to 199.50 on Thursday." in text
        assert "AAPL's bar of Tuesday, with a close of 448.97, was withdrawn on Friday." in text
        assert "AAPL has no bar for Tuesday." in text
        assert "IBM's bar of Wednesday appeared on Friday, with a close of 202.33." in text
        assert "FB's" not in text
        assert not any("corrected" in warning for warning in result["warnings"])

    def test_what_changed_after_the_last_report_is_named_in_this_one(self, job: Job, market: MarketServer) -> None:
        friday = date(2013, 2, 22)
        market.today = date(2013, 2, 23)
        job("initialize", as_of="2013-02-23")
        correct(market, "IBM", friday, close=200.5)
        market.today = date(2013, 2, 26)
        job("daily_update", as_of="2013-02-26")
        market.today = date(2013, 3, 2)

        text = report_text(job("weekly_report", as_of="2013-03-02"))

        assert "IBM's close of 22 February 2013 was corrected from 201.09 to 200.50 on Tuesday." in text

    def test_a_restatement_is_one_sentence(self, job: Job, market: MarketServer) -> None:
        job("initialize", as_of="2013-03-01")
        market.history.add_split(Split("IBM", date(2013, 2, 28), 1, 2))
        job("daily_update", as_of="2013-03-02")

        text = report_text(job("weekly_report", as_of="2013-03-02"))

        assert "IBM split 2 for 1 on Thursday; all its prices are adjusted for the split." in text
        assert "restated" not in text


def bar(market: MarketServer, symbol: str, session: date) -> dict[str, float]:
    """A bar of the recorded market, as :meth:`PriceHistory.put_bar` takes it."""
    found = market.history.range_bars(symbol, session, session, adjusted=True, today=date(2013, 3, 2))[0]
    names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
    return {name: found[key] for name, key in names.items()}


def correct(market: MarketServer, symbol: str, session: date, **values: float) -> None:
    """Change what the provider says of a bar."""
    market.history.put_bar(symbol, session, **{**bar(market, symbol, session), **values})


class TestNoPrices:
    """A week without any price is reported once, and the full report can still follow."""

    def test_the_report_goes_out_once_there_are_prices(self, job: Job, engine: Engine, setting: Setting) -> None:
        key = settings().polygon_api_key.get_secret_value()
        setting(POLYGON_API_KEY=None)
        empty = job("weekly_report", as_of="2013-03-02")
        assert empty["subject"] == "Weekly Market Report - No prices"
        assert "No symbol has a price this week." in report_text(empty)
        assert job("weekly_report", as_of="2013-03-02")["status"] == "already_sent"
        assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("no_prices", 1)]

        setting(POLYGON_API_KEY=key)
        full = job("weekly_report", as_of="2013-03-02")

        assert (full["status"], full["subject"]) == ("sent", SUBJECT)
        identities = [
            message_from_bytes(Path(result["files"][1]).read_bytes())["Message-ID"] for result in (empty, full)
        ]
        assert identities == [
            "<weekly-report-2013-03-01-no-prices@localhost>",
            "<weekly-report-2013-03-01@localhost>",
        ]
        assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("sent", 2)]
        assert job("weekly_report", as_of="2013-03-02")["status"] == "already_sent"


def test_the_chosen_symbols_are_charted(loaded: Job, setting: Setting) -> None:
    setting(CHART_SYMBOLS="IBM,KO")

    result = loaded("weekly_report", as_of="2013-03-02")

    assert result["warnings"] == [
        "no chart for IBM: the chart service did not answer: Connection refused",
        "no chart for KO: it has no price this week",
    ]
