"""Polygon (named Massive since 2025): daily bars and splits over HTTP, paced, retried, paged and with typed errors.

Bars are returned as the provider sent them (``o h l c v t``, and ``T`` in grouped answers). The key is sent in the
``Authorization`` header only, no call lasts past the invocation's deadline, and no answer is larger than its limit.
"""

from __future__ import annotations

import json
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import requests
from requests.auth import AuthBase

from domain.clock import Clock, Deadline
from domain.columns import BarColumns, read_columns
from domain.errors import ApiError, CredentialsError, EnvelopeError, OutOfPlanError, StockTrackerError, TimeUpError
from domain.models import RejectedBar, Split
from domain.text import Redactor, clean_text
from domain.validation import MAX_REJECTED, SYMBOL, as_json
from network.http import BoundedSession, NoAnswerError, TooLargeError

logger = logging.getLogger(f"stock_tracker.{__name__}")

PAGE_LIMIT = 50_000  # bars per page, the provider's maximum
SPLITS_PAGE_LIMIT = 5_000  # and for splits
MAX_PAGES = 1_000  # none of the questions asked here needs more than a few
ATTEMPT_SECONDS = 60.0  # from connecting to the last byte; less if the deadline is nearer
ATTEMPTS = 5
# Decompressed. A grouped session of the whole market is 1.3 MB. Parsed, bars take seven times as much, and small values
# twenty times: a function of 256 MB has no room for more.
LARGEST_PAGE, LARGEST_ANSWER = 8_000_000, 16_000_000  # bytes of one page, and of all pages together
MOST_BARS, MOST_SPLITS = 25_000, 50_000  # of one answer: twice the whole market, and all splits of 25 years
MOST_VALUES = 10 * MOST_BARS  # of one page
SPARE_BARS = 100  # that an answer may have beside one per day, such as repeated ones
BACKOFF_BASE, BACKOFF_MAX = 0.5, 20.0  # seconds
LONGEST_PAUSE = 120.0  # seconds of Retry-After that are believed
RETRIED_STATUSES = (413, 429, 499, 500, 502, 503, 504)  # those that the provider's own client retries
USABLE_STATUSES = ("OK", "DELAYED")
MINUTE = 60.0
PROVIDER_HOSTS = ("api.massive.com", "api.polygon.io")  # both are the provider's
REFUSALS: dict[int, type[StockTrackerError]] = {401: CredentialsError, 403: OutOfPlanError}

