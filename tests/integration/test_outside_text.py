"""What other services say: it is shown and stored in one clean line, and never with a secret that they repeat."""

from __future__ import annotations

import base64
import html
import json
import traceback
from typing import Any
from urllib.parse import quote, unquote

import pytest
from sqlalchemy import Engine, inspect

from config import settings
from domain.errors import ApiError, ConfigError, PayloadError, StockTrackerError
from domain.text import Redactor
from lambda_main import handler
from pipeline.context import without_secrets
from report.delivery import Delivery, NotAcceptedError
from sandbox.server import Fault, MarketServer
from tests.conftest import Job
from tests.support.rough_server import rough_server
from tests.support.tables import rows, scalar

pytestmark = pytest.mark.in_turn

KEY = "k/3y+hunter2-do-not-tell"
PASSWORD = "pass word/hunter3+tell"


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


FORMS = {
    "plain": KEY,
    "URL-encoded": quote(KEY, safe=""),
    "URL-encoded in lower case": quote(KEY, safe="").lower(),
    "URL-encoded twice": quote(quote(KEY, safe=""), safe=""),
    "in upper case": KEY.upper(),
    "HTML": "".join(f"&#{ord(letter)};" for letter in KEY),
    "in two lines": f"{KEY[:10]}\r\n{KEY[10:]}",
    "Base64": coded(KEY),
    "Base64 of something longer": coded(f"Bearer {KEY}, and more"),
    "Base64 of Base64": coded(coded(KEY)),
    "a part of that": coded(f"Bearer {KEY}, and more")[14:30],
    "JSON": json.dumps(KEY).replace("/", "\\/"),
    "cut by the limit of a message": "x" * 190 + KEY,
    "cut by the provider": KEY[:12] + "…",
}


def has_secret(text: str, secret: str = KEY) -> bool:
    """Whether a text holds half a secret, in any of the forms."""
    half = len(secret) // 2
    forms = [
        secret.casefold(),
        *(coded(" " * n + secret)[4:] for n in range(3)),
        *(coded(coded(" " * n + secret)[4:])[4:] for n in range(3)),
    ]
    parts = {form[start : start + half] for form in forms for start in range(len(form) - half)}
    text = text.replace("\\/", "/")
    plain = html.unescape(unquote(unquote(text.replace(" ", "")))).casefold()
    return any(part in text or part in plain for part in parts)


def everything_stored(engine: Engine) -> str:
    return "\n".join(
        str(row) for table in inspect(engine).get_table_names() for row in rows(engine, f"SELECT * FROM {table}")
    )


@pytest.fixture
def secret_market(market: MarketServer, job: Job, monkeypatch: pytest.MonkeyPatch) -> MarketServer:
    market.key = KEY
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    monkeypatch.setenv("SYMBOLS", "GOOG")
    settings.cache_clear()
    return market


