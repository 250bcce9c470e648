"""The client against real local servers: bars, splits, paging, errors, retries, deadlines and the rate limit."""

import json
from collections import deque
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import pairwise
from typing import ClassVar

import pytest

from api_client import ATTEMPTS, BACKOFF_MAX, LONGEST_PAUSE, PolygonClient, RateLimiter, parse_splits
from domain.calendar import session_dates
from domain.clock import Deadline
from domain.errors import ApiError, CredentialsError, EnvelopeError, OutOfPlanError, TimeUpError
from domain.models import Split
from domain.validation import MAX_REJECTED
from sandbox.history import PriceHistory
from sandbox.local_http import LocalServer, Reply
from sandbox.server import Fault, MarketServer
from tests.support.clocks import FrozenClock

KEY = "hunter2-do-not-tell"
FRIDAY = date(2013, 3, 1)
MONDAY = date(2013, 2, 25)


@pytest.fixture
def clock():
    return FrozenClock(1000.0)


@pytest.fixture
def client_of(clock):
    """A function that makes a client of a server."""

    def make(url, *, key="sandbox-key", calls_per_minute=0, seconds=None):
        deadline = Deadline(seconds, clock, reserve=0)
        return PolygonClient(base_url=url, api_key=key, calls_per_minute=calls_per_minute, deadline=deadline)

    return make


@pytest.fixture
def client(market, client_of):
    """A client of the recorded market."""
    return client_of(market.url)


@contextmanager
def provider(*answers):
    """A provider that gives these answers in turn and then repeats the last; yields its URL and the requests."""
    requests = []

    def respond(request):
        requests.append(request)
        answer = answers[min(len(requests), len(answers)) - 1]
        if callable(answer):
            answer = answer(server.url)
        if isinstance(answer, Reply) or answer is None:
            return answer
        return Reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    server = LocalServer(respond)
    server.start()
    try:
        yield server.url, requests
    finally:
        server.stop()


def refusal(client, kind=ApiError):
    """The message with which a call fails."""
    with pytest.raises(kind) as caught:
        client.range_bars("GOOG", MONDAY, FRIDAY)
    message = str(caught.value)
    assert message.isprintable(), "a message is one line"
    assert caught.value.__cause__ is None
    assert KEY not in message
    assert "sandbox" not in message
    return message


class TestBars:
    def test_range_bars_are_those_of_one_symbol_oldest_first(self, client, market):
        bars = client.range_bars("GOOG", MONDAY, FRIDAY)
        assert [bar["c"] for bar in bars] == [790.77, 790.13, 799.78, 801.2, 806.19]
        assert session_dates([bar["t"] for bar in bars]).tolist() == [MONDAY + timedelta(days=n) for n in range(5)]
        assert set(bars[0]) >= {"o", "h", "l", "c", "v", "t"}
        assert client.calls == 1
        ((kind, target),) = market.requests
        assert (kind, target.partition("?")[0]) == ("range", "/v2/aggs/ticker/GOOG/range/1/day/2013-02-25/2013-03-01")
        assert sorted(target.partition("?")[2].split("&")) == ["adjusted=true", "limit=50000", "sort=asc"]

    def test_thirteen_years_are_one_call(self, client, market):
        assert len(client.range_bars("IBM", date(2000, 3, 1), FRIDAY)) == 3270
        assert market.calls == {"range": 1}

    def test_bars_are_adjusted_for_the_splits_up_to_the_providers_today(self, client, market):
        day = date(2005, 2, 25)  # the session before Apple's split
        (adjusted,) = client.range_bars("AAPL", day, day)
        market.today = day + timedelta(days=1)
        (raw,) = client.range_bars("AAPL", day, day)
        assert raw["c"] == 2 * adjusted["c"]
        assert client.grouped_bars(day)[0]["c"] == raw["c"]

    def test_grouped_bars_are_those_of_every_symbol_in_a_session(self, client, market):
        bars = client.grouped_bars(FRIDAY)
        assert [bar["T"] for bar in bars] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
        assert set(session_dates([bar["t"] for bar in bars]).tolist()) == {FRIDAY}
        ((kind, target),) = market.requests
        assert (kind, target.partition("?")[0]) == ("grouped", "/v2/aggs/grouped/locale/us/market/stocks/2013-03-01")
        assert sorted(target.partition("?")[2].split("&")) == ["adjusted=true", "include_otc=false"]

    @pytest.mark.parametrize("symbol", ["NOSUCH", "goog"])
    def test_a_symbol_that_the_provider_does_not_know_has_no_bars(self, client, symbol):
        assert client.range_bars(symbol, MONDAY, FRIDAY) == []

    def test_a_holiday_has_no_bars(self, client):
        assert client.grouped_bars(date(2012, 12, 25)) == []
        assert client.range_bars("GOOG", date(2012, 10, 29), date(2012, 10, 30)) == []

    def test_bars_are_returned_exactly_as_the_provider_sent_them(self, client, market):
        market.history.put_bar("GOOG", FRIDAY, open=None, high="x", low=-1, close=True, volume=0.5)
        (bar,) = client.range_bars("GOOG", FRIDAY, FRIDAY)
        assert (bar["o"], bar["h"], bar["l"], bar["c"], bar["v"]) == (None, "x", -1, True, 0.5)

    @pytest.mark.parametrize(
        ("symbol", "encoded"), [("BRK.B", "BRK.B"), ("KIMpL", "KIMpL"), ("BF/B", "BF%2FB"), ("A-B", "A-B")]
    )
    def test_a_symbol_travels_unchanged_whatever_its_letters(self, client, market, symbol, encoded):
        market.history.put_bar(symbol, FRIDAY, open=1, high=2, low=1, close=2, volume=5)
        assert [bar["c"] for bar in client.range_bars(symbol, FRIDAY, FRIDAY)] == [2]
        assert market.requests[0][1].startswith(f"/v2/aggs/ticker/{encoded}/range/1/day/")

    @pytest.mark.parametrize("symbol", ["A?b=c", "A#B", "../../x", "A B", "Ä", "A%2FB", "A&B"])
    def test_a_symbol_cannot_lead_to_another_path(self, client, market, symbol):
        assert client.range_bars(symbol, FRIDAY, FRIDAY) == []
        ((kind, target),) = market.requests
        assert kind == "range"
        assert target.partition("?")[0].count("/") == 9