Bar = dict[str, Any]
Parse = Callable[[bytes], Any]  # returns None for what is not JSON

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
        No wait and no answer reaches past it; without one, each attempt takes 60 seconds at most.

    Attributes
    ----------
    calls : int
        Answers received so far, pages and splits included.
    provider_time : datetime.datetime or None
        The provider's clock as its last answer gave it, to the second.
    """

    def __init__(self, *, base_url: str, api_key: str, calls_per_minute: int, deadline: Deadline) -> None:
        self.calls = 0
        self.provider_time: datetime | None = None
        self._base_url = base_url
        self._host = urlsplit(base_url).netloc.rpartition("@")[2]
        self._mask = Redactor([api_key])
        self._deadline = deadline
        plan = (base_url, api_key, calls_per_minute, deadline.clock)
        self._limiter = RateLimiter(_SPENT.setdefault(plan, deque(maxlen=calls_per_minute)), deadline)
        self._session = BoundedSession()
        self._session.auth = _BearerAuth(api_key)

    def range_bars(self, symbol: str, first: date, last: date) -> Sequence[Bar]:
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
            If the answer, or a wait before it, would reach past the deadline.
        """
        path = f"/v2/aggs/ticker/{quote(symbol, safe='')}/range/1/day/{first}/{last}"
        query = {"adjusted": "true", "sort": "asc", "limit": str(PAGE_LIMIT)}
        most = min((last - first).days + 1 + SPARE_BARS, MOST_BARS)
        return self._pages(path, query, {"ticker": symbol, "adjusted": True}, most, _parse)

    def grouped_bars(self, session: date, *, by_column: bool = False) -> Sequence[Bar]:
        """Fetch the daily bar of every symbol that traded in a session, adjusted for splits.

        Where they are read by column, they are :class:`domain.columns.BarColumns`, unless the answer is irregular.
        Raises as :meth:`range_bars`.
        """
        path = f"/v2/aggs/grouped/locale/us/market/stocks/{session}"
        query = {"adjusted": "true", "include_otc": "false"}
        parse = _parse_by_column if by_column else _parse
        return self._pages(path, query, {"adjusted": True}, MOST_BARS, parse)

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
        items = self._pages("/stocks/v1/splits", {**query, "limit": str(SPLITS_PAGE_LIMIT)}, {}, MOST_SPLITS, _parse)
        return parse_splits(items)

    @property
    def is_ready(self) -> bool:
        """Whether the plan's limit allows a call at once."""
        return self._limiter.is_ready

    def _pages(
        self,
        path: str,
        query: dict[str, str],
        expected: Mapping[str, object],
        most: int,
        parse: Parse,
    ) -> Sequence[Any]:
        """Fetch all pages of an answer; ask once more if they contradict the question or themselves.

        Parameters
        ----------
        path : str
        query : dict of str to str
        expected : mapping of str to object
            Fields of the envelope that repeat the question.
        most : int
            How many results the question can have.
        parse : callable
            Parses a page.
        """
        with suppress(EnvelopeError):  # outside, the error would keep the first answer in memory
            return self._pages_once(path, query, expected, most, parse)
        return self._pages_once(path, query, expected, most, parse)

    def _pages_once(
        self, path: str, query: dict[str, str], expected: Mapping[str, object], most: int, parse: Parse
    ) -> Sequence[Any]:
        url, pages, size = self._base_url + path, 0, 0
        results: Sequence[Any] = []
        next_query: dict[str, str] | None = query
        while url:
            envelope, page_size = self._get(url, next_query, path, parse)
            page = [] if envelope.get("results") is None else envelope["results"]
            if not isinstance(page, list | BarColumns):
                raise EnvelopeError(f"the provider's answer to {path} has results that are not a list")
            results = [*results, *page] if results else page
            if len(results) > most:
                raise EnvelopeError(f"the provider's answer to {path} has {len(results):,} results, more than {most:,}")
            pages, size = pages + 1, size + page_size
            url, next_query = self._next(envelope.get("next_url"), path), None
            self._check_envelope(envelope, expected, path, counts=(len(page), len(results)), is_last=not url)
            if url and pages == MAX_PAGES:
                raise ApiError(f"the provider's answer to {path} does not end after {MAX_PAGES} pages")
            if size > LARGEST_ANSWER:
                raise ApiError(f"the provider's answer to {path} is larger than {LARGEST_ANSWER:,} bytes in all")
        return results

    def _next(self, url: Any, path: str) -> str:
        """Return the address of the next page: its path and query, on the host that was asked."""
        if not url:
            return ""
        try:
            parts = urlsplit(url if isinstance(url, str) else "")
        except ValueError:
            parts = urlsplit("")
        if parts.netloc not in (urlsplit(self._base_url).netloc, *PROVIDER_HOSTS):
            host = clean_text(parts.netloc or url, 80, self._mask)
            raise ApiError(f"the provider's answer to {path} goes on at another host: {host}")
        return f"{self._base_url}{parts.path}?{parts.query}"

    def _get(self, url: str, query: dict[str, str] | None, path: str, parse: Parse) -> tuple[dict[str, Any], int]:
        """Fetch a page, asking again after a failure that may pass; return it parsed, and its size in bytes."""
        for attempt in range(ATTEMPTS):
            self._limiter.take()
            try:
                return self._attempt(url, query, path, parse)
            except _TransientError as error:
                failure = error
            if attempt < ATTEMPTS - 1:
                self._pause(failure, attempt, path)
        raise failure.refusal

    def _attempt(self, url: str, query: dict[str, str] | None, path: str, parse: Parse) -> tuple[dict[str, Any], int]:
        seconds = min(ATTEMPT_SECONDS, self._deadline.remaining)
        if seconds <= 0:
            raise TimeUpError(f"no time is left to ask the provider for {path}")
        started = time.monotonic()
        try:
            response, body = self._session.read(url, query, seconds, LARGEST_PAGE)
        except ssl.SSLCertVerificationError as error:
            said = clean_text(error.verify_message)
            raise ApiError(f"the provider at {self._host} has a certificate that is not valid: {said}") from None
        except NoAnswerError as error:
            refusal = f"the provider at {self._host} did not answer {path} after {ATTEMPTS} attempts: {error}"
            raise _TransientError(str(error), ApiError(refusal)) from None
        except TooLargeError:
            raise ApiError(f"the provider's answer to {path} is larger than {LARGEST_PAGE:,} bytes") from None
        if body.count(b"{") + body.count(b"[") > 2 * MOST_BARS or body.count(b",") > MOST_VALUES:
            raise EnvelopeError(f"the provider's answer to {path} has more values than {MOST_BARS:,} results")
        status = response.status_code
        self.provider_time = _header_date(response.headers.get("Date"))
        logger.debug("%d in %.3f s: %s", status, time.monotonic() - started, path)
        envelope = parse(body)
        refusal = _refusal(status, self._reason(envelope), path)
        if status in RETRIED_STATUSES:
            pause = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
            if pause is None and status == requests.codes.too_many_requests:
                pause = MINUTE / (ATTEMPTS - 1)  # all attempts together reach into the plan's next minute
            raise _TransientError(f"HTTP {status}", ApiError(refusal), pause)
        if status == requests.codes.ok and envelope is None and body.lstrip()[:1] in (b"", b"{"):
            refusal = f"the provider's answer to {path} breaks off, {ATTEMPTS} attempts in a row"
            raise _TransientError("the answer breaks off", ApiError(refusal))
        self.calls += 1
        if status != requests.codes.ok:
            raise REFUSALS.get(status, ApiError)(refusal)
        if not isinstance(envelope, dict):
            said = clean_text(body, 80, self._mask)
            raise ApiError(f"the provider's answer to {path} is not a JSON object: {said!r}")
        if envelope.get("status") not in USABLE_STATUSES:
            raise ApiError(f"the provider answered {path} with {self._reason(envelope)}")
        return envelope, len(body)

    def _pause(self, failure: _TransientError, attempt: int, path: str) -> None:
        """Wait before the next attempt, on the deadline's clock."""
        wait = failure.pause
        if wait is None:
            # Full jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter
            ceiling = min(BACKOFF_MAX, BACKOFF_BASE * 2.0 ** (attempt + 1))
            wait = random.uniform(BACKOFF_BASE / 10, ceiling)  # noqa: S311 - spreads load, hides nothing
        if self._deadline.remaining < BACKOFF_BASE:
            raise TimeUpError(f"the provider at {self._host} did not answer {path} in the time left: {failure}")
        self._deadline.sleep(wait, f"{failure}; asking the provider again")

    def _reason(self, envelope: Any) -> str:
        if not isinstance(envelope, dict):
            return "no explanation"
        status = clean_text(envelope.get("status"), 40, self._mask) or "no status"
        said = clean_text(envelope.get("error") or envelope.get("message"), mask=self._mask)
        return f"{status}: {said or 'no explanation'}"

    def _check_envelope(
        self,
        envelope: Mapping[str, Any],
        expected: Mapping[str, object],
        path: str,
        *,
        counts: tuple[int, int],
        is_last: bool,
    ) -> None:
        """Compare a page with the question and with what it says of itself; an absent field is no contradiction.

        Raises
        ------
        EnvelopeError
            If a field is not as expected, or the last page does not have as many results as it says.
        """
        for name, value in expected.items():
            if (found := envelope.get(name)) not in (None, value):
                shown = clean_text(found, 40, self._mask)
                raise EnvelopeError(f"the provider's answer to {path} has {name} {shown!r}, not {value!r}")
        said = envelope.get("resultsCount")
        if is_last and said is not None and said not in counts:
            shown = clean_text(said, 40, self._mask)
            raise EnvelopeError(
                f"the provider's answer to {path} has {max(counts)} results and says {shown or 'no number'}"
            )