class TestSecrets:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_key_that_the_provider_repeats_is_nowhere(
        self, secret_market: MarketServer, job: Job, engine: Engine, capfd: pytest.CaptureFixture[str], form: str
    ) -> None:
        said = {"status": "ERROR", "error": f"no {FORMS[form]} for you"}
        secret_market.fail_next(Fault(status=404, body=json.dumps(said).encode()))

        with pytest.raises(ApiError) as caught:
            job("initialize", as_of="2013-03-02", sessions=5)

        said_and_stored = [str(caught.value), everything_stored(engine), *capfd.readouterr()]
        assert "***" in str(caught.value)
        assert scalar(engine, "SELECT status FROM job_runs") == "failed"
        assert not has_secret("\n".join(said_and_stored))

    def test_a_bar_and_a_split_that_hold_it_are_stored_without_it(
        self, secret_market: MarketServer, job: Job, engine: Engine
    ) -> None:
        bars = [{"o": 1, "h": 0, "l": 1, "c": 1, "v": 1, "t": 1362114000000, "note": f"for {KEY}"}]
        secret_market.fail_next(Fault(body=json.dumps({"status": "OK", "results": bars}).encode()))
        job("initialize", as_of="2013-03-02", sessions=1)
        split = {"ticker": KEY, "execution_date": KEY, "split_from": 1, "split_to": KEY}
        secret_market.fail_next(Fault(body=json.dumps({"status": "OK", "results": [split]}).encode()))
        job("daily_update", as_of="2013-03-05")

        assert scalar(engine, "SELECT count(*) FROM rejected_bars") >= 2
        assert not has_secret(everything_stored(engine))

    def test_a_report_does_not_mail_it(
        self, secret_market: MarketServer, job: Job, engine: Engine, tmp_path: Any
    ) -> None:
        job("initialize", as_of="2013-03-01", sessions=5)
        said = {"status": "ERROR", "error": f"no {KEY} for you"}
        secret_market.fail_next(*[Fault(status=404, body=json.dumps(said).encode())] * 20)

        result = job("weekly_report", as_of="2013-03-02")

        mail = "".join(file.read_text() for file in (tmp_path / "outbox").iterdir())
        assert "could not be loaded" in mail
        assert "***" in mail
        assert not has_secret(mail + json.dumps(result) + everything_stored(engine))

    @pytest.mark.parametrize("repeated", ["blob", "part of the blob", "plain", "decoded"])
    def test_a_password_that_the_mail_server_repeats_is_nowhere(
        self, job: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch, repeated: str
    ) -> None:
        job("initialize", as_of="2013-03-02", sessions=5)
        with echoing_mail_server(repeated) as server:
            variables = {
                "SMTP_HOST": "127.0.0.1",
                "SMTP_PORT": server.url.rpartition(":")[2],
                "SMTP_SECURITY": "none",
                "SMTP_USER": "me@example.com",
                "SMTP_PASSWORD": PASSWORD,
                "MAIL_FROM": "me@example.com",
                "MAIL_TO": "you@example.com",
            }
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            settings.cache_clear()
            with pytest.raises(StockTrackerError) as caught:
                job("weekly_report", as_of="2013-03-02")
        message = str(caught.value)
        assert "535 " in message
        assert "***" in message
        assert message.isprintable()
        assert not has_secret(message + everything_stored(engine), PASSWORD)

    def test_the_password_of_a_database_is_masked_in_every_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1:9/prices")
        assert settings().redact(f"no {PASSWORD} and no {quote(PASSWORD)}") == "no *** and no ***"

    @pytest.mark.parametrize(
        "event",
        [
            {KEY: 1},
            {"symbols": KEY},
            {"symbols": [KEY]},
            {"start": KEY},
            {"sessions": quote(quote(KEY, safe=""))},
            {"as_of": "x" * 70 + KEY},
            {"job_type": KEY},
            {"job_type": f"{KEY[:5]}\n{KEY[5:]}"},
        ],
    )
    def test_a_key_in_an_event_is_not_in_the_error(
        self, secret_market: MarketServer, job: Job, event: dict[str, Any]
    ) -> None:
        with pytest.raises(PayloadError, match=r"\*\*\*") as caught:
            handler({"job_type": "initialize", **event})
        assert not has_secret("".join(traceback.format_exception(caught.value)))

    def test_no_part_of_a_key_is_in_an_error_that_shows_a_part_of_an_event(
        self, secret_market: MarketServer, job: Job
    ) -> None:
        for length in range(50, 80):
            for event in {"as_of": "x" * length + KEY}, {"symbols": ["x" * length + KEY]}, {"x" * length + KEY: 1}:
                with pytest.raises(PayloadError, match="xxx") as caught:
                    handler({"job_type": "initialize", **event})
                assert KEY[:4] not in str(caught.value)

    def test_an_event_without_a_job_shows_no_key(self, secret_market: MarketServer, job: Job) -> None:
        with pytest.raises(PayloadError, match=r"\*\*\*.* has no job_type") as caught:
            handler({"x" * 50: KEY})
        assert not has_secret(str(caught.value))

    def test_a_key_that_is_the_value_of_another_setting_is_masked(self, job: Job, monkeypatch: Any) -> None:
        monkeypatch.setenv("POLYGON_API_KEY", KEY)
        monkeypatch.setenv("LOG_LEVEL", KEY)
        settings.cache_clear()
        with pytest.raises(ConfigError, match=r"^LOG_LEVEL is '\*\*\*'"):
            job("initialize")

    def test_a_key_that_is_a_valid_part_of_an_event_is_stored_without_it(
        self, job: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SMTP_PASSWORD", "Short-1")
        settings.cache_clear()
        job("initialize", as_of="2013-03-02", sessions=5, symbols=["GOOG", "Short-1"])

        payload = json.loads(scalar(engine, "SELECT payload FROM job_runs"))
        assert payload == {"as_of": "2013-03-02", "job_type": "initialize", "sessions": 5, "symbols": ["GOOG", "***"]}

    def test_an_error_that_is_a_bug_is_masked_too(
        self, secret_market: MarketServer, job: Job, engine: Engine, monkeypatch: Any
    ) -> None:
        def broken(*_: Any) -> None:
            raise KeyError(KEY)

        monkeypatch.setattr("pipeline.jobs.JOBS", {"initialize": broken})
        with pytest.raises(RuntimeError, match=r"\*\*\*") as caught:
            job("initialize")
        assert not has_secret(str(caught.value) + everything_stored(engine))

    def test_an_error_stays_what_it_is_without_the_secret(self) -> None:
        with pytest.raises(NotAcceptedError, match=r"^no \*\*\*$") as caught, without_secrets(Redactor([KEY])):
            raise NotAcceptedError(f"no {KEY}", Delivery("smtp", waiting={"me@example.com": "451 later"}))
        assert caught.value.delivery.waiting == {"me@example.com": "451 later"}
        assert KEY not in "".join(traceback.format_exception(caught.value))


def echoing_mail_server(repeated: str) -> Any:
    """A mail server that refuses every login and repeats what it was sent."""

    def answer(connection: Any) -> None:
        lines = connection.makefile("rwb", buffering=0)
        lines.write(b"220 mail.example.com\r\n")
        for line in lines:
            verb, _, rest = line.strip().partition(b" ")
            if verb.upper() == b"EHLO":
                lines.write(b"250-mail.example.com\r\n250 AUTH PLAIN\r\n")
            elif verb.upper() == b"AUTH":
                blob = rest.partition(b" ")[2]
                plain = base64.b64decode(blob)
                shown = {"blob": blob, "part of the blob": blob[12:40], "plain": PASSWORD.encode(), "decoded": plain}
                lines.write(b"535 no \x1b[31m" + shown[repeated] + b"\r\n")
            else:
                lines.write(b"221 bye\r\n")
                return

    return rough_server(answer)


ODD = {
    "NUL": "a\\u0000b",
    "a lone surrogate": "a\\ud800b",
    "control and ANSI characters": "a\\u001b[31m\\u0007\\u0085b",
    "line breaks": "a\\r\\n\\u2028b",
    "200 characters and more": "a" * 5_000,
}


class TestBytes:
    @pytest.mark.parametrize("odd", ODD)
    def test_an_error_of_the_provider_is_stored_and_shown_as_one_clean_line(
        self, job: Job, market: MarketServer, engine: Engine, odd: str
    ) -> None:
        market.fail_next(Fault(status=404, body=b'{"status": "ERROR", "error": "%s"}' % ODD[odd].encode()))

        with pytest.raises(ApiError) as caught:
            job("initialize", as_of="2013-03-02", sessions=5)

        message = str(caught.value)
        assert message.isprintable()
        assert len(message) < 400
        assert rows(engine, "SELECT status, error FROM job_runs") == [("failed", message)]

    @pytest.mark.parametrize("odd", ODD)
    @pytest.mark.parametrize("field", ["T", "c", "note"])
    def test_a_bar_that_holds_such_bytes_is_rejected_and_kept(
        self, job: Job, market: MarketServer, engine: Engine, odd: str, field: str
    ) -> None:
        bar = {"T": "GOOG", "o": 1, "h": 0, "l": 1, "c": 1, "v": 1, "t": 1362171600000, field: "ODD"}
        body = json.dumps({"status": "OK", "results": [bar]}).replace('"ODD"', f'"{ODD[odd]}"')
        market.fail_next(Fault(body=body.encode()))

        job("initialize", as_of="2013-03-02", sessions=1, symbols="*")

        kept = rows(engine, "SELECT symbol, bar FROM rejected_bars")
        assert len(kept) == 1
        assert json.loads(kept[0][1])[field] == json.loads(f'"{ODD[odd]}"')
        assert "".join(kept[0]).isprintable()

    @pytest.mark.parametrize("odd", ODD)
    def test_a_split_that_holds_such_bytes_is_rejected_and_kept(
        self, job: Job, market: MarketServer, engine: Engine, odd: str
    ) -> None:
        job("initialize", as_of="2013-03-01", sessions=5)
        split = {"ticker": "ODD", "execution_date": "ODD", "split_from": 1, "split_to": 2}
        body = json.dumps({"status": "OK", "results": [split]}).replace('"ODD"', f'"{ODD[odd]}"')
        market.fail_next(Fault(body=body.encode()))

        assert job("daily_update", as_of="2013-03-02")["rows"]["rejected"] == 1
        ((kept,),) = rows(engine, "SELECT bar FROM rejected_bars")
        assert json.loads(kept)["ticker"] == json.loads(f'"{ODD[odd]}"')

    def test_a_bug_with_such_bytes_leaves_a_failed_run(self, job: Job, engine: Engine, monkeypatch: Any) -> None:
        def broken(*_: Any) -> None:
            raise ValueError("a\0b\ud800\nc")

        monkeypatch.setattr("pipeline.jobs.JOBS", {"initialize": broken})
        with pytest.raises(ValueError, match="a"):
            job("initialize")
        assert rows(engine, "SELECT status, error FROM job_runs") == [("failed", "unexpected error: a b c")]