class TestSplits:
    ITEM: ClassVar = {"ticker": "X", "execution_date": "2013-03-01", "split_from": 1, "split_to": 2}

    def test_splits_are_those_of_all_symbols_oldest_first(self, client, market):
        splits, rejected = client.splits(date(2000, 1, 1), FRIDAY)
        assert splits == [
            Split("AAPL", date(2000, 6, 21), 1, 2),
            Split("MSFT", date(2003, 2, 18), 1, 2),
            Split("AAPL", date(2005, 2, 28), 1, 2),
        ]
        assert rejected == []
        assert market.calls == {"splits": 1}
        assert "ticker" not in market.requests[0][1]

    def test_splits_can_be_limited_to_some_symbols(self, client):
        splits, _ = client.splits(date(2000, 1, 1), FRIDAY, ["MSFT", "GOOG"])
        assert [split.symbol for split in splits] == ["MSFT"]

    def test_both_ends_are_included(self, client):
        assert len(client.splits(date(2003, 2, 18), date(2003, 2, 18))[0]) == 1
        assert client.splits(date(2003, 2, 19), date(2005, 2, 27)) == ([], [])

    def test_fractions_are_kept(self):
        assert parse_splits([{**self.ITEM, "split_from": 2.5}]) == ([Split("X", FRIDAY, 2.5, 2.0)], [])

    @pytest.mark.parametrize(
        ("item", "reason"),
        [
            ({}, "it has no 'ticker'"),
            (None, "it is not an object"),
            ("AAPL", "it is not an object"),
            ([], "it is not an object"),
            ({**ITEM, "ticker": None}, "its ticker is not text of 1 to 10 ASCII characters"),
            ({**ITEM, "ticker": 5}, "its ticker is not text of 1 to 10 ASCII characters"),
            ({**ITEM, "ticker": ""}, "its ticker is not text of 1 to 10 ASCII characters"),
            ({**ITEM, "ticker": "ELEVENCHARS"}, "its ticker is not text of 1 to 10 ASCII characters"),
            ({**ITEM, "ticker": ["X"]}, "its ticker is not text of 1 to 10 ASCII characters"),
            ({**ITEM, "execution_date": "soon"}, "its execution date is not an ISO date"),
            ({**ITEM, "execution_date": ""}, "its execution date is not an ISO date"),
            ({**ITEM, "execution_date": None}, "its execution date is not text"),
            ({**ITEM, "execution_date": 20130301}, "its execution date is not text"),
            ({**ITEM, "split_from": None}, "its ratio is not two numbers"),
            ({**ITEM, "split_from": "1"}, "its ratio is not two numbers"),
            ({**ITEM, "split_to": True}, "its ratio is not two numbers"),
            ({**ITEM, "split_from": 0}, "a split of 0.0 into 2.0: both must be positive"),
            ({**ITEM, "split_to": 0}, "a split of 1.0 into 0.0: both must be positive"),
            ({**ITEM, "split_to": -2}, "a split of 1.0 into -2.0: both must be positive"),
            ({**ITEM, "split_from": 5e-324, "split_to": 1e308}, "a split of 5e-324 into 1e+308: both must be positive"),
            ({**ITEM, "split_from": 1e308, "split_to": 5e-324}, "a split of 1e+308 into 5e-324: both must be positive"),
            ({**ITEM, "split_to": 10**400}, "int too large to convert to float"),
            ({"ticker": "X", "execution_date": "2013-03-01", "split_from": 1}, "it has no 'split_to'"),
        ],
    )
    def test_a_split_that_cannot_be_read_is_rejected_with_the_reason(self, item, reason):
        splits, (rejected,) = parse_splits([item, self.ITEM])
        assert splits == [Split("X", FRIDAY, 1, 2)]
        assert (rejected.reason, rejected.date) == (f"a split that cannot be read: {reason}", None)
        assert json.loads(rejected.bar) == item

    @pytest.mark.parametrize(
        ("ticker", "shown"), [("MSFT", "MSFT"), ("ELEVENCHARS", '"ELEVENCHARS"'), (None, "null"), ("A B", '"A B"')]
    )
    def test_a_rejected_split_is_kept_under_its_ticker_or_what_stood_for_it(self, ticker, shown):
        _, (rejected,) = parse_splits([{**self.ITEM, "ticker": ticker, "split_to": 0}])
        assert rejected.symbol == shown

    def test_a_reason_holds_nothing_of_the_record(self):
        _, (rejected,) = parse_splits([{**self.ITEM, "execution_date": "Q" * 5_000}])
        assert "Q" not in rejected.reason

    def test_a_list_with_too_much_to_reject_is_refused(self):
        assert len(parse_splits([{}] * MAX_REJECTED)[1]) == MAX_REJECTED
        with pytest.raises(EnvelopeError, match="lists more than 10,000 splits that cannot be read"):
            parse_splits([{}] * (MAX_REJECTED + 1))

    def test_a_bad_record_stops_no_other(self, client_of):
        items = [{**self.ITEM, "split_from": 0}, self.ITEM, None]
        with provider({"status": "OK", "results": items}) as (url, requests):
            splits, rejected = client_of(url).splits(MONDAY, FRIDAY)
        assert splits == [Split("X", FRIDAY, 1, 2)]
        assert [bar.symbol for bar in rejected] == ["X", "null"]
        assert len(requests) == 1

    def test_more_splits_than_a_page_holds_are_all_read(self, client_of):
        first, second = {**self.ITEM, "ticker": "B"}, {**self.ITEM, "ticker": "A"}
        pages = [lambda url: {"status": "OK", "results": [first], "next_url": f"{url}/next"}]
        with provider(*pages, {"status": "OK", "results": [second]}) as (url, requests):
            splits, _ = client_of(url).splits(MONDAY, FRIDAY)
        assert [split.symbol for split in splits] == ["A", "B"]
        assert "limit=5000" in requests[0].target
        assert len(requests) == 2


