"""Whatever is typed, sent or written into ``.env``: an error of ours in one line, or a result."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

import main
from config import Settings, load_settings, settings
from domain.errors import ConfigError, PayloadError
from domain.models import JOB_TYPES, Request
from entrypoints.payload import Payload, parse_payload
from lambda_main import handler
from storage.engine import open_engine, redacted_url

NOW = date(2013, 3, 2)
KEYS = sorted(Payload.model_fields)
NAMES = sorted(name.upper() for name in Settings.model_fields)
ANY_TEXT = st.text(st.characters(), max_size=30)  # with control characters and lone surrogates
COMMANDS = ("initialize", "daily_update", "weekly_report", "status", "export", "invoke")
OPTIONS = (
    *("--symbols", "--as-of", "--sessions", "--start", "--end", "--dry-run", "--force", "--json", "--help", "--debug"),
    *("--output", "--known-at", "--format", "--verbose", "--quiet", "--version", "-h", "--misbehave", "--", "-", "*"),
    *("AAPL,IBM", "2013-03-02", "@x"),
)

same_folder = effort(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


def one_line(error: BaseException) -> str:
    """The message of an error, which is one line."""
    said = str(error)
    assert said.isprintable(), said
    assert len(said) < 2_000
    return said


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.dates().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)
events = json_values | st.builds(
    lambda job, keys: {"job_type": job, **keys},
    st.sampled_from(JOB_TYPES) | json_values,
    st.dictionaries(st.sampled_from(KEYS) | ANY_TEXT, json_values, max_size=4),
)


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@given(event=events)
@example(event={"job_type": "initialize", "sessions": 10**4000})
def test_an_event_is_a_request_or_one_line(event: Any) -> None:
    try:
        request = parse_payload(event, Settings(), NOW)
    except PayloadError as error:
        one_line(error)
    else:
        assert isinstance(request, Request)
        assert request.payload.isprintable(), "a database stores it"


@pytest.mark.parametrize("depth", [200, 1_000, 9_900, 100_000])
@pytest.mark.parametrize("key", [None, "job_type", "symbols", "as_of", "unknown"])
def test_a_deeply_nested_event_is_one_line(depth: int, key: str | None) -> None:
    event = {"job_type": "daily_update", key: nested(depth)} if key else nested(depth)

    with pytest.raises(PayloadError) as refused:
        handler(event)
    one_line(refused.value)


@given(event=events.filter(lambda event: not isinstance(event, dict) or event.get("job_type") not in JOB_TYPES))
def test_an_event_that_names_no_job_is_refused_by_the_handler(event: Any) -> None:
    with pytest.raises(PayloadError) as refused:
        handler(event)
    one_line(refused.value)


settings_line = st.builds(
    lambda name, sign, value, end: f"{name}{sign}{value}".encode("utf-8", "surrogatepass") + end,
    st.sampled_from(NAMES) | ANY_TEXT,
    st.sampled_from(["=", " = ", "='", '="', ":", "", "=${", "\\"]),
    ANY_TEXT | st.sampled_from(["1", "*", "AAPL", "sqlite:///x.db", "https://example.com", "you@example.com"]),
    st.sampled_from([b"\n", b"\r\n", b"\r", b"", b"\x00", b"\xff", b"}\n", b"'\n", b'"\n']),
)


@same_folder
@given(content=st.binary(max_size=200) | st.lists(settings_line, max_size=6).map(b"".join))
@example(content="POLYGON_API_KEY=geheim\n".encode("utf-16"))
@example(content=b"\xef\xbb\xbfLOG_LEVEL=INFO\r\n")
@example(content=b"LOG_LEVEL=${LOG_LEVEL}\nOUTBOX=a\x00b\n")
@example(content=b"SECRET_ID=\x00\nA='\\x'\n")
def test_an_env_file_is_settings_or_one_line(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    Path(".env").write_bytes(content)
    caplog.set_level(logging.WARNING)

    try:
        with patch("config.read_secret", return_value={}):
            loaded = load_settings()
    except ConfigError as error:
        one_line(error)
    else:
        assert isinstance(loaded, Settings)
    assert caplog.messages == [], "a second line"


urls = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["sqlite://", "postgresql://", "postgres://", "postgresql+pg8000://", "mysql://", ""]),
        st.sampled_from(["", "/", "user:pass@", "user@", ":@", "user:p@ss@"]) | ANY_TEXT,
        st.sampled_from(["", "127.0.0.1", "[::1]", "[", "db.example.com", "a..b"]) | ANY_TEXT,
        st.sampled_from(["", ":5432", ":99999", ":x", ":-1"]),
        st.sampled_from(["", "/", "/prices", "/prices.db", "//abs.db"]) | ANY_TEXT.map(lambda said: f"/{said}"),
        st.sampled_from(
            ["", "?sslmode=require", "?sslmode=x", "?host=/tmp", "?a=b&a=c", "?sslrootcert=x", "?host=a&host=b"]
        )
        | ANY_TEXT.map(lambda said: f"?{said}"),
    ),
)


@given(url=urls | ANY_TEXT)
@example(url="sqlite:///a%0Ab.db")
@example(url="postgresql://u:p@h/x?a%0Ab=c")
@example(url="postgresql://?\x1f@")
@example(url="postgresql://u:p@h/x?sslmode=a&sslmode=b")
def test_a_database_url_is_a_place_or_one_line(url: str) -> None:
    try:
        engine = open_engine.__wrapped__(url)
    except ConfigError as error:
        said = one_line(error)
        assert "pass" not in said.replace("password", "")
    else:
        assert redacted_url(engine).isprintable()


@pytest.mark.usefixtures("quiet_log")
@same_folder
@given(arguments=st.lists(st.sampled_from(COMMANDS + OPTIONS) | ANY_TEXT, max_size=6))
@example(arguments=["invoke", "[" * 100_000])
@example(arguments=["invoke", '{"job_type": ' + "[" * 900 + "]" * 900 + "}"])
@example(arguments=["export", "--output", "-", "--known-at", "9999-12-31T23:59:59-14:00"])
def test_a_command_line_ends_with_a_status_and_no_traceback(arguments: list[str]) -> None:
    printed, said = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    settings.cache_clear()
    database_url = f"sqlite:///{Path.cwd()}/stock_tracker.db"
    with (
        patch.dict("os.environ", DATABASE_URL=database_url),
        patch.object(sys, "argv", ["main.py", *arguments]),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
    ):
        try:
            status = main.main()
        finally:
            open_engine(database_url).dispose()

    assert status in (0, 1, 2)
    lines = said.getvalue().split("\n")
    if status == 1 or lines != [""]:
        *above, last, end = lines
        assert last.startswith("error: ")
        assert last.isprintable()
        assert (above, end) == ([], "") or {"--debug", "--verbose"} & set(arguments)
