"""Candlestick pictures of symbols, fetched from QuickChart.

What comes in: a DataFrame of bars, sorted by symbol and date, with columns ``symbol`` (str) and those that
:mod:`report.chart_config` needs. What goes out: a PNG for each symbol, or a warning that says why there is none. A
chart service that is down, slow, or answers nonsense never raises here. How a chart looks is never decided here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import pandas as pd
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from report.chart_config import CHART_SESSIONS, alt_text, chart_request

__all__ = ["CHART_SESSIONS", "Chart", "alt_text", "chart_request", "fetch_charts"]

_MAX_BYTES = 2_000_000
_AT_ONCE = 8
_LOCAL = ("http://127.0.0.1:", "http://localhost:")
_PNG = b"\x89PNG\r\n\x1a\n"
# A busy service is asked again, a slow one is not: the time is for all charts together.
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
    """One symbol's picture: PNG bytes, and the text that stands for it where pictures are not shown."""

    symbol: str
    png: bytes
    alt: str


class _NoChartError(Exception):
    """Why there is no picture, in the words of the warning."""


def fetch_charts(bars: pd.DataFrame, *, url: str, timeout: float = 10.0) -> tuple[list[Chart], list[str]]:
    """Draw every symbol in ``bars``, all at once.

    Parameters
    ----------
    bars : pandas.DataFrame
        Bars of one or more symbols, sorted by symbol and date.
    url : str
        A QuickChart's ``/chart`` address.
    timeout : float
        Seconds for all charts together; what is not there by then is given up.

    Returns
    -------
    charts : list of Chart
        In the order in which the symbols first appear.
    warnings : list of str
        One for each symbol without a picture: ``"no chart for GOOG: HTTP 500"``.
    """
    groups = {str(symbol): group for symbol, group in bars.groupby("symbol", sort=False)}
    deadline = time.monotonic() + timeout
    late = f"no answer within {timeout:g} s"
    charts, warnings = [], []
    executor = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="chart")
    with _session(url) as session:
        futures = {s: executor.submit(_fetch, session, url, s, group, deadline) for s, group in groups.items()}
        wait(futures.values(), timeout=timeout)
        for symbol, future in futures.items():
            try:
                charts.append(_outcome(future, late))
            except (_NoChartError, ValueError) as error:
                warnings.append(f"no chart for {symbol}: {error}")
    executor.shutdown(wait=False, cancel_futures=True)
    return charts, warnings


def _outcome(future: Future[Chart], late: str) -> Chart:
    if future.cancel() or not future.done():
        raise _NoChartError(late)
    try:
        return future.result()
    except requests.Timeout:
        raise _NoChartError(late) from None
    except requests.RequestException as error:
        raise _NoChartError(f"the chart service cannot be reached ({type(error).__name__})") from None


def _session(url: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = not url.startswith(_LOCAL)  # a proxy does not know this machine's own servers
    adapter = HTTPAdapter(pool_maxsize=_AT_ONCE, max_retries=_RETRY)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _fetch(session: requests.Session, url: str, symbol: str, bars: pd.DataFrame, deadline: float) -> Chart:
    request, alt = chart_request(symbol, bars), alt_text(symbol, bars)
    seconds = max(deadline - time.monotonic(), 0.001)
    with session.post(url, json=request, timeout=seconds, stream=True, allow_redirects=False) as response:
        complaint = response.headers.get("X-quickchart-error")
        if complaint is not None:
            raise _NoChartError(f"the chart service says {complaint[:200]!r}")
        if response.status_code != requests.codes.ok:
            raise _NoChartError(f"HTTP {response.status_code}")
        kind = response.headers.get("Content-Type", "of no type").partition(";")[0]
        png = b"".join(_bounded(response, deadline))
        if kind != "image/png":
            raise _NoChartError(f"the answer is {kind[:50]}, not image/png")
        if not png.startswith(_PNG):
            raise _NoChartError("the answer is not a PNG picture")
    return Chart(symbol, png, alt)


def _bounded(response: requests.Response, deadline: float) -> Iterator[bytes]:
    size = 0
    for chunk in response.iter_content(65_536):
        size += len(chunk)
        if size > _MAX_BYTES:
            raise _NoChartError(f"the answer is larger than {_MAX_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise requests.Timeout
        yield chunk