class TestPaging:
    def test_every_page_is_read_in_order(self, client_of):
        pages = [
            lambda url: {"status": "OK", "results": [{"t": 1}, {"t": 2}], "next_url": f"{url}/next?cursor=a"},
            lambda url: {"status": "OK", "next_url": f"{url}/next?cursor=b"},
            lambda url: {"status": "OK", "results": [{"t": 3}]},
        ]
        with provider(*pages) as (url, requests):
            client = client_of(url, key=KEY)
            assert client.range_bars("GOOG", MONDAY, FRIDAY) == [{"t": 1}, {"t": 2}, {"t": 3}]
        assert client.calls == 3
        assert [request.target for request in requests[1:]] == ["/next?cursor=a", "/next?cursor=b"]
        assert {request.headers["Authorization"] for request in requests} == {f"Bearer {KEY}"}

    def test_each_page_counts_against_the_plan(self, client_of, clock):
        pages = [lambda url: {"status": "OK", "results": [1], "next_url": f"{url}/next"}] * 2 + [{"status": "OK"}]
        with provider(*pages) as (url, _):
            client_of(url, calls_per_minute=2).range_bars("GOOG", MONDAY, FRIDAY)
        assert clock.slept == [60]

    @pytest.mark.parametrize(
        "elsewhere",
        [
            "http://127.0.0.1:9/next",
            "https://example.com/next",
            "https://example.com/api.massive.com/next",
            "https://api.massive.com@example.com/next",
            "https://api.massive.com.example.com/next",
            "https://example.com#api.massive.com/next",
            "//example.com/next",
            "/next",
            "file:///etc/hosts",
            "http://[next",
            5,
        ],
    )
    def test_a_page_at_another_host_is_not_fetched(self, client_of, elsewhere):
        with provider({"status": "OK", "results": [], "next_url": elsewhere}) as (url, requests):
            assert "goes on at another host" in refusal(client_of(url, key=KEY))
        assert len(requests) == 1

    @pytest.mark.parametrize(
        "named",
        [
            "{url}/next?cursor=a%26b",
            "https://api.massive.com/next?cursor=a%26b",
            "https://api.polygon.io/next?cursor=a%26b",
            "http://api.polygon.io/next?cursor=a%26b#part",
            "//api.massive.com/next?cursor=a%26b",
        ],
    )
    def test_a_page_at_either_host_of_the_provider_is_fetched_from_the_host_that_was_asked(self, client_of, named):
        first = lambda url: {"status": "OK", "results": [{"t": 1}], "next_url": named.format(url=url)}  # noqa: E731
        with provider(first, {"status": "OK", "results": [{"t": 2}]}) as (url, requests):
            assert client_of(url, key=KEY).range_bars("GOOG", MONDAY, FRIDAY) == [{"t": 1}, {"t": 2}]
        assert [request.target for request in requests[1:]] == ["/next?cursor=a%26b"]
        assert requests[1].headers["Authorization"] == f"Bearer {KEY}"

    def test_the_scheme_of_the_host_that_was_asked_is_kept(self, client_of):
        first = lambda url: {"status": "OK", "next_url": f"{url.replace('http:', 'https:')}/next"}  # noqa: E731
        with provider(first, {"status": "OK", "results": [{"t": 1}]}) as (url, requests):
            assert client_of(url).range_bars("GOOG", MONDAY, FRIDAY) == [{"t": 1}]
        assert len(requests) == 2

    def test_an_answer_that_never_ends_is_an_error(self, client_of, monkeypatch):
        monkeypatch.setattr("api_client.MAX_PAGES", 4)
        with provider(lambda url: {"status": "OK", "results": [], "next_url": f"{url}/next"}) as (url, requests):
            assert "does not end after 4 pages" in refusal(client_of(url))
        assert len(requests) == 4


