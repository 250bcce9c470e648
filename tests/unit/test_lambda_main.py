import json
from datetime import timedelta
from typing import Any

import pytest

from config import settings
from domain.clock import SystemClock
from domain.errors import ConfigError, DataError, PayloadError
from lambda_main import handler, run_context
from pipeline import jobs
from tests.support.mail_server import Box, smtp_server

JOBS = "initialize, daily_update, weekly_report, doctor"
HIDDEN = "hunter2-do-not-tell"


class TestHandler:
    def test_the_result_is_json_and_names_its_job(self, market, tmp_path, monkeypatch):
        monkeypatch.setenv("POLYGON_BASE_URL", market.url)
        monkeypatch.setenv("POLYGON_API_KEY", market.key)
        monkeypatch.setenv("SYMBOLS", "GOOG")
        result = handler({"job_type": "initialize", "as_of": "2013-03-01", "sessions": 5})
        run_context(None).engine.dispose()
        assert json.loads(json.dumps(result)) == result
        assert (result["job_type"], result["as_of"], result["symbols"]) == ("initialize", "2013-03-01", ["GOOG"])
        assert (result["status"], result["rows"]["inserted"]) == ("ok", 5)

    def test_a_malformed_setting_fails_before_anything_happens(self, market, tmp_path, monkeypatch):
        monkeypatch.setenv("POLYGON_BASE_URL", market.url)
        monkeypatch.setenv("LOG_LEVEL", "loud")
        with pytest.raises(ConfigError, match=r"^LOG_LEVEL is 'loud'"):
            handler({"job_type": "daily_update"})
        assert market.calls == {}
        assert list(tmp_path.iterdir()) == []

    def test_the_clock_is_utc(self):
        now = run_context(None).now()
        assert now.utcoffset() == timedelta(0), "an aware UTC time, which gives the date in New York"

    def test_lambda_bounds_the_run_by_its_remaining_time(self, monkeypatch):
        monkeypatch.setattr(SystemClock, "monotonic", lambda _: 0.0)

        class Context:
            def get_remaining_time_in_millis(self):
                return 300_000

        assert run_context(Context()).deadline.remaining == 295, "5 seconds less, to commit and to answer"

    def test_a_terminal_has_no_time_limit_and_sees_progress(self):
        class Terminal:
            def progress(self, done, total, doing):
                raise NotImplementedError

        terminal = Terminal()
        context = run_context(terminal)
        assert context.deadline.remaining == float("inf")
        assert context.progress == terminal.progress
        assert context.settings is settings()


class TestDoctor:
    @pytest.mark.parametrize(
        ("event", "message"),
        [
            ({"symbols": "GOOG"}, "the key 'symbols' is unknown: valid are job_type, send"),
            ({"dry_run": True}, "the key 'dry_run' is unknown: valid are job_type, send"),
            ({"send": "yes"}, 'send is "yes": valid is true or false'),
            ({"send": None}, "send is null: valid is true or false"),
        ],
    )
    def test_an_event_that_is_not_valid_is_an_error_and_asks_nobody(self, market, monkeypatch, event, message):
        monkeypatch.setenv("POLYGON_BASE_URL", market.url)
        monkeypatch.setenv("POLYGON_API_KEY", market.key)
        with pytest.raises(PayloadError) as caught:
            handler({"job_type": "doctor", **event})
        assert str(caught.value) == message
        assert market.calls == {}

    def test_a_job_knows_no_send(self):
        with pytest.raises(PayloadError, match=r"^the key 'send' is unknown: valid are job_type, symbols, "):
            handler({"job_type": "daily_update", "send": True})

    def test_settings_that_were_corrected_are_read_anew(self, monkeypatch):
        monkeypatch.setenv("LOG_LEVEL", "loud")
        monkeypatch.setenv("QUICKCHART_URL", "http://127.0.0.1:9/chart")
        before: Any = handler({"job_type": "doctor"})
        monkeypatch.delenv("LOG_LEVEL")
        after: Any = handler({"job_type": "doctor"})
        assert [found["checks"][0]["status"] for found in (before, after)] == ["failed", "ok"]


