"""Polygon (named Massive since 2025): daily bars and splits over HTTP, paced, retried, paged and with typed errors.

Bars are returned as the provider sent them (``o h l c v t``, and ``T`` in grouped answers). The key is sent in the
``Authorization`` header only, and no call waits past the invocation's deadline.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import InvalidHeader
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from domain.clock import Clock, Deadline
from domain.errors import ApiError, CredentialsError, EnvelopeError, OutOfPlanError, StockTrackerError
from domain.models import RejectedBar, Split
from domain.validation import SYMBOL

logger = logging.getLogger(f"stock_tracker.{__name__}")

PAGE_LIMIT = 50_000  # the provider's maximum for bars
SPLITS_PAGE_LIMIT = 5_000  # and for splits
MAX_PAGES = 1_000  # none of the questions asked here needs more than a few
TIMEOUT = (5.0, 30.0)  # seconds to connect, and between two received bytes
ATTEMPTS = 5
BACKOFF_BASE, BACKOFF_MAX = 0.5, 20.0  # seconds
LONGEST_PAUSE = 120.0  # seconds of Retry-After that are believed
RETRIED_STATUSES = (413, 429, 499, 500, 502, 503, 504)  # those that the provider's own client retries
USABLE_STATUSES = ("OK", "DELAYED")
MINUTE = 60.0
PROVIDER_HOSTS = ("api.massive.com", "api.polygon.io")  # both are the provider's
REFUSALS: dict[int, type[StockTrackerError]] = {401: CredentialsError, 403: OutOfPlanError}

Bar = dict[str, Any]

_SPENT: dict[tuple[str, str, int, Clock], deque[float]] = {}
"""When the last tokens of each plan were spent, shared by all clients of this process."""


class RateLimiter:
    """A bucket of tokens, each of which comes back one minute after it was spent.

    A run starts with a burst, and no 60 seconds ever hold more calls than the plan allows.

    Parameters
    ----------
    spent : collections.deque of float
        When the last tokens were spent, in seconds of the deadline's clock. Its ``maxlen`` is the number of tokens,
        0 for no limit.
    deadline : Deadline
        No wait reaches past it.
    """

    def __init__(self, spent: deque[float], deadline: Deadline) -> None:
        self._deadline = deadline
        self._spent = spent

    @property
    def is_ready(self) -> bool:
        """Whether a token can be spent at once."""
        if self._spent.maxlen == 0 or len(self._spent) < (self._spent.maxlen or 0):
            return True
        return self._spent[0] + MINUTE <= self._deadline.clock.monotonic()

    def take(self) -> None:
        """Spend a token, waiting for one if need be.

        Raises
        ------
        TimeUpError
            If the wait would reach past the deadline.
        """
        if self._spent.maxlen == 0:
            return
        if len(self._spent) == self._spent.maxlen:
            wait = self._spent[0] + MINUTE - self._deadline.clock.monotonic()
            self._deadline.sleep(wait, f"the plan's limit of {self._spent.maxlen} calls per minute")
        self._spent.append(self._deadline.clock.monotonic())


class _Retry(Retry):
    """urllib3's retries, made to wait on the invocation's clock, with full jitter, and to count as calls."""

    deadline: Deadline
    limiter: RateLimiter

    def new(self, **changes: Any) -> _Retry:
        copy = super().new(**changes)
        copy.deadline, copy.limiter = self.deadline, self.limiter
        return copy

    def get_backoff_time(self) -> float:
        # Full jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter
        ceiling = min(BACKOFF_MAX, BACKOFF_BASE * 2.0 ** len(self.history))
        return random.uniform(BACKOFF_BASE / 10, ceiling)  # noqa: S311 - spreads load, hides nothing

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        pause = None
        if response is not None:
            try:
                pause = self.get_retry_after(response)
            except InvalidHeader:  # neither seconds nor a date: back off as without it
                pause = None
        if pause is None and response is not None and response.status == requests.codes.too_many_requests:
            pause = MINUTE / (ATTEMPTS - 1)  # all attempts together reach into the plan's next minute
        wait = self.get_backoff_time() if pause is None else min(pause, LONGEST_PAUSE)
        self.deadline.sleep(wait, "waiting to ask the provider again")
        self.limiter.take()


class _BearerAuth(AuthBase):
    """The key as a header; as ``auth``, since an entry in .netrc would replace a plain header."""

    def __init__(self, key: str) -> None:
        self._header = f"Bearer {key}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


class PolygonClient:
    """A client of the provider for one run.

    Parameters
    ----------
    base_url : str
        Such as ``https://api.massive.com``.
    api_key : str
    calls_per_minute : int
        The plan's limit, shared by all clients of this process; 0 is unlimited.
    deadline : Deadline
        No wait reaches past it.

    Attributes
    ----------
    calls : int
        Answers received so far, pages and splits included.
    """

    def __init__(self, *, base_url: str, api_key: str, calls_per_minute: int, deadline: Deadline) -> None:
        self.calls = 0
        self._base_url = base_url
        plan = (base_url, api_key, calls_per_minute, deadline.clock)
        self._limiter = RateLimiter(_SPENT.setdefault(plan, deque(maxlen=calls_per_minute)), deadline)
        retry = _Retry(
            total=ATTEMPTS - 1, allowed_methods=["GET"], status_forcelist=RETRIED_STATUSES, raise_on_status=False
        )
        retry.deadline, retry.limiter = deadline, self._limiter
        self._session = requests.Session()
        self._session.auth = _BearerAuth(api_key)
        self._session.mount(base_url, HTTPAdapter(max_retries=retry))

    def range_bars(self, symbol: str, first: date, last: date) -> list[Bar]:
        """Fetch the daily bars of one symbol, adjusted for splits, oldest first.

        Returns
        -------
        list of dict
            Bars as received; empty for an unknown symbol or a range without trades.

        Raises
        ------
        ApiError
            If the provider refuses, fails, or answers something unusable; an :exc:`EnvelopeError` if the answer
            contradicts the question or itself, an :exc:`OutOfPlanError` if the plan does not include it.
        CredentialsError
            If it refuses the key.
        TimeUpError
            If waiting for the plan's limit or for a retry would reach past the deadline.
        """
        path = f"/v2/aggs/ticker/{quote(symbol, safe='')}/range/1/day/{first}/{last}"
        query = {"adjusted": "true", "sort": "asc", "limit": str(PAGE_LIMIT)}
        return self._pages(path, query, {"ticker": symbol, "adjusted": True})

    def grouped_bars(self, session: date) -> list[Bar]:
        """Fetch the daily bar of every symbol that traded in a session, adjusted for splits.

        Raises as :meth:`range_bars`.
        """
        path = f"/v2/aggs/grouped/locale/us/market/stocks/{session}"
        return self._pages(path, {"adjusted": "true", "include_otc": "false"}, {"adjusted": True})

    def splits(self, since: date, until: date, symbols: Sequence[str] = ()) -> tuple[list[Split], list[RejectedBar]]:
        """Fetch the splits executed from `since` to `until`, both included, of all symbols unless some are named.

        Returns
        -------
        splits : list of Split
            Oldest first.
        rejected : list of RejectedBar
            The records that cannot be read, with the reason.

        Raises
        ------
        ApiError, CredentialsError, TimeUpError
            As :meth:`range_bars`.
        """
        query = {"execution_date.gte": str(since), "execution_date.lte": str(until), "sort": "execution_date.asc"}
        if symbols:
            query["ticker.any_of"] = ",".join(symbols)
        items = self._pages("/stocks/v1/splits", {**query, "limit": str(SPLITS_PAGE_LIMIT)}, {})
        return parse_splits(items)

    @property
    def is_ready(self) -> bool:
        """Whether the plan's limit allows a call at once."""
        return self._limiter.is_ready

    def _pages(self, path: str, query: dict[str, str], expected: Mapping[str, object]) -> list[Any]:
        """Fetch all pages of an answer; ask once more if they contradict the question or themselves."""
        try:
            return self._pages_once(path, query, expected)
        except EnvelopeError:
            return self._pages_once(path, query, expected)

    def _pages_once(self, path: str, query: dict[str, str], expected: Mapping[str, object]) -> list[Any]:
        url, results, pages = self._base_url + path, list[Any](), 0
        next_query: dict[str, str] | None = query
        while url:
            envelope = self._get(url, next_query, path)
            page = [] if envelope.get("results") is None else envelope["results"]
            if not isinstance(page, list):
                raise EnvelopeError(f"the provider's answer to {path} has results that are not a list")
            results = results + page if results else page
            pages += 1
            url, next_query = self._next(envelope.get("next_url"), path), None
            _check_envelope(envelope, expected, path, counts={len(page), len(results)}, is_last=not url)
            if url and pages == MAX_PAGES:
                raise ApiError(f"the provider's answer to {path} does not end after {MAX_PAGES} pages")
        return results

    def _next(self, url: Any, path: str) -> str:
        """Return the address of the next page: its path and query, on the host that was asked."""
        if not url:
            return ""
        try:
            parts = urlsplit(str(url))
            host = parts.netloc
        except ValueError:
            parts, host = urlsplit(""), str(url)[:80]
        if host not in (urlsplit(self._base_url).netloc, *PROVIDER_HOSTS):
            raise ApiError(f"the provider's answer to {path} goes on at another host: {host}")
        return f"{self._base_url}{parts.path}?{parts.query}"

    def _get(self, url: str, query: dict[str, str] | None, path: str) -> dict[str, Any]:
        self._limiter.take()
        started = time.monotonic()
        try:
            response = self._session.get(url, params=query, timeout=TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            host = urlsplit(self._base_url).netloc.rpartition("@")[2]
            raise ApiError(
                f"the provider at {host} did not answer {path} after {ATTEMPTS} attempts: {type(error).__name__}"
            ) from None
        self.calls += 1
        logger.debug("%d in %.3f s: %s", response.status_code, time.monotonic() - started, path)
        envelope = None
        try:
            envelope = orjson.loads(response.content)
        except orjson.JSONDecodeError:  # a number beyond float64: json reads it, and validation rejects that bar
            with suppress(ValueError, RecursionError):
                envelope = json.loads(response.content)
        if response.status_code != requests.codes.ok:
            kind = REFUSALS.get(response.status_code, ApiError)
            raise kind(_refusal(response.status_code, envelope, path))
        if not isinstance(envelope, dict):
            raise ApiError(f"the provider's answer to {path} is not a JSON object: {response.text[:80]!r}")
        if envelope.get("status") not in USABLE_STATUSES:
            raise ApiError(f"the provider answered {path} with {_reason(envelope)}")
        return envelope


def _check_envelope(
    envelope: Mapping[str, Any], expected: Mapping[str, object], path: str, *, counts: set[int], is_last: bool
) -> None:
    """Compare a page with the question and with what it says of itself; an absent field is no contradiction.

    Raises
    ------
    EnvelopeError
        If a field is not as expected, or the last page does not have as many results as it says.
    """
    for name, value in expected.items():
        if (found := envelope.get(name)) not in (None, value):
            raise EnvelopeError(f"the provider's answer to {path} has {name} {str(found)[:40]!r}, not {value!r}")
    said = envelope.get("resultsCount")
    if is_last and said is not None and said not in counts:
        raise EnvelopeError(f"the provider's answer to {path} has {max(counts)} results and says {str(said)[:40]}")


def parse_splits(items: Iterable[Any]) -> tuple[list[Split], list[RejectedBar]]:
    """Parse split records; those that cannot be right are rejected, like bars, with a reason.

    Returns
    -------
    splits : list of Split
        By execution date, then symbol.
    rejected : list of RejectedBar
    """
    splits, rejected = list[Split](), list[RejectedBar]()
    for item in items:
        try:
            splits.append(_split(item))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            symbol = item.get("ticker") if isinstance(item, dict) else None
            shown = symbol if isinstance(symbol, str) and SYMBOL.fullmatch(symbol) else json.dumps(symbol)
            lacks = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            rejected.append(RejectedBar(shown, None, f"a split that cannot be read: {lacks}"[:200], json.dumps(item)))
    return sorted(splits, key=lambda split: (split.execution_date, split.symbol)), rejected


def _split(item: Any) -> Split:
    if not isinstance(item, dict):
        raise TypeError("it is not an object")
    symbol, day = item["ticker"], item["execution_date"]
    if not isinstance(symbol, str) or not SYMBOL.fullmatch(symbol):
        raise ValueError("its ticker is not text of 1 to 10 ASCII characters")
    numbers = [item["split_from"], item["split_to"]]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise ValueError("its ratio is not two numbers")
    if not isinstance(day, str):
        raise TypeError("its execution date is not text")
    return Split(symbol, date.fromisoformat(day), *map(float, numbers))


def _refusal(status: int, envelope: Any, path: str) -> str:
    reason = _reason(envelope)
    known = {
        401: f"the provider refused the key in POLYGON_API_KEY (401, {reason})",
        403: f"the plan of this POLYGON_API_KEY does not include {path} (403, {reason})",
        404: f"the provider does not know {path} (404, {reason}); check POLYGON_BASE_URL",
        429: f"the provider's limit of calls per minute is used up, {ATTEMPTS} attempts in a row (429, {reason})",
    }
    return known.get(status, f"the provider failed on {path} ({status}, {reason})")


def _reason(envelope: Any) -> str:
    if not isinstance(envelope, dict):
        return "no explanation"
    said = envelope.get("error") or envelope.get("message") or "no explanation"
    return f"{envelope.get('status')}: {' '.join(str(said).split())[:200]}"