class _TransientError(Exception):
    """An attempt failed, and another may not.

    Parameters
    ----------
    reason : str
    refusal : ApiError
        What to raise after the last attempt.
    pause : float, optional
        Seconds to wait before the next attempt; default by the usual backoff.
    """

    def __init__(self, reason: str, refusal: ApiError, pause: float | None = None) -> None:
        super().__init__(reason)
        self.refusal, self.pause = refusal, pause


def _parse(body: bytes) -> Any:
    """Parse an answer; None if it is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # a number beyond float64: json reads it, and validation rejects that bar
        with suppress(ValueError, RecursionError):
            return json.loads(body)
    return None


def _parse_by_column(body: bytes) -> Any:
    return read_columns(body) or _parse(body)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, from 0 to 120; None if it is neither number nor date.

    Parameters
    ----------
    header : str or None
    now : datetime.datetime
        With a time zone.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_PAUSE)
    moment = _header_date(text)
    return None if moment is None else min(max((moment - now).total_seconds(), 0.0), LONGEST_PAUSE)


def _header_date(header: str | None) -> datetime | None:
    """Return the moment that a header names, with a time zone; None if it is no date."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def parse_splits(items: Iterable[Any]) -> tuple[list[Split], list[RejectedBar]]:
    """Parse split records; those that cannot be right are rejected, like bars, with a reason.

    Returns
    -------
    splits : list of Split
        By execution date, then symbol.
    rejected : list of RejectedBar

    Raises
    ------
    EnvelopeError
        If more are rejected than :data:`domain.validation.MAX_REJECTED`.
    """
    splits, rejected = list[Split](), list[RejectedBar]()
    for item in items:
        try:
            splits.append(_split(item))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            symbol = item.get("ticker") if isinstance(item, dict) else None
            shown = symbol if isinstance(symbol, str) and SYMBOL.fullmatch(symbol) else as_json(symbol)
            lacks = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            rejected.append(RejectedBar(shown, None, f"a split that cannot be read: {lacks}", as_json(item)))
        if len(rejected) > MAX_REJECTED:
            raise EnvelopeError(f"the provider lists more than {MAX_REJECTED:,} splits that cannot be read")
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
    try:
        executed = date.fromisoformat(day)
    except ValueError:
        raise ValueError("its execution date is not an ISO date") from None
    return Split(symbol, executed, *map(float, numbers))


def _refusal(status: int, reason: str, path: str) -> str:
    known = {
        401: f"the provider refused the key in POLYGON_API_KEY (401, {reason})",
        403: f"the plan of this POLYGON_API_KEY does not include {path} (403, {reason})",
        404: f"the provider does not know {path} (404, {reason}); check POLYGON_BASE_URL",
        429: f"the provider's limit of calls per minute is used up, {ATTEMPTS} attempts in a row (429, {reason})",
    }
    return known.get(status, f"the provider failed on {path} ({status}, {reason})")