class OnLambda:
    """The context that Lambda gives."""

    aws_request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

    def get_remaining_time_in_millis(self):
        return 300_000


class TestOnLambda:
    """A mistake in a deployment fails the invocation, with one line that names it."""

    @pytest.fixture(autouse=True)
    def _deployed(self, market, monkeypatch):
        monkeypatch.setenv("POLYGON_BASE_URL", market.url)
        monkeypatch.setenv("POLYGON_API_KEY", market.key)

    def refusal(self, event, kind=ConfigError):
        with pytest.raises(kind) as caught:
            handler(event, OnLambda())
        assert str(caught.value).isprintable(), "one line"
        return str(caught.value)

    def test_a_database_that_is_not_set_is_named(self, tmp_path):
        assert self.refusal({"job_type": "daily_update"}).startswith(
            "DATABASE_URL is not set: valid on Lambda is postgresql://…"
        )
        assert list(tmp_path.iterdir()) == []

    def test_a_database_file_beside_the_code_is_refused(self, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", "sqlite:///prices.db")
        assert self.refusal({"job_type": "daily_update"}).startswith(
            "DATABASE_URL is a file in the folder of the code: valid on Lambda is postgresql://…"
        )

    @pytest.mark.parametrize("folder", ["outbox", "/tmp/outbox"])
    @pytest.mark.parametrize("transport", ["auto", "outbox"])
    def test_a_report_is_never_left_in_a_folder(self, monkeypatch, tmp_path, folder, transport):
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/prices.db")
        monkeypatch.setenv("OUTBOX", folder)
        monkeypatch.setenv("MAIL_TRANSPORT", transport)
        assert self.refusal({"job_type": "weekly_report"}) == (
            f"MAIL_TRANSPORT is {transport!r} and SMTP_HOST is '', which leaves reports in a folder:"
            " on Lambda set SMTP_HOST, or MAIL_TRANSPORT=ses, and MAIL_FROM, MAIL_TO"
        )
        assert list(tmp_path.iterdir()) == []

    def test_a_mounted_file_system_may_hold_the_database(self, monkeypatch, tmp_path):
        box = Box()
        with smtp_server(box) as port:
            for name, value in {
                "DATABASE_URL": f"sqlite:///{tmp_path}/prices.db",
                "QUICKCHART_URL": "http://127.0.0.1:9/chart",
                "SYMBOLS": "GOOG",
                "SMTP_HOST": "127.0.0.1",
                "SMTP_PORT": str(port),
                "SMTP_SECURITY": "none",
                "MAIL_FROM": "me@example.com",
                "MAIL_TO": "me@example.com",
            }.items():
                monkeypatch.setenv(name, value)
            for job_type in jobs.JOBS:
                handler({"job_type": job_type, "as_of": "2013-03-02"}, OnLambda())
        run_context(None).engine.dispose()
        assert len(box.mails) == 1

    def test_an_unreachable_database_is_named_without_its_password(self, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", f"postgresql://someone:{HIDDEN}@127.0.0.1:9/prices")
        message = self.refusal({"job_type": "daily_update"}, DataError)
        assert message.startswith("PostgreSQL at 127.0.0.1:9/prices cannot be reached: ")
        assert HIDDEN not in message

    def test_an_event_of_a_rule_without_input_names_the_rule(self):
        rule = "arn:aws:events:us-east-1:123456789012:rule/somebody-elses"
        event = {
            "version": "0",
            "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": "123456789012",
            "time": "2013-03-01T13:00:00Z",
            "region": "us-east-1",
            "resources": [rule],
            "detail": {},
        }
        assert f" of {rule} has no job_type: valid are {JOBS}" in self.refusal(event, PayloadError)
