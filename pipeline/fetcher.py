"""Fetch planned calls: batches of validated responses, one batch ahead, each worth one transaction.

A batch ends when it is large, old, or would have to wait for the plan's limit. So a bulk load commits tens of thousands
of rows at a time, and a slow one loses little.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd

from api_client import Bar, PolygonClient
from domain.calendar import count_sessions, session_dates, sessions_between
from domain.clock import Deadline
from domain.errors import EnvelopeError, OutOfPlanError, StockTrackerError, TimeUpError
from domain.models import EVERY_SYMBOL, ProgressFunction, RejectedBar, no_progress
from domain.planner import Call, GroupedCall, RangeCall
from domain.validation import MAX_MILLISECONDS, validate_bars

BATCH_ROWS = 50_000  # a few megabytes; with more, a transaction's own cost no longer shows
REJECTED_ROWS = 10  # whose memory a rejected bar takes
BATCH_SECONDS = 10.0  # the work that is lost if a run dies
PLAN_YEARS = (10, 5, 2)  # how far the provider's plans reach back
MARGIN = timedelta(days=7)  # for a plan whose first day is a little later
DAY = timedelta(days=1)


@dataclass
class Reach:
    """How far the provider's plan reaches back, as far as refusals have shown.

    Attributes
    ----------
    as_of, today : datetime.date
        The days from which a plan's years may count.
    first : datetime.date or None
        The plan's first day; None while nothing was refused.
    is_new : bool
        Whether this run has learned it.
    """

    as_of: date
    today: date
    first: date | None = None
    is_new: bool = False

    def narrow(self, refused: date) -> bool:
        """Assume the next shorter history after the refusal of a day; return whether there is one."""
        days = [
            _years_before(day, years) + margin
            for day in (self.as_of, self.today)
            for years in PLAN_YEARS
            for margin in (timedelta(), MARGIN)
            if years == PLAN_YEARS[-1] or not margin
        ]
        shorter = [day for day in sorted(days) if refused < day < self.as_of]
        if shorter:
            self.first, self.is_new = shorter[0], True
        return bool(shorter)

    def clip(self, call: Call) -> Call | None:
        """Return the part of a call that is within reach, if any."""
        if self.first is None or call.first >= self.first:
            return call
        if isinstance(call, GroupedCall) or call.last < self.first:
            return None
        return replace(call, first=self.first)


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # February 29
        return day.replace(year=day.year - years, day=28)


@dataclass(frozen=True)
class Response:
    """The validated answer to one call.

    Attributes
    ----------
    call : Call
    sessions : list of datetime.date
        Those that were asked for and are within the plan's reach.
    accepted : pandas.DataFrame
        As :func:`domain.validation.validate_bars` returns them.
    rejected : list of RejectedBar
    shown : frozenset of datetime.date
        The sessions of which there is a bar of any symbol, be it rejected or of no interest.
    error : EnvelopeError or None
        Why nothing in the answer counts.
    """

    call: Call
    sessions: list[date]
    accepted: pd.DataFrame
    rejected: list[RejectedBar]
    shown: frozenset[date] = frozenset()
    error: EnvelopeError | None = None


def fetch_batches(
    client: PolygonClient,
    calls: Sequence[Call],
    symbols: tuple[str, ...],
    *,
    reach: Reach,
    deadline: Deadline,
    progress: ProgressFunction,
) -> Generator[list[Response], None, None]:
    """Make the calls and yield their responses in order, as many at a time as are worth one transaction.

    While a batch is committed, the next one is fetched in a thread, and no more than that.

    Parameters
    ----------
    client : PolygonClient
    calls : sequence of Call
    symbols : tuple of str
        The symbols to keep of a grouped answer; ``("*",)`` keeps all.
    reach : Reach
        Narrowed when the plan refuses a call.
    deadline : Deadline
        A batch that would take longer than the time left, by the slowest one before it, is not begun.
    progress : callable
        Called before each response or batch is waited for, and every second while one is; never by the thread.

    Yields
    ------
    list of Response
        At least one.

    Raises
    ------
    ApiError, CredentialsError, TimeUpError
        After the responses before the failed call have been yielded.
    """
    fetcher, done = _Fetcher(client, tuple(calls), symbols, reach, deadline), 0
    batch: list[Response] = []
    fetching: Future[None] | None = None
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch")
    try:
        while done < len(calls):
            started = deadline.clock.monotonic()
            while fetching:
                progress(done, len(calls), str(calls[done]))
                if wait((fetching,), timeout=1.0).done:
                    break
            try:
                if fetching:
                    fetching.result()
                else:
                    fetcher.check_time()
                    fetcher.fill(batch, done, progress)
            except StockTrackerError:
                if batch:
                    yield batch
                raise
            done, following, fetching = done + len(batch), list[Response](), None
            if done < len(calls) and fetcher.is_in_time(since=started):
                fetching = executor.submit(fetcher.fill, following, done, no_progress)
            yield batch
            fetcher.slowest = max(fetcher.slowest, deadline.clock.monotonic() - started)
            batch = following
    finally:
        fetcher.stopped = True
        executor.shutdown(wait=False, cancel_futures=True)  # a failure does not wait for a response that nobody needs


@dataclass
class _Fetcher:
    """Fetches one batch after another, here or in a thread.

    Attributes
    ----------
    slowest : float
        The most seconds from the start, or the end of a commit, to the end of the next commit.
    stopped : bool
        Whether nobody needs another response.
    """

    client: PolygonClient
    calls: tuple[Call, ...]
    symbols: tuple[str, ...]
    reach: Reach
    deadline: Deadline
    slowest: float = 0.0
    stopped: bool = False

    def fill(self, batch: list[Response], first: int, progress: ProgressFunction) -> None:
        """Fill a batch with the responses to the calls from place `first` on."""
        started = self.deadline.clock.monotonic()
        for call, following in zip_longest(self.calls[first:], self.calls[first + 1 :]):
            if self.stopped:
                break
            progress(first + len(batch), len(self.calls), str(call))
            batch.append(_respond(self.client, call, self.symbols, self.reach))
            rows = sum(len(response.accepted) + REJECTED_ROWS * len(response.rejected) for response in batch)
            if following:  # what is stored between two sessions of a symbol is read with them
                rows += len(batch[-1].accepted) * _sessions_apart(call, following)
            apart = call.restates or (following is not None and following.restates)
            is_old = self.deadline.clock.monotonic() - started > BATCH_SECONDS
            if apart or rows >= BATCH_ROWS or is_old or not self.is_in_time(since=started):
                break

    def is_in_time(self, since: float) -> bool:
        """Whether the next call need not wait, and time is left for two batches like the slowest or that begun then.

        Only the first call of a batch waits for its turn in the plan's limit, and never in a thread.
        """
        taken = self.deadline.clock.monotonic() - since
        return self.client.is_ready and self.deadline.remaining > 2 * max(self.slowest, taken)

    def check_time(self) -> None:
        """Raise :class:`TimeUpError` if the time left does not hold another batch."""
        if self.deadline.remaining < self.slowest:
            needs = f"the next calls need up to {self.slowest:.0f} s" if self.slowest else "no time is left"
            raise TimeUpError(needs)


def _sessions_apart(call: Call, following: Call) -> int:
    first, second = sorted((call, following), key=lambda each: each.first)
    return count_sessions(first.last + DAY, second.first - DAY)


def _respond(client: PolygonClient, call: Call, symbols: tuple[str, ...], reach: Reach) -> Response:
    while True:
        asked = reach.clip(call)
        if asked is None:
            return Response(call, [], *validate_bars([], []))
        try:
            return _ask(client, call, asked, symbols)
        except OutOfPlanError:
            if not reach.narrow(asked.first):
                raise


def _ask(client: PolygonClient, call: Call, asked: Call, symbols: tuple[str, ...]) -> Response:
    sessions = sessions_between(asked.first, asked.last)
    try:
        if isinstance(asked, RangeCall):
            bars = client.range_bars(asked.symbol, asked.first, asked.last)
            accepted, rejected = validate_bars(bars, sessions, symbol=asked.symbol)
        else:
            bars = client.grouped_bars(asked.session, by_column=symbols == (EVERY_SYMBOL,))
            accepted, rejected = validate_bars(_of_symbols(bars, symbols), sessions)
    except EnvelopeError as error:
        kept = error.with_traceback(None)  # which would keep the whole answer in memory
        return Response(call, [], *validate_bars([], []), error=kept)
    shown = set(np.unique(accepted["date"].to_numpy().astype("datetime64[D]")).tolist())
    if isinstance(asked, RangeCall) or not shown:
        shown = _sessions_of(bars) & set(sessions)
    return Response(call, sessions, accepted, rejected, frozenset(shown))


def _sessions_of(bars: Sequence[Any]) -> set[date]:
    """Return the sessions of all timestamps that can be one, also those of rejected and unwanted bars."""
    stamps = [bar.get("t") for bar in bars if isinstance(bar, dict)]
    numbers = {t for t in stamps if isinstance(t, int | float) and not isinstance(t, bool)}
    valid = [int(t) for t in numbers if 0 <= t <= MAX_MILLISECONDS]
    return set(np.unique(session_dates(valid)).tolist()) if valid else set()


def _of_symbols(bars: Sequence[Bar], symbols: tuple[str, ...]) -> Sequence[Bar]:
    """Keep the bars of wanted symbols, and those of no symbol at all, which validation rejects."""
    if symbols == (EVERY_SYMBOL,):
        return bars
    wanted = set(symbols)
    return [
        bar
        for bar in bars
        if not isinstance(bar, dict) or not isinstance(symbol := bar.get("T"), str) or symbol in wanted
    ]
