"""Polygon (named Massive since 2025): daily bars and splits over HTTP, paced, retried, paged and with typed errors.

What comes in: symbols and sessions. What goes out: bars exactly as the provider sent them (``o h l c v t``, and ``T``
for grouped ones), and splits. The key travels in the ``Authorization`` header only. This module never judges a bar,
never computes on one, and never waits past the invocation's deadline.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections import deque
from collections.abc import Sequence
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

from domain.clock import Deadline
from domain.errors import ApiError, CredentialsError
from domain.models import Split

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

Bar = dict[str, Any]


class RateLimiter:
    """A bucket of `calls_per_minute` tokens, each of which comes back one minute after it was spent.

    So a run starts with a burst, and no 60 seconds ever hold more calls than the plan allows.

    Parameters
    ----------
    calls_per_minute : int
        0 is unlimited.
    deadline : Deadline
        Waits, or refuses to.
    """

    def __init__(self, calls_per_minute: int, deadline: Deadline) -> None:
        self._deadline = deadline
        self._spent: deque[float] = deque(maxlen=calls_per_minute)

    @property
    def is_ready(self) -> bool:
        """Whether a token is there to be spent."""
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
            self._deadline.sleep(wait, f"the plan's limit of {self._spent.maxlen} calls a minute")
        self._spent.append(self._deadline.clock.monotonic())


class _Retry(Retry):
    """urllib3's retries, which here wait on the invocation's clock, jitter fully, and count as calls."""

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
            except InvalidHeader:  # not a number of seconds, not a date: back off as without it
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
    """The provider, for one run.

    Parameters
    ----------
    base_url : str
        Such as ``https://api.massive.com``.
    api_key : str
    calls_per_minute : int
        The plan's limit; 0 is unlimited.
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
        self._limiter = RateLimiter(calls_per_minute, deadline)
        retry = _Retry(
            total=ATTEMPTS - 1, allowed_methods=["GET"], status_forcelist=RETRIED_STATUSES, raise_on_status=False
        )
        retry.deadline, retry.limiter = deadline, self._limiter
        self._session = requests.Session()
        self._session.auth = _BearerAuth(api_key)
        self._session.mount(base_url, HTTPAdapter(max_retries=retry))

    def range_bars(self, symbol: str, first: date, last: date, *, adjusted: bool = True) -> list[Bar]:
        """Daily bars of one symbol, oldest first; adjusted for splits, or as they were traded.

        Returns
        -------
        list of dict
            Bars as received; empty for an unknown symbol or a range without trades.

        Raises
        ------
        ApiError
            If the provider refuses, fails, or answers something unusable.
        CredentialsError
            If it refuses the key.
        TimeUpError
            If waiting for the plan's limit or for a retry would reach past the deadline.
        """
        path = f"/v2/aggs/ticker/{quote(symbol, safe='')}/range/1/day/{first}/{last}"
        query = {"adjusted": "true" if adjusted else "false", "sort": "asc", "limit": str(PAGE_LIMIT)}
        return self._pages(path, query)

    def grouped_bars(self, session: date) -> list[Bar]:
        """The daily bar of every symbol that traded in a session, adjusted for splits; raises as :meth:`range_bars`."""
        path = f"/v2/aggs/grouped/locale/us/market/stocks/{session}"
        return self._pages(path, {"adjusted": "true", "include_otc": "false"})

    def splits(self, since: date, until: date, symbols: Sequence[str] = ()) -> list[Split]:
        """Splits executed from `since` to `until`, both included, oldest first; of all symbols unless some are named.

        Raises as :meth:`range_bars`.
        """
        query = {"execution_date.gte": str(since), "execution_date.lte": str(until), "sort": "execution_date.asc"}
        if symbols:
            query["ticker.any_of"] = ",".join(symbols)
        items = self._pages("/stocks/v1/splits", {**query, "limit": str(SPLITS_PAGE_LIMIT)})
        return sorted(map(_split, items), key=lambda split: (split.execution_date, split.symbol))

    @property
    def is_ready(self) -> bool:
        """Whether the plan's limit allows a call at once."""
        return self._limiter.is_ready

    def _pages(self, path: str, query: dict[str, str]) -> list[Any]:
        url, results, pages = self._base_url + path, list[Any](), 0
        next_query: dict[str, str] | None = query
        while url:
            envelope = self._get(url, next_query, path)
            page = [] if envelope.get("results") is None else envelope["results"]
            if not isinstance(page, list):
                raise ApiError(f"the provider's answer to {path} has results that are not a list")
            results = results + page if results else page
            pages += 1
            url, next_query = self._next(envelope.get("next_url"), path), None
            if url and pages == MAX_PAGES:
                raise ApiError(f"the provider's answer to {path} does not end after {MAX_PAGES} pages")
        return results

    def _next(self, url: Any, path: str) -> str:
        if not url:
            return ""
        # The key goes to the provider only, whatever an answer says.
        try:
            host = urlsplit(str(url))[:2]
        except ValueError:
            host = ("", str(url)[:80])
        if host != urlsplit(self._base_url)[:2]:
            raise ApiError(f"the provider's answer to {path} goes on at another host: {host[1]}")
        return str(url)

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
        except (
            orjson.JSONDecodeError
        ):  # perhaps for one number beyond a double's range, which is for the validate_bars to say
            with suppress(ValueError, RecursionError):
                envelope = json.loads(response.content)
        if response.status_code != requests.codes.ok:
            kind = CredentialsError if response.status_code == requests.codes.unauthorized else ApiError
            raise kind(_refusal(response.status_code, envelope, path))
        if not isinstance(envelope, dict):
            raise ApiError(f"the provider's answer to {path} is not a JSON object: {response.text[:80]!r}")
        if envelope.get("status") not in USABLE_STATUSES:
            raise ApiError(f"the provider answered {path} with {_reason(envelope)}")
        return envelope


def _split(item: Any) -> Split:
    try:
        split = Split(
            execution_date=date.fromisoformat(item["execution_date"]),
            symbol=item["ticker"],
            split_from=float(item["split_from"]),
            split_to=float(item["split_to"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ApiError(f"the provider sent a split that cannot be read: {error!r}") from None
    if not isinstance(split.symbol, str):
        raise ApiError(f"the provider sent a split that cannot be: {str(item)[:120]}")
    return split


def _refusal(status: int, envelope: Any, path: str) -> str:
    reason = _reason(envelope)
    known = {
        401: f"the provider refused the key in POLYGON_API_KEY (401, {reason})",
        403: f"the plan of this POLYGON_API_KEY does not include {path} (403, {reason})",
        404: f"the provider does not know {path} (404, {reason}); check POLYGON_BASE_URL",
        429: f"the provider's limit of calls a minute is used up, {ATTEMPTS} attempts in a row (429, {reason})",
    }
    return known.get(status, f"the provider failed on {path} ({status}, {reason})")


def _reason(envelope: Any) -> str:
    if not isinstance(envelope, dict):
        return "no explanation"
    said = envelope.get("error") or envelope.get("message") or "no explanation"
    return f"{envelope.get('status')}: {' '.join(str(said).split())[:200]}"
