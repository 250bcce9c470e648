"""Fetch candlestick charts from QuickChart: one PNG per symbol, or a warning that says why there is none.

A chart service that is down, slow or broken never raises here, so that the report goes out without its charts.
:mod:`report.chart_config` decides how a chart looks.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection

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


def fetch_charts(bars: pd.DataFrame, *, url: str, timeout: float = 10.0) -> tuple[list[Chart], list[str]]:
    """Fetch the charts of all symbols in `bars`, in parallel.

    Parameters
    ----------
    bars : pandas.DataFrame
        Columns ``symbol`` and those of :mod:`report.chart_config`, sorted by symbol and date.
    url : str
        The ``/chart`` address of a QuickChart service.
    timeout : float
        Seconds for all charts together; later ones are given up, and their connections are cut.

    Returns
    -------
    charts : list of Chart
        In the order in which the symbols first appear.
    warnings : list of str
        One per symbol without a chart: ``"no chart for GOOG: HTTP 500"``.
    """
    groups = {str(symbol): group for symbol, group in bars.groupby("symbol", sort=False)}
    deadline = time.monotonic() + timeout
    late = f"no response within {timeout:g} s"
    charts, warnings = [], []
    executor, sockets = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="chart"), _Sockets()
    with _session(url, sockets) as session:
        futures = {s: executor.submit(_fetch, session, url, s, group, deadline) for s, group in groups.items()}
        in_time, _ = wait(futures.values(), timeout=timeout)
        sockets.cut()
        for symbol, future in futures.items():
            try:
                charts.append(_result(future, late, in_time=future in in_time))
            except (_NoChartError, ValueError) as error:
                warnings.append(f"no chart for {symbol}: {error}")
    executor.shutdown(wait=False, cancel_futures=True)
    return charts, warnings


def _result(future: Future[Chart], late: str, *, in_time: bool) -> Chart:
    if not in_time:
        raise _NoChartError(late)
    try:
        return future.result()
    except requests.Timeout:
        raise _NoChartError(late) from None
    except requests.RequestException as error:
        raise _NoChartError(f"the chart service cannot be reached ({_cause(error)})") from None


def _cause(error: BaseException | None) -> str:
    """Return what the system said of a connection that failed; libraries wrap it in words of their own."""
    while error:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return "no connection"


class _Sockets:
    """The connections of a session, to be cut when time is up.

    A timeout bounds each read only: a service that sends a byte a second would keep its thread for ever.
    """

    def __init__(self) -> None:
        self._lock, self._twins, self._over = threading.Lock(), list[socket.socket](), False

    def watch(self, connection: socket.socket) -> socket.socket:
        """Keep a twin of a TCP connection, since TLS replaces the object; after the cut, cut it at once."""
        with self._lock:
            self._twins.append(connection.dup())
        if self._over:
            self.cut()
        return connection

    def cut(self) -> None:
        """Cut all connections, and those that are still to come."""
        with self._lock:
            self._over = True
            while self._twins:
                with self._twins.pop() as twin, suppress(OSError):
                    twin.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """An adapter whose connections, also those to a proxy, are watched."""

    def __init__(self, sockets: _Sockets) -> None:
        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return sockets.watch(super()._new_conn())

        class SecureConnection(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return sockets.watch(super()._new_conn())

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = SecureConnection

        self._pools = {"http": Pool, "https": SecurePool}
        super().__init__(pool_maxsize=_PARALLEL, max_retries=_RETRY)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _session(url: str, sockets: _Sockets) -> requests.Session:
    session = requests.Session()
    session.trust_env = not url.startswith(_LOCAL)  # a proxy cannot reach servers on this machine
    adapter = _Adapter(sockets)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _fetch(session: requests.Session, url: str, symbol: str, bars: pd.DataFrame, deadline: float) -> Chart:
    try:
        return _fetch_once(session, url, symbol, bars, deadline)
    except requests.ConnectionError:  # as requests calls a timeout while it reads the body
        if time.monotonic() < deadline:
            raise
        raise requests.Timeout from None


def _fetch_once(session: requests.Session, url: str, symbol: str, bars: pd.DataFrame, deadline: float) -> Chart:
    request, alt = chart_request(symbol, bars), alt_text(symbol, bars)
    started = time.monotonic()
    seconds = max(deadline - started, 0.001)
    with session.post(url, json=request, timeout=seconds, stream=True, allow_redirects=False) as response:
        complaint = response.headers.get("X-quickchart-error")
        if complaint is not None:
            raise _NoChartError(f"the chart service says {complaint[:200]!r}")
        if response.status_code != requests.codes.ok:
            raise _NoChartError(f"HTTP {response.status_code}")
        kind = response.headers.get("Content-Type", "of unknown type").partition(";")[0]
        png = b"".join(_read_bounded(response, deadline))
        if kind != "image/png":
            raise _NoChartError(f"the response is {kind[:50]}, not image/png")
        if not png.startswith(_PNG):
            raise _NoChartError("the response is not a PNG picture")
    logger.debug("chart of %s: %d bytes in %.0f ms", symbol, len(png), (time.monotonic() - started) * 1000)
    return Chart(symbol, png, alt)


def _read_bounded(response: requests.Response, deadline: float) -> Iterator[bytes]:
    size = 0
    for chunk in response.iter_content(65_536):
        size += len(chunk)
        if size > _MAX_BYTES:
            raise _NoChartError(f"the response is larger than {_MAX_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise requests.Timeout
        yield chunk
