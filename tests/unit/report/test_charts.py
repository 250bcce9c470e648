import json
import logging
import re
import threading
import time
from contextlib import contextmanager

import pandas as pd
import pytest

from domain.text import LONGEST_TEXT, Redactor
from report import charts as charts_module
from report.chart_config import chart_request
from report.charts import Chart, fetch_charts
from sandbox.local_http import LocalServer, Reply
from sandbox.renderer import Renderer, RendererUnavailable
from tests.support.rough_server import HEAD, dripping, rough_server

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


def test_every_symbol_gets_its_chart_in_the_order_of_the_bars():
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


def test_the_request_body_is_the_chart_request():
    bodies = []

    def respond(request):
        bodies.append((request.method, request.target, request.headers["Content-Type"], request.body))
        return PICTURE

    with service(respond) as url:
        fetch_charts(bars("GOOG"), url=url)
    ((method, target, kind, body),) = bodies
    assert (method, target, kind) == ("POST", "/chart", "application/json")
    assert json.loads(body) == chart_request("GOOG", bars("GOOG"))


def test_charts_are_fetched_in_parallel():
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
        (
            Reply(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"}),
            "the response is text/html, not image/png",
        ),
        (Reply(200, PNG), "the response is of unknown type, not image/png"),
        (Reply(200, b"<html>", {"Content-Type": "image/png"}), "the response is not a PNG picture"),
        (Reply(200, b"", {"Content-Type": "image/png"}), "the response is not a PNG picture"),
        (
            Reply(200, PNG + bytes(2_000_000), {"Content-Type": "image/png"}),
            "the response is larger than 2,000,000 bytes",
        ),
        (
            Reply(400, PNG, {"Content-Type": "image/png", "X-quickchart-error": "Chart Error: no"}),
            "the chart service says 'Chart Error: no'",
        ),
        (
            Reply(200, PNG, {"Content-Type": "image/png", "X-quickchart-error": "x" * 9000}),
            "the chart service says '" + "x" * 199 + "…'",
        ),
        (None, "the chart service did not answer: the connection was closed without an answer"),
    ],
)
def test_a_response_that_is_no_picture_is_a_warning_and_the_other_charts_are_kept(reply, reason):
    with service(lambda request: reply if symbol_of(request) == "GOOG" else PICTURE) as url:
        charts, warnings = fetch_charts(bars("AAPL", "GOOG", "MSFT"), url=url)
    assert [chart.symbol for chart in charts] == ["AAPL", "MSFT"]
    assert warnings == [f"no chart for GOOG: {reason}"]


def test_a_chart_that_hangs_is_given_up_and_the_others_are_kept():
    release = threading.Event()

    def respond(request):
        if symbol_of(request) == "GOOG":
            release.wait(30)  # longer than the test lasts
        return PICTURE

    with service(respond) as url:
        charts, warnings = fetch_charts(bars("AAPL", "GOOG"), url=url, timeout=1)
        release.set()
    assert [chart.symbol for chart in charts] == ["AAPL"]
    assert warnings == ["no chart for GOOG: no response within 1 s"]


def test_a_service_that_hangs_costs_one_timeout_for_all_symbols_together():
    release, symbols = threading.Event(), [f"S{n}" for n in range(160)]  # 8 at a time: 20 timeouts if each had its own
    with service(lambda request: release.wait(30) and None) as url:
        start = time.monotonic()
        charts, warnings = fetch_charts(bars(*symbols), url=url, timeout=0.3)
        seconds = time.monotonic() - start
        release.set()
    assert seconds < 0.3 + 2
    assert charts == []
    assert warnings == [f"no chart for {symbol}: no response within 0.3 s" for symbol in symbols]


@pytest.mark.parametrize("busy", [429, 502, 503, 504])
def test_a_busy_service_is_asked_three_times(busy, monkeypatch):
    monkeypatch.setattr(charts_module, "_RETRY", charts_module._RETRY.new(backoff_factor=0))
    replies = [Reply(busy, b""), Reply(busy, b""), PICTURE, Reply(busy, b""), Reply(busy, b""), Reply(busy, b"")]
    with service(lambda request: replies.pop(0)) as url:
        charts, warnings = fetch_charts(bars("GOOG"), url=url)
        assert (len(charts), warnings, len(replies)) == (1, [], 3)
        assert fetch_charts(bars("GOOG"), url=url) == ([], [f"no chart for GOOG: HTTP {busy}"])
    assert replies == []


def test_each_chart_is_logged_with_its_duration(caplog):
    caplog.set_level(logging.DEBUG, logger="stock_tracker.report.charts")
    with service(lambda request: PICTURE) as url:
        fetch_charts(bars("GOOG"), url=url)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "stock_tracker.report.charts"]
    assert re.fullmatch(r"chart of GOOG: 15 bytes in \d+ ms", line)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/chart", "http://[broken", "nonsense"])
def test_a_service_that_cannot_be_reached_is_a_warning(url):
    charts, (warning,) = fetch_charts(bars("GOOG"), url=url)
    assert charts == []
    assert warning.startswith("no chart for GOOG: the chart service did not answer: ")
    assert "\n" not in warning


def test_what_the_service_says_is_one_clean_line():
    reply = Reply(400, b"", {"X-quickchart-error": "no \x1b[31mchart\x07 today"})
    with service(lambda request: reply) as url:
        assert fetch_charts(bars("GOOG"), url=url)[1] == ["no chart for GOOG: the chart service says 'no chart today'"]


def test_a_secret_that_the_cut_would_leave_half_of_is_masked():
    secret = "hunter2-do-not-tell"
    said = "x" * (LONGEST_TEXT - 10) + secret
    with service(lambda request: Reply(400, b"", {"X-quickchart-error": said})) as url:
        _, (warning,) = fetch_charts(bars("GOOG"), url=url, mask=Redactor([secret]))
    assert warning.endswith("x***'")


def test_certificates_that_cannot_be_read_are_a_warning(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    charts, (warning,) = fetch_charts(bars("GOOG"), url="https://charts.invalid/chart")
    assert charts == []
    assert warning.startswith("no chart for GOOG: REQUESTS_CA_BUNDLE names '/nonexistent', which cannot be used (")


def test_no_thread_is_left_by_a_service_that_answers_byte_by_byte():
    with rough_server(dripping(HEAD + b"X-Slow: ")) as server:
        _, (warning,) = fetch_charts(bars("GOOG"), url=f"{server.url}/chart", timeout=0.3)
        assert warning == "no chart for GOOG: no response within 0.3 s"
        for thread in threading.enumerate():
            if thread.name.startswith("chart"):
                thread.join(2)
                assert not thread.is_alive()


def test_a_symbol_without_prices_is_a_warning():
    with service(lambda request: PICTURE) as url:
        _, warnings = fetch_charts(bars("GOOG").assign(close=float("nan")), url=url)
    assert warnings == ["no chart for GOOG: no session has all of open, high, low and close"]


def test_no_bars_give_no_charts():
    assert fetch_charts(bars("GOOG").head(0), url="http://127.0.0.1:9/chart") == ([], [])


def test_a_service_on_this_machine_is_reached_without_the_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with service(lambda request: PICTURE) as url:
        charts, _ = fetch_charts(bars("GOOG"), url=url)
    assert len(charts) == 1


def test_the_sandbox_renders_real_charts():
    try:
        with Renderer() as renderer:
            charts, warnings = fetch_charts(bars("MSFT", "AAPL", "GOOG"), url=renderer.url)
    except RendererUnavailable as error:
        pytest.skip(str(error))
    assert warnings == []
    assert all(len(chart.png) > 10_000 for chart in charts)
