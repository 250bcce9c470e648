import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import requests

from sandbox.history import PriceHistory
from sandbox.server import Fault, MarketServer

WEEK = "/v2/aggs/ticker/IBM/range/1/day/2013-02-25/2013-03-01"
GROUPED = "/v2/aggs/grouped/locale/us/market/stocks/{}"


def test_today_hides_bars_and_can_be_set_by_another_process(client, market):
    market.today = date(2013, 3, 1)
    assert client.json(WEEK)["resultsCount"] == 4
    assert client.json(GROUPED.format("2013-03-01"))["resultsCount"] == 0
    answer = client.anonymous("/sandbox/today", "POST", json={"today": "2013-03-02"})
    assert answer.json() == {"today": "2013-03-02"}
    assert market.today == date(2013, 3, 2)
    assert client.json(WEEK)["resultsCount"] == 5


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"today": 3}', b'{"today": "tomorrow"}'])
def test_a_malformed_today_is_refused(client, market, body):
    client.assert_error(client.anonymous("/sandbox/today", "POST", data=body), 400, "YYYY-MM-DD")
    assert market.today == date(2013, 3, 2)


def test_only_get_is_answered(client, market):
    client.assert_error(client.session.post(market.url + WEEK, data=b"x" * 100, timeout=10), 404, "POST")
    assert client.json(WEEK)["resultsCount"] == 5


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sandbox-key"}])
def test_a_missing_or_wrong_key_is_refused(client, market, headers):
    response = client.anonymous(WEEK, headers=headers)
    client.assert_error(response, 401, "Unknown API Key")
    assert market.calls == {"refused": 1}


def test_the_key_in_the_query_is_accepted_and_never_kept(connect):
    with MarketServer(PriceHistory.recorded(), today=date(2013, 3, 2), key="s3cr+t/&") as market:
        client = connect(market)
        params = {"limit": "2", "apiKey": market.key, "sort": "asc"}
        response = client.anonymous(WEEK, params=params)
        wrong = client.anonymous(f"{WEEK}?%61piKey=s3cr")
    assert response.json()["resultsCount"] == 2
    client.assert_error(wrong, 401)
    assert "s3cr" not in response.text
    assert market.requests == [("range", f"{WEEK}?limit=2&sort=asc"), ("refused", WEEK)]


def test_calls_are_counted_by_kind_and_can_be_read_by_another_process(client, market):
    client.json(WEEK, limit=3)
    client.json(GROUPED.format("2013-03-01"))
    client.json(GROUPED.format("2013-02-28"))
    client.json("/stocks/v1/splits")
    client.get("/nowhere")
    counts = {"range": 1, "grouped": 2, "splits": 1, "refused": 1}
    assert market.calls == counts
    assert client.anonymous("/sandbox/calls").json() == counts
    assert market.requests[:2] == [("range", f"{WEEK}?limit=3"), ("grouped", GROUPED.format("2013-03-01"))]
    market.reset_calls()
    assert (market.calls, market.requests) == ({}, [])


def test_calls_of_many_threads_are_all_counted(client, market):
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: client.get(WEEK).status_code, range(200))) == {200}
    assert market.calls == {"range": 200}


def test_the_rate_limit_slides_and_says_when_to_come_back(connect):
    now = [1000.0]
    history, today = PriceHistory.recorded(), date(2013, 3, 2)
    with MarketServer(history, today=today, calls_per_minute=2, clock=lambda: now[0]) as market:
        client = connect(market)
        assert client.get(WEEK).status_code == 200
        now[0] += 30.5
        assert client.get(WEEK).status_code == 200
        response = client.get(WEEK)
        client.assert_error(response, 429, "maximum requests per minute")
        assert response.headers["Retry-After"] == "30"
        assert client.anonymous("/sandbox/calls").json() == {"range": 2, "refused": 1}
        now[0] += 29.5
        assert client.get(WEEK).status_code == 200
        assert client.get(WEEK).headers["Retry-After"] == "31"


def test_faults_come_in_order_and_then_the_answer(client, market):
    market.fail_next(
        Fault(status=500),
        Fault(status=429, headers={"Retry-After": "1"}),
        Fault(status=200, body=b"<html>", headers={"Content-Type": "text/html"}),
        Fault(body=b""),
    )
    client.assert_error(client.get(WEEK), 500)
    assert client.get(WEEK).headers["Retry-After"] == "1"
    page = client.get(WEEK)
    assert (page.status_code, page.text, page.headers["Content-Type"]) == (200, "<html>", "text/html")
    assert client.get(WEEK).content == b""
    assert client.json(WEEK)["resultsCount"] == 5
    assert market.calls == {"failed": 4, "range": 1}


def test_a_fault_can_hang_up(client, market):
    market.fail_next(Fault(disconnect=True))
    with pytest.raises(requests.ConnectionError):
        client.get(WEEK)
    assert client.json(WEEK)["resultsCount"] == 5


def test_a_fault_can_be_slow_and_the_answer_still_right(client, market):
    market.fail_next(Fault(delay=0.2))
    before = time.monotonic()
    assert client.json(WEEK)["resultsCount"] == 5
    assert time.monotonic() - before >= 0.2
    assert market.calls == {"range": 1}


def test_connections_are_kept_open_between_calls(client):
    client.get(WEEK)
    (pool,) = client.session.get_adapter("http://").poolmanager.pools._container.values()
    client.get(WEEK)
    client.get("/nowhere")
    assert (pool.num_connections, pool.num_requests) == (1, 3)


def test_stopping_hangs_up_on_everyone_and_frees_the_port(market, client, capfd):
    client.get(WEEK)
    url, threads = market.url, threading.active_count()
    market.fail_next(Fault(delay=60))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.get, url + WEEK)
        time.sleep(0.1)
        before = time.monotonic()
        market.stop()
        assert time.monotonic() - before < 2
        assert isinstance(slow.exception(), requests.ConnectionError)
    with pytest.raises(requests.ConnectionError):
        client.get(url + WEEK)
    with pytest.raises(RuntimeError, match="not running"):
        _ = market.url
    market.stop()
    assert threading.active_count() < threads
    assert capfd.readouterr().err == ""
    with MarketServer(market.history, today=market.today, port=int(url.rpartition(":")[2])) as again:
        assert again.url == url


def test_a_taken_port_is_an_error(market):
    port = int(market.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        MarketServer(market.history, today=market.today, port=port).start()
