from datetime import date, datetime
from urllib.parse import quote

import pytest

from domain.calendar import NEW_YORK
from domain.models import Split
from sandbox.history import PriceHistory

RANGE = "/v2/aggs/ticker/{}/range/1/day/{}/{}"
GROUPED = "/v2/aggs/grouped/locale/us/market/stocks/{}"
SPLITS = "/stocks/v1/splits"
WEEK = RANGE.format("IBM", "2013-02-25", "2013-03-01")


def test_a_range_has_the_providers_envelope(client):
    document = client.json(WEEK, adjusted="true", sort="asc", limit=50000)
    bars = document.pop("results")
    assert document.pop("request_id")
    counts = {"queryCount": 5, "resultsCount": 5, "count": 5}
    assert document == {"ticker": "IBM", "adjusted": True, "status": "OK", **counts}
    assert [bar["o"] for bar in bars] == [201.67, 198.63, 198.89, 202.18, 200.65]
    assert set(bars[0]) == {"v", "vw", "o", "c", "h", "l", "t", "n"}


def test_a_range_takes_milliseconds_and_stamps_the_start_of_a_day(client):
    for path in (RANGE.format("MSFT", "2005-04-01", "2005-04-04"), RANGE.format("MSFT", 1112331600000, 1112587200000)):
        assert [bar["t"] for bar in client.json(path)["results"]] == [1112331600000, 1112587200000]


def test_without_data_results_is_missing_and_the_status_is_ok(client):
    for path in (RANGE.format("NOPE", "2013-02-25", "2013-03-01"), GROUPED.format("2013-02-18")):
        document = client.json(path)
        assert "results" not in document
        assert (document["status"], document["resultsCount"], document["count"]) == ("OK", 0, 0)


def test_symbols_are_decoded_and_case_sensitive(client, market):
    numbers = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 25933.6}
    for symbol in ("BRK.B", "KIMpL", "A/B", "Ä"):
        market.history.put_bar(symbol, date(2013, 3, 1), **numbers)
        path = RANGE.format(quote(symbol, safe=""), "2013-03-01", "2013-03-01")
        document = client.json(path)
        assert (document["ticker"], document["results"][0]["v"]) == (symbol, 25933.6)
    assert client.json(RANGE.format("KIMPL", "2013-03-01", "2013-03-01"))["resultsCount"] == 0


def test_adjusted_is_the_default(client):
    path = RANGE.format("AAPL", "2005-02-25", "2005-02-25")
    closes = [client.json(path, **params)["results"][0]["c"] for params in ({}, {"adjusted": "true"})]
    raw = client.json(path, adjusted="false")
    assert closes == [44.495, 44.495]
    assert (raw["results"][0]["c"], raw["adjusted"]) == (88.99, False)
    grouped = client.json(GROUPED.format("2005-02-25"), adjusted="false")["results"]
    assert {bar["T"]: bar["c"] for bar in grouped}["AAPL"] == 88.99


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_long_range_is_paged_and_the_pages_make_the_whole(client, order):
    path = RANGE.format("A%2FB", "2005-02-01", "2005-04-29")
    history = client.market.history
    for bar in client.json(RANGE.format("AAPL", "2005-02-01", "2005-04-29"), adjusted="false")["results"]:
        session = datetime.fromtimestamp(bar["t"] / 1000, NEW_YORK).date()
        history.put_bar("A/B", session, open=bar["o"], high=bar["h"], low=bar["l"], close=bar["c"], volume=bar["v"])
    history.add_split(Split("A/B", date(2005, 2, 28), 1, 2))
    whole = client.json(path, adjusted="false", sort=order)["results"]
    pages = client.pages(path, adjusted="false", sort=order, limit=25)
    assert [page["resultsCount"] for page in pages] == [25, 25, 12]
    assert [bar for page in pages for bar in page["results"]] == whole
    assert whole == sorted(whole, key=lambda bar: bar["t"], reverse=order == "desc")


def test_next_url_is_absolute_and_asks_for_the_key_again(client, market):
    address = client.json(WEEK, limit=2)["next_url"]
    assert address.startswith(f"{market.url}/v2/aggs/ticker/IBM/range/1/day/")
    assert market.key not in address
    client.assert_error(client.anonymous(address.removeprefix(market.url)), 401)


def test_a_page_holds_5000_bars_unless_told(client, market):
    market.history = PriceHistory.synthetic(1, 5_001)
    market.today = date(2026, 1, 1)
    path = RANGE.format("SYN00000", "1900-01-01", "2025-12-31")
    assert [page["count"] for page in client.pages(path)] == [5000, 1]
    assert [page["count"] for page in client.pages(path, limit=50000)] == [5001]