class TestEnvelope:
    """An answer counts only if it agrees with the question and with itself."""

    BAR: ClassVar = {"c": 1}

    @pytest.mark.parametrize(
        ("envelope", "said"),
        [
            ({"ticker": "MSFT"}, "has ticker 'MSFT', not 'GOOG'"),
            ({"ticker": "goog"}, "has ticker 'goog', not 'GOOG'"),
            ({"ticker": 5}, "has ticker '5', not 'GOOG'"),
            ({"adjusted": False}, "has adjusted 'False', not True"),
            ({"adjusted": "true"}, "has adjusted 'true', not True"),
            ({"resultsCount": 2}, "has 1 results and says 2"),
            ({"resultsCount": 0}, "has 1 results and says 0"),
            ({"resultsCount": "1"}, "has 1 results and says 1"),
            ({"resultsCount": [1]}, "has 1 results and says no number"),
            ({"results": []}, "has 0 results and says 1"),
            ({"results": None}, "has 0 results and says 1"),
            ({"results": {"c": 1}}, "has results that are not a list"),
            ({"results": "none"}, "has results that are not a list"),
        ],
    )
    def test_a_contradiction_is_asked_again_once_and_is_then_an_error(self, client_of, envelope, said):
        answer = {"status": "OK", "resultsCount": 1, "results": [self.BAR], **envelope}
        with provider(answer) as (url, requests):
            client = client_of(url, key=KEY)
            message = refusal(client, EnvelopeError)
        assert said in message
        assert "/v2/aggs/ticker/GOOG/range/1/day/2013-02-25/2013-03-01" in message
        assert (len(requests), client.calls) == (2, 2)
        assert requests[0].target == requests[1].target

    @pytest.mark.parametrize(
        "envelope", [{"ticker": "MSFT"}, {"adjusted": False}, {"resultsCount": 7}, {"results": {}}]
    )
    def test_a_contradiction_that_is_gone_the_second_time_costs_one_call(self, client_of, envelope):
        good = {"status": "OK", "results": [self.BAR]}
        with provider({**good, **envelope}, good) as (url, requests):
            assert client_of(url).range_bars("GOOG", MONDAY, FRIDAY) == [self.BAR]
        assert len(requests) == 2

    @pytest.mark.parametrize(
        "envelope",
        [
            {},
            {"ticker": None, "adjusted": None, "resultsCount": None},
            {"ticker": "GOOG", "adjusted": True, "resultsCount": 1},
            {"queryCount": 99, "count": 99},
        ],
    )
    def test_an_absent_field_is_no_contradiction(self, client_of, envelope):
        with provider({"status": "OK", "results": [self.BAR], **envelope}) as (url, requests):
            assert client_of(url).range_bars("GOOG", MONDAY, FRIDAY) == [self.BAR]
        assert len(requests) == 1

    def test_a_grouped_answer_is_of_no_one_ticker(self, client_of):
        with provider({"status": "OK", "ticker": "MSFT", "results": [self.BAR]}) as (url, requests):
            assert client_of(url).grouped_bars(FRIDAY) == [self.BAR]
        assert len(requests) == 1

    def test_a_grouped_answer_that_is_not_adjusted_does_not_count(self, client_of):
        with provider({"status": "OK", "adjusted": False, "results": [self.BAR]}) as (url, requests):
            with pytest.raises(EnvelopeError, match="has adjusted 'False', not True"):
                client_of(url).grouped_bars(FRIDAY)
        assert len(requests) == 2

    @pytest.mark.parametrize("counts", [(1, 1), (1, 2), (2, 2)])
    def test_the_last_page_may_count_itself_or_all_pages(self, client_of, counts):
        pages = [
            lambda url: {"status": "OK", "resultsCount": counts[0], "results": [1], "next_url": f"{url}/next"},
            {"status": "OK", "resultsCount": counts[1], "results": [2]},
        ]
        with provider(*pages) as (url, _):
            assert client_of(url).range_bars("GOOG", MONDAY, FRIDAY) == [1, 2]

    def test_a_contradiction_on_a_later_page_repeats_all_pages(self, client_of):
        first = lambda url: {"status": "OK", "results": [1], "next_url": f"{url}/next"}  # noqa: E731
        wrong, right = ({"status": "OK", "ticker": ticker, "results": [2]} for ticker in ("MSFT", "GOOG"))
        with provider(first, wrong, first, right) as (url, requests):
            assert client_of(url).range_bars("GOOG", MONDAY, FRIDAY) == [1, 2]
        assert len(requests) == 4

    def test_a_short_list_of_splits_does_not_count(self, client_of):
        with provider({"status": "OK", "resultsCount": 1, "results": []}) as (url, requests):
            with pytest.raises(EnvelopeError, match="has 0 results and says 1"):
                client_of(url).splits(MONDAY, FRIDAY)
        assert len(requests) == 2


class TestAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            {"status": "OK"},
            {"status": "OK", "results": None},
            {"status": "OK", "results": []},
            {"status": "OK", "resultsCount": 0, "next_url": None},
            {"status": "DELAYED"},
        ],
    )
    def test_an_answer_without_results_has_no_bars(self, client_of, answer):
        with provider(answer) as (url, _):
            assert client_of(url).range_bars("GOOG", MONDAY, FRIDAY) == []

    def test_delayed_data_is_usable(self, client_of):
        with provider({"status": "DELAYED", "results": [{"c": 1}]}) as (url, _):
            assert client_of(url).range_bars("GOOG", MONDAY, FRIDAY) == [{"c": 1}]

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b"<html>\n<b>\x1b[31mno", "is not a JSON object: '<html> <b>no'"),
            (b"[]", "is not a JSON object: '[]'"),
            (b"null", "is not a JSON object"),
            (b'"OK"', "is not a JSON object"),
            (b"\xff\xfe", "is not a JSON object"),
            (b"x" * 10_000, "is not a JSON object"),
            (b"[" * 20_000, "is not a JSON object"),
            (b'{"status": "ERROR", "error": "broken\\nfor now"}', "with ERROR: broken for now"),
            (b'{"status": "NOT_AUTHORIZED", "message": "buy more"}', "with NOT_AUTHORIZED: buy more"),
            (b'{"results": []}', "with no status: no explanation"),
            (b'{"status": ["OK"]}', "no explanation"),
        ],
    )
    def test_an_answer_that_is_not_usable_is_an_error_at_once(self, client_of, body, said):
        with provider(Reply(200, body, {"Content-Type": "application/json"})) as (url, requests):
            message = refusal(client_of(url, key=KEY))
        assert said in message
        assert "/v2/aggs/ticker/GOOG/range/1/day/2013-02-25/2013-03-01" in message
        assert len(message) < 500
        assert len(requests) == 1

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            (400, "the provider failed on /v2/aggs/ticker/GOOG/range/1/day/2013-02-25/2013-03-01 (400, "),
            (401, "the provider refused the key in POLYGON_API_KEY (401, "),
            (403, "the plan of this POLYGON_API_KEY does not include /v2/aggs/ticker/GOOG"),
            (404, "check POLYGON_BASE_URL"),
            (501, "(501, "),
        ],
    )
    def test_a_refusal_is_raised_at_once_with_what_to_do(self, client_of, clock, status, said):
        body = json.dumps({"status": "ERROR", "error": "so\nit is"}).encode()
        with provider(Reply(status, body, {"Content-Type": "application/json"})) as (url, requests):
            message = refusal(
                client_of(url, key=KEY), {401: CredentialsError, 403: OutOfPlanError}.get(status, ApiError)
            )
        assert said in message
        assert "ERROR: so it is" in message
        assert (len(requests), clock.slept) == (1, [])

    @pytest.mark.parametrize("body", [b"", b"Forbidden", b"[]", b"{"])
    def test_a_refusal_without_an_envelope_has_no_explanation(self, client_of, body):
        with provider(Reply(403, body)) as (url, _):
            assert "(403, no explanation)" in refusal(client_of(url, key=KEY))

    @pytest.mark.parametrize("status", [301, 302, 307])
    def test_the_key_follows_no_redirection(self, client_of, status):
        with provider({"status": "OK", "results": [{"c": 1}]}) as (elsewhere, seen):
            with provider(Reply(status, b"", {"Location": elsewhere})) as (url, _):
                assert f"({status}, no explanation)" in refusal(client_of(url, key=KEY))
        assert seen == []

    def test_a_wrong_key_is_refused_by_the_market_too(self, market, client_of):
        message = refusal(client_of(market.url, key=KEY), CredentialsError)
        assert message == "the provider refused the key in POLYGON_API_KEY (401, ERROR: Unknown API Key)"
        assert market.calls == {"refused": 1}


