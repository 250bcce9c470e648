"""Whatever the provider sends: no exception but ours, no second line in a message, and nothing that cannot be kept."""

import json
import math
from datetime import UTC, date, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api_client import LONGEST_PAUSE, PolygonClient, parse_splits, retry_after
from domain.clock import Deadline
from domain.errors import StockTrackerError
from domain.validation import validate_bars
from sandbox.local_http import LocalServer, Reply
from tests.support.clocks import FrozenClock
from tests.support.rough_server import rough_server

DAY = date(2013, 3, 1)
STAMP = 1362171600000
KEY = "hunter2-do-not-tell"

TEXT = st.one_of(
    st.text(), st.sampled_from(["GOOG", "OK", KEY, "2013-03-01", "\0", "\ud800", "\x1b[31m", "a\nb", "x" * 999])
)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([STAMP, 10**400, -(10**400), 2**63, 1e308]))
ATOMS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)


def records(*names):
    """Objects with any of these keys, and things that are no object."""
    return st.one_of(st.fixed_dictionaries({}, optional=dict.fromkeys(names, VALUES)), VALUES)


BARS = st.lists(records("T", "o", "h", "l", "c", "v", "t"), max_size=4)
SPLITS = st.lists(records("ticker", "execution_date", "split_from", "split_to"), max_size=4)
KEYS = ("status", "error", "message", "results", "resultsCount", "next_url", "ticker", "adjusted")
ENVELOPES = st.one_of(
    st.fixed_dictionaries(
        {"status": st.sampled_from(["OK", "DELAYED"]), "results": BARS},
        optional=dict.fromkeys(["next_url", "resultsCount", "ticker", "adjusted"], VALUES),
    ),
    records(*KEYS),
)
FUZZ = settings(max_examples=75, suppress_health_check=list(HealthCheck))


def check_kept(rejected):
    """Rejected bars can be stored anywhere, and none is lost."""
    for bar in rejected:
        assert (bar.symbol + bar.reason + bar.bar).isprintable()
        json.loads(bar.bar)


@pytest.fixture(scope="module")
def wire():
    """A server that answers what a test puts into it."""
    reply: dict[str, Reply] = {}
    server = LocalServer(lambda request: reply["is"])
    server.start()
    yield reply, server.url
    server.stop()


def ask(url):
    """Ask for bars and splits as a run does."""
    client = PolygonClient(base_url=url, api_key=KEY, calls_per_minute=0, deadline=Deadline(1e6, FrozenClock()))
    for call in (
        lambda: validate_bars(client.grouped_bars(DAY), [DAY]),
        lambda: validate_bars(client.range_bars("GOOG", DAY, DAY), [DAY], symbol="GOOG"),
        lambda: client.splits(DAY, DAY),
    ):
        message, rejected = "", []
        try:
            _, rejected = call()
        except StockTrackerError as error:
            message = str(error)
        assert message.isprintable()
        assert len(message) < 600
        assert KEY not in message
        check_kept(rejected)


@FUZZ
@given(ENVELOPES, st.sampled_from([200, 200, 200, 400, 401, 403, 404, 429, 500]))
def test_any_json_is_an_answer_or_one_of_our_errors(wire, envelope, status):
    reply, url = wire
    reply["is"] = Reply(status, json.dumps(envelope).encode(), {"Content-Type": "application/json"})
    ask(url)


@FUZZ
@given(st.binary(max_size=300), st.sampled_from(["identity", "gzip", "deflate", "gzip, gzip", "x"]))
@example(b"[" * 3_000 + b"]" * 3_000, "identity")
@example(b'{"status":"OK","results":[' + b"[" * 900 + b"]" * 900 + b"]}", "identity")
@example(b'{"status":"OK","results":[' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"]}", "identity")
@example(b'{"status":"OK","error":' + b"[" * 1_000 + b"]" * 1_000 + b"}", "identity")
def test_any_body_is_an_answer_or_one_of_our_errors(wire, body, encoding):
    reply, url = wire
    reply["is"] = Reply(200, body, {"Content-Encoding": encoding})
    ask(url)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest)))
def test_any_bytes_on_the_wire_are_one_of_our_errors(answer):
    def respond(connection):
        connection.recv(65_536)
        connection.sendall(answer)

    with rough_server(respond) as server:
        ask(server.url)


@given(SPLITS)
def test_any_split_records_are_read_or_rejected(items):
    splits, rejected = parse_splits(items)
    assert len(splits) + len(rejected) == len(items)
    check_kept(rejected)


@given(BARS, st.none() | st.just("GOOG"))
def test_any_bars_are_accepted_or_rejected(bars, symbol):
    accepted, rejected = validate_bars(bars, [DAY], symbol=symbol)
    assert len(accepted) + len(rejected) == len(bars)
    check_kept(rejected)


@given(
    st.one_of(
        st.none(),
        st.text(),
        st.text("0123456789", max_size=9_000),
        st.from_regex(r"\w{3}, \d+ Mar \d+ \d+:\d+:\d+ [-+A-Z0-9]+"),
    )
)
@example("Fri, 31 Dec 9999 23:59:59 -9999")
@example("Fri, 01 Mar 2013 21:00:00 +99999999999999999999")
@example("NaN")
@example("-inf")
def test_any_retry_after_is_a_pause_or_none(header):
    pause = retry_after(header, datetime(2013, 3, 1, tzinfo=UTC))
    assert pause is None or (0 <= pause <= LONGEST_PAUSE and math.isfinite(pause))