def test_grouped_holds_every_symbol_of_the_session_stamped_with_its_end(client):
    document = client.json(GROUPED.format("2005-04-04"), adjusted="true", include_otc="false")
    assert [bar["T"] for bar in document["results"]] == ["AAPL", "GOOG", "IBM", "MSFT"]
    assert {bar["t"] for bar in document["results"]} == {1112644800000}
    assert "ticker" not in document
    assert (document["resultsCount"], document["adjusted"]) == (4, True)


def test_splits_are_listed_with_the_factor_that_restates_earlier_prices(client):
    params = {"ticker.any_of": "AAPL,IBM", "execution_date.gte": "2000-01-01", "sort": "execution_date.asc"}
    document = client.json(SPLITS, limit=5000, **params)
    assert document["status"] == "OK"
    first, second = document["results"]
    assert first.pop("id") != second.pop("id")
    same = {"ticker": "AAPL", "split_from": 1, "split_to": 2, "adjustment_type": "forward_split"}
    assert first == {**same, "execution_date": "2000-06-21", "historical_adjustment_factor": 0.25}
    assert second == {**same, "execution_date": "2005-02-28", "historical_adjustment_factor": 0.5}


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, ["2005-02-28", "2003-02-18", "2000-06-21"]),
        ({"sort": "execution_date.asc"}, ["2000-06-21", "2003-02-18", "2005-02-28"]),
        ({"ticker": "MSFT"}, ["2003-02-18"]),
        ({"ticker": "MSFT", "ticker.any_of": "AAPL"}, []),
        ({"execution_date": "2003-02-18"}, ["2003-02-18"]),
        ({"execution_date.gte": "2003-02-18"}, ["2005-02-28", "2003-02-18"]),
        ({"execution_date.gt": "2003-02-18"}, ["2005-02-28"]),
        ({"execution_date.lte": "2003-02-18"}, ["2003-02-18", "2000-06-21"]),
        ({"execution_date.lt": "2003-02-18"}, ["2000-06-21"]),
        ({"execution_date.gt": "2000-06-21", "execution_date.lt": "2005-02-28"}, ["2003-02-18"]),
        ({"execution_date.gt": "9999-12-31"}, []),
        ({"execution_date.lt": "0001-01-01"}, []),
    ],
)
def test_every_filter_of_splits(client, params, found):
    assert [split["execution_date"] for split in client.json(SPLITS, **params)["results"]] == found


def test_splits_are_paged_with_their_filters(client):
    pages = client.pages(SPLITS, limit=1, **{"ticker.any_of": "AAPL,IBM"})
    assert [[split["execution_date"] for split in page["results"]] for page in pages] == [
        ["2005-02-28"],
        ["2000-06-21"],
    ]


def test_a_split_to_come_is_not_listed(client, market):
    market.history.add_split(Split("IBM", date(2013, 3, 4), 10, 1))
    assert client.json(SPLITS, ticker="IBM")["results"] == []
    market.today = date(2013, 3, 4)
    (split,) = client.json(SPLITS, ticker="IBM")["results"]
    assert (split["adjustment_type"], split["historical_adjustment_factor"]) == ("reverse_split", 10)


@pytest.mark.parametrize(
    ("target", "word"),
    [
        (RANGE.format("IBM", "2013-02-30", "2013-03-01"), "2013-02-30"),
        (RANGE.format("IBM", "2013-02-01", "yesterday"), "yesterday"),
        (RANGE.format("IBM", "9" * 30, "2013-03-01"), "from"),
        (RANGE.format("IBM", "2013-03-01", "2013-02-01"), "after"),
        (f"{WEEK}?limit=0", "50000"),
        (f"{WEEK}?limit=50001", "50001"),
        (f"{WEEK}?limit=many", "many"),
        (f"{WEEK}?sort=up", "asc or desc"),
        (f"{WEEK}?adjusted=maybe", "true or false"),
        (f"{WEEK}?cursor=!", "cursor"),
        (GROUPED.format("2013-13-01"), "2013-13-01"),
        (GROUPED.format("2013-03-01") + "?include_otc=2", "include_otc"),
        (f"{SPLITS}?execution_date.gte=soon", "soon"),
        (f"{SPLITS}?limit=5001", "5000"),
        (f"{SPLITS}?sort=ticker", "execution_date.asc"),
        (f"{SPLITS}?offset=-1", "next_url"),
    ],
)
def test_a_malformed_call_is_refused_with_a_reason(client, market, target, word):
    client.assert_error(client.get(target), 400, word)
    assert market.calls == {"refused": 1}


@pytest.mark.parametrize("target", ["/", "/v2/aggs/ticker/IBM/range/5/minute/2013-02-25/2013-03-01", "/sandbox/today"])
def test_any_other_path_is_not_found(client, market, target):
    client.assert_error(client.get(target), 404, target)
    assert market.calls == {"refused": 1}