class TestKey:
    def test_the_key_travels_in_a_header_only(self, client_of):
        with provider({"status": "OK", "results": []}) as (url, requests):
            client = client_of(url, key=KEY)
            client.range_bars("GOOG", MONDAY, FRIDAY)
            client.grouped_bars(FRIDAY)
            client.splits(MONDAY, FRIDAY, ["GOOG"])
        assert len(requests) == 3
        for request in requests:
            assert request.headers["Authorization"] == f"Bearer {KEY}"
            assert KEY not in request.target
            assert request.body == b""
            assert [name for name, value in request.headers.items() if KEY in value] == ["Authorization"]

    def test_a_netrc_of_the_machine_does_not_replace_the_key(self, client_of, monkeypatch, tmp_path):
        (tmp_path / "netrc").write_text("default login somebody password else\n")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with provider({"status": "OK"}) as (url, requests):
            client_of(url, key=KEY).range_bars("GOOG", MONDAY, FRIDAY)
        assert requests[0].headers["Authorization"] == f"Bearer {KEY}"


class TestRetries:
    @pytest.mark.parametrize("status", [413, 429, 499, 500, 502, 503, 504])
    def test_a_transient_failure_is_retried(self, client, market, clock, status):
        market.fail_next(*[Fault(status=status)] * (ATTEMPTS - 1))
        assert len(client.range_bars("GOOG", MONDAY, FRIDAY)) == 5
        assert market.calls == {"failed": ATTEMPTS - 1, "range": 1}
        assert len(clock.slept) == ATTEMPTS - 1

    def test_a_dropped_connection_is_retried(self, client, market, clock):
        market.fail_next(Fault(disconnect=True), Fault(disconnect=True))
        assert len(client.grouped_bars(FRIDAY)) == 5
        assert market.calls == {"failed": 2, "grouped": 1}

    def test_a_connection_that_was_dropped_while_idle_is_replaced(self, client, market):
        client.grouped_bars(FRIDAY)
        market.fail_next(Fault(disconnect=True))
        assert len(client.grouped_bars(FRIDAY)) == 5

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            (429, "the provider's limit of calls per minute is used up, 5 attempts in a row (429, "),
            (500, "the provider failed on /v2/aggs/ticker/GOOG"),
            (503, "(503, ERROR: injected fault)"),
        ],
    )
    def test_attempts_are_bounded(self, client, market, clock, status, said):
        market.fail_next(*[Fault(status=status)] * (ATTEMPTS + 3))
        assert said in refusal(client)
        assert market.calls == {"failed": ATTEMPTS}
        assert len(clock.slept) == ATTEMPTS - 1

    def test_attempts_to_connect_are_bounded(self, client, market):
        market.fail_next(*[Fault(disconnect=True)] * (ATTEMPTS + 3))
        message = refusal(client)
        assert message.startswith(f"the provider at {market.url.removeprefix('http://')} did not answer /v2/aggs/")
        assert f"after {ATTEMPTS} attempts" in message
        assert market.calls == {"failed": ATTEMPTS}

    def test_a_provider_that_is_not_there_is_named(self, client_of, clock):
        with provider() as (url, _):
            pass
        message = refusal(client_of(url, key=KEY))
        assert url.removeprefix("http://") in message
        assert len(clock.slept) == ATTEMPTS - 1

    def test_backoff_grows_up_to_a_limit(self, client, market, clock):
        for _ in range(30):
            market.fail_next(*[Fault(status=500)] * (ATTEMPTS - 1))
            client.grouped_bars(FRIDAY)
        pauses = [clock.slept[attempt :: ATTEMPTS - 1] for attempt in range(ATTEMPTS - 1)]
        assert all(0 < pause <= BACKOFF_MAX for pause in clock.slept)
        assert all(max(pause) < max(later) for pause, later in pairwise(pauses))
        assert len(set(pauses[0])) > 20, "the backoff has no jitter"

    def test_retry_after_sets_the_pause(self, client, market, clock):
        market.fail_next(Fault(status=429, headers={"Retry-After": "13"}))
        client.grouped_bars(FRIDAY)
        assert clock.slept == [13]

    def test_a_very_long_retry_after_is_capped(self, client, market, clock):
        market.fail_next(Fault(status=429, headers={"Retry-After": "86400"}))
        client.grouped_bars(FRIDAY)
        assert clock.slept == [LONGEST_PAUSE]

    def test_a_retry_after_in_the_past_is_no_pause(self, client, market, clock):
        market.fail_next(Fault(status=503, headers={"Retry-After": "Fri, 01 Mar 2013 21:00:00 GMT"}))
        client.grouped_bars(FRIDAY)
        assert clock.slept == []

    @pytest.mark.parametrize(
        "pause",
        ["soon", "-5", "1.5", "", "9" * 400, "9" * 5_000, "NaN", "inf", "\xbd", "\xb2", "Fri, 99 Foo 2013 99:99 GMT"],
    )
    def test_an_unreadable_retry_after_gives_the_usual_backoff(self, client, market, clock, pause):
        market.fail_next(Fault(status=503, headers={"Retry-After": pause}))
        client.grouped_bars(FRIDAY)
        (slept,) = clock.slept
        assert 0 < slept <= LONGEST_PAUSE

    def test_attempts_after_a_429_reach_into_the_next_minute(self, client, market, clock):
        market.fail_next(*[Fault(status=429)] * (ATTEMPTS - 1))
        client.grouped_bars(FRIDAY)
        assert sum(clock.slept) >= 60

    def test_each_attempt_counts_against_the_plan(self, market, client_of, clock):
        client = client_of(market.url, calls_per_minute=3)
        market.fail_next(*[Fault(status=503, headers={"Retry-After": "0"})] * 3)
        client.grouped_bars(FRIDAY)
        assert clock.slept == [60]

    def test_a_call_over_the_limit_is_retried_when_the_plan_allows_it(self, client_of, clock):
        history = PriceHistory.recorded()
        with MarketServer(history, today=date(2013, 3, 2), calls_per_minute=5, clock=clock.monotonic) as market:
            client = client_of(market.url)  # does not know of the limit
            for _ in range(12):
                assert len(client.grouped_bars(FRIDAY)) == 5
        assert market.calls["grouped"] == 12
        assert clock.now - 1000 == pytest.approx(120, abs=5)


