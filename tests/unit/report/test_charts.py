import json
import threading
import time
from contextlib import contextmanager

import pandas as pd
import pytest

from report.chart_config import chart_request
from report.charts import Chart, fetch_charts
from sandbox.local_http import LocalServer, Reply
from sandbox.renderer import Renderer, RendererUnavailable

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
PICTURE = Reply(200, PNG, {"Content-Type": "image/png"})


def bars(*symbols):
    frame = pd.DataFrame({"symbol": symbols, "date": pd.Timestamp("2013-03-01")})
    return frame.assign(open=100.0, high=108.0, low=98.0, close=106.0, volume=1000, rolling_avg=float("nan"))


@contextmanager
def service(respond):
    server = LocalServer(respond)
    server.start()
    try:
        yield f"{server.url}/chart"
    finally:
        server.stop()


def symbol_of(request):
    return next(symbol for symbol in ("AAPL", "GOOG", "MSFT") if symbol.encode() in request.body)


def test_every_symbol_gets_its_picture_in_the_order_of_the_bars():
    def respond(request):
        time.sleep({"MSFT": 0.1, "AAPL": 0.05, "GOOG": 0}[symbol_of(request)])
        return Reply(200, PNG + symbol_of(request).encode(), {"Content-Type": "image/png"})

    with service(respond) as url:
        charts, warnings = fetch_charts(bars("MSFT", "AAPL", "GOOG"), url=url)
    assert warnings == []
    assert charts[0] == Chart(
        "MSFT", PNG + b"MSFT", "MSFT, 1 session on Mar 1, 2013: closed at $106.00, between $98.00 and $108.00."
    )
    assert [chart.png[-4:] for chart in charts] == [b"MSFT", b"AAPL", b"GOOG"]


def test_what_is_posted_is_the_chart_request():
    bodies = []

    def respond(request):
        bodies.append((request.method, request.target, request.headers["Content-Type"], request.body))
        return PICTURE

    with service(respond) as url:
        fetch_charts(bars("GOOG"), url=url)
    ((method, target, kind, body),) = bodies
    assert (method, target, kind) == ("POST", "/chart", "application/json")
    assert json.loads(body) == chart_request("GOOG", bars("GOOG"))


def test_symbols_are_drawn_at_the_same_time():
    together = threading.Barrier(3, timeout=5)

    def respond(request):
        together.wait()
        return PICTURE

    with service(respond) as url:
        charts, _ = fetch_charts(bars("MSFT", "AAPL", "GOOG"), url=url)
    assert len(charts) == 3


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(500, b"oops"), "HTTP 500"),
        (Reply(301, b"", {"Location": "http://127.0.0.1:9/"}), "HTTP 301"),
        (Reply(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"}), "the answer is text/html, not image/png"),
        (Reply(200, PNG), "the answer is of no type, not image/png"),
        (Reply(200, b"<html>", {"Content-Type": "image/png"}), "the answer is not a PNG picture"),
        (Reply(200, b"", {"Content-Type": "image/png"}), "the answer is not a PNG picture"),
        (
            Reply(200, PNG + bytes(2_000_000), {"Content-Type": "image/png"}),
            "the answer is larger than 2,000,000 bytes",
        ),
        (
            Reply(400, PNG, {"Content-Type": "image/png", "X-quickchart-error": "Chart Error: no"}),
            "the chart service says 'Chart Error: no'",
        ),
        (
            Reply(200, PNG, {"Content-Type": "image/png", "X-quickchart-error": "x" * 9000}),
            "the chart service says '" + "x" * 200 + "'",
        ),
        (None, "the chart service cannot be reached (ConnectionError)"),
    ],
)
def test_an_answer_that_is_no_picture_is_a_warning_and_the_others_are_kept(reply, reason):
    with service(lambda request: reply if symbol_of(request) == "GOOG" else PICTURE) as url:
        charts, warnings = fetch_charts(bars("AAPL", "GOOG", "MSFT"), url=url)
    assert [chart.symbol for chart in charts] == ["AAPL", "MSFT"]
    assert warnings == [f"no chart for GOOG: {reason}"]


def test_a_slow_answer_is_given_up_in_time():
    release = threading.Event()

    def respond(request):
        if symbol_of(request) == "GOOG":
            release.wait(5)
        return PICTURE

    with service(respond) as url:
        start = time.monotonic()
        charts, warnings = fetch_charts(bars("AAPL", "GOOG"), url=url, timeout=0.4)
        took = time.monotonic() - start
        release.set()
    assert took < 1
    assert [chart.symbol for chart in charts] == ["AAPL"]
    assert warnings == ["no chart for GOOG: no answer within 0.4 s"]


def test_the_time_is_for_all_symbols_together_however_many():
    release = threading.Event()
    with service(lambda request: release.wait(5) and None) as url:
        start = time.monotonic()
        charts, warnings = fetch_charts(bars(*(f"S{n}" for n in range(40))), url=url, timeout=0.3)
        took = time.monotonic() - start
        release.set()
    assert took < 1
    assert charts == []
    assert warnings == [f"no chart for S{n}: no answer within 0.3 s" for n in range(40)]


def test_a_busy_service_is_asked_again():
    answers = [Reply(429, b""), Reply(503, b""), PICTURE]
    with service(lambda request: answers.pop(0)) as url:
        charts, warnings = fetch_charts(bars("GOOG"), url=url)
    assert (len(charts), warnings, answers) == (1, [], [])


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/chart", "http://[broken", "nonsense"])
def test_a_service_that_is_not_there_is_a_warning(url):
    charts, (warning,) = fetch_charts(bars("GOOG"), url=url)
    assert charts == []
    assert warning.startswith("no chart for GOOG: the chart service cannot be reached (")
    assert "\n" not in warning


def test_a_symbol_without_prices_is_a_warning():
    with service(lambda request: PICTURE) as url:
        _, warnings = fetch_charts(bars("GOOG").assign(close=float("nan")), url=url)
    assert warnings == ["no chart for GOOG: no session has all of open, high, low and close"]


def test_no_bars_are_no_charts():
    assert fetch_charts(bars("GOOG").head(0), url="http://127.0.0.1:9/chart") == ([], [])


def test_our_machine_is_never_asked_through_a_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with service(lambda request: PICTURE) as url:
        charts, _ = fetch_charts(bars("GOOG"), url=url)
    assert len(charts) == 1


def test_the_sandbox_draws_real_pictures():
    try:
        with Renderer() as renderer:
            charts, warnings = fetch_charts(bars("MSFT", "AAPL", "GOOG"), url=renderer.url)
    except RendererUnavailable as error:
        pytest.skip(str(error))
    assert warnings == []
    assert all(len(chart.png) > 10_000 for chart in charts)
