"""Fetch candlestick charts from QuickChart: one PNG per symbol, or a warning that says why there is none.

A chart service that is down, slow or broken never raises here, so that the report goes out without its charts.
:mod:`report.chart_config` decides how a chart looks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import pandas as pd
import requests
from urllib3 import Retry

from domain.errors import ConfigError
from domain.text import clean_text
from network.connect import SHORTEST_WAIT
from network.http import BoundedSession, TooLargeError, explain_failure, read_body, time_limit
from report.chart_config import CHART_SESSIONS, alt_text, chart_request

__all__ = ["CHART_SESSIONS", "Chart", "alt_text", "chart_request", "fetch_charts"]

logger = logging.getLogger(f"stock_tracker.{__name__}")

_MAX_BYTES = 2_000_000
_PARALLEL = 8
_LOCAL = ("http://127.0.0.1:", "http://localhost:")
_PNG = b"\x89PNG\r\n\x1a\n"
# Retry a busy service, but not a slow one, since all charts share one timeout.
_RETRY = Retry(
    total=2,
    connect=1,
    read=False,
    status_forcelist=(429, 502, 503, 504),
    allowed_methods={"POST"},
    backoff_factor=0.5,
    raise_on_status=False,
    respect_retry_after_header=False,
)


@dataclass(frozen=True)
class Chart:
    """One symbol's chart: PNG bytes, and the text for readers and clients that show no pictures."""

    symbol: str
    png: bytes
    alt: str


class _NoChartError(Exception):
    """The reason why a chart is missing, as its warning states it."""


def fetch_charts(
    bars: pd.DataFrame, *, url: str, timeout: float = 10.0, mask: Callable[[str], str] = str
) -> tuple[list[Chart], list[str]]:
    """Fetch the charts of all symbols in `bars`, in parallel.

    Parameters
    ----------
    bars : pandas.DataFrame
        Columns ``symbol`` and those of :mod:`report.chart_config`, sorted by symbol and date.
    url : str
        The ``/chart`` address of a QuickChart service.
    timeout : float
        Seconds for all charts together; later ones are given up.
    mask : callable
        Masks secrets in what the service says.

    Returns
    -------
    charts : list of Chart
        In the order in which the symbols first appear.
    warnings : list of str
        One per symbol without a chart: ``"no chart for GOOG: HTTP 500"``.
    """
    groups = {str(symbol): group for symbol, group in bars.groupby("symbol", sort=False)}
    deadline = time.monotonic() + timeout
    charts, warnings = [], []
    executor = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="chart")
    with _session(url) as session:
        futures = {s: executor.submit(_fetch, session, url, s, group, deadline, mask) for s, group in groups.items()}
        wait(futures.values(), timeout=timeout)
        for symbol, future in futures.items():
            try:
                charts.append(_result(future, timeout))
            except (_NoChartError, ConfigError, ValueError) as error:
                warnings.append(f"no chart for {symbol}: {error}")
    executor.shutdown(wait=False, cancel_futures=True)
    return charts, warnings


def _result(future: Future[Chart], timeout: float) -> Chart:
    late = f"no response within {timeout:g} s"
    if future.cancel() or not future.done():
        raise _NoChartError(late)
    try:
        return future.result()
    except requests.Timeout:
        raise _NoChartError(late) from None
    except requests.RequestException as error:
        raise _NoChartError(f"the chart service did not answer: {explain_failure(error, timeout)}") from None


def _session(url: str) -> requests.Session:
    session = BoundedSession(_RETRY, _PARALLEL)
    session.trust_env = not url.startswith(_LOCAL)  # a proxy cannot reach servers on this machine
    return session


def _fetch(
    session: requests.Session,
    url: str,
    symbol: str,
    bars: pd.DataFrame,
    deadline: float,
    mask: Callable[[str], str],
) -> Chart:
    request, alt = chart_request(symbol, bars), alt_text(symbol, bars)
    started = time.monotonic()
    limit = time_limit(max(deadline - started, SHORTEST_WAIT))
    with session.post(url, json=request, timeout=limit, stream=True, allow_redirects=False) as response:
        complaint = response.headers.get("X-quickchart-error")
        if complaint is not None:
            raise _NoChartError(f"the chart service says {clean_text(complaint, mask=mask)!r}")
        if response.status_code != requests.codes.ok:
            raise _NoChartError(f"HTTP {response.status_code}")
        kind = response.headers.get("Content-Type", "of unknown type").partition(";")[0]
        try:
            png = read_body(response, _MAX_BYTES)
        except TooLargeError:
            raise _NoChartError(f"the response is larger than {_MAX_BYTES:,} bytes") from None
        if kind != "image/png":
            raise _NoChartError(f"the response is {clean_text(kind, 50, mask)}, not image/png")
        if not png.startswith(_PNG):
            raise _NoChartError("the response is not a PNG picture")
    logger.debug("chart of %s: %d bytes in %.0f ms", symbol, len(png), (time.monotonic() - started) * 1000)
    return Chart(symbol, png, alt)