class TestDeadline:
    def test_no_pause_reaches_past_the_deadline(self, market, client_of, clock):
        client = client_of(market.url, seconds=30)
        market.fail_next(Fault(status=429, headers={"Retry-After": "31"}))
        with pytest.raises(TimeUpError, match="needs 31 s, and 30 s are left"):
            client.grouped_bars(FRIDAY)
        assert clock.slept == []

    def test_no_wait_for_the_plan_reaches_past_the_deadline(self, market, client_of, clock):
        client = client_of(market.url, calls_per_minute=5, seconds=59)
        for _ in range(5):
            client.grouped_bars(FRIDAY)
        with pytest.raises(TimeUpError, match="the plan's limit of 5 calls per minute needs 60 s, and 59 s are left"):
            client.grouped_bars(FRIDAY)
        assert clock.slept == []
        assert market.calls == {"grouped": 5}

    def test_attempts_end_when_time_is_up(self, market, client_of, clock):
        client = client_of(market.url, seconds=20)
        market.fail_next(*[Fault(status=503, headers={"Retry-After": "9"})] * 5)
        with pytest.raises(TimeUpError):
            client.grouped_bars(FRIDAY)
        assert clock.slept == [9, 9]

    def test_the_client_can_be_used_after_a_refused_wait(self, market, client_of):
        client = client_of(market.url, seconds=30)
        market.fail_next(Fault(status=429, headers={"Retry-After": "31"}))
        with pytest.raises(TimeUpError):
            client.grouped_bars(FRIDAY)
        assert len(client.grouped_bars(FRIDAY)) == 5


class TestRateLimiter:
    def taken(self, clock, calls, calls_per_minute, *, between=0.0):
        """The times at which calls are admitted."""
        limiter = RateLimiter(deque(maxlen=calls_per_minute), Deadline(None, clock))
        moments = []
        for _ in range(calls):
            limiter.take()
            moments.append(clock.now - 1000)
            clock.now += between
        return moments

    def test_calls_start_with_a_burst_and_then_keep_the_pace(self, clock):
        assert self.taken(clock, 12, 5) == [0] * 5 + [60] * 5 + [120] * 2

    def test_zero_is_unlimited(self, clock):
        assert self.taken(clock, 1000, 0) == [0] * 1000
        assert clock.slept == []

    def test_500_calls_at_5_per_minute_take_at_most_100_minutes(self, clock):
        assert self.taken(clock, 500, 5)[-1] <= 100 * 60

    @pytest.mark.parametrize("calls_per_minute", [1, 2, 5, 7, 100])
    @pytest.mark.parametrize("between", [0.0, 0.1, 3.7, 11.9, 12.1, 59.9, 61.0])
    def test_no_sixty_seconds_ever_hold_more_calls_than_the_plan_allows(self, clock, calls_per_minute, between):
        moments = self.taken(clock, 350, calls_per_minute, between=between)
        for first, after in zip(moments, moments[calls_per_minute:], strict=False):
            assert after - first >= 60 - 1e-6

    def test_calls_slower_than_the_plan_never_wait(self, clock):
        self.taken(clock, 50, 5, between=12.5)
        assert clock.slept == []

    def test_all_clients_of_a_process_share_the_plans_limit(self, market, client_of, clock):
        for calls in range(1, 8):
            client_of(market.url, calls_per_minute=5).grouped_bars(FRIDAY)
            assert sum(clock.slept) == (60 if calls > 5 else 0)

    @pytest.mark.parametrize("other", [{"key": "another"}, {"calls_per_minute": 6}])
    def test_another_plan_has_a_limit_of_its_own(self, market, client_of, clock, other):
        for _ in range(5):
            client_of(market.url, calls_per_minute=5).grouped_bars(FRIDAY)
        market.key = other.get("key", market.key)
        client_of(market.url, **{"calls_per_minute": 5, **other}).grouped_bars(FRIDAY)
        assert clock.slept == []

    def test_a_client_is_ready_while_a_call_needs_no_wait(self, market, client_of, clock):
        client = client_of(market.url, calls_per_minute=2)
        found = []
        for _ in range(2):
            found.append(client.is_ready)
            client.grouped_bars(FRIDAY)
        found.append(client.is_ready)
        clock.now += 60
        assert [*found, client.is_ready] == [True, True, False, True]
