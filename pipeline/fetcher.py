"""Calls to batches of judged answers: what is fetched, one answer ahead, and how much of it is worth one transaction.

What comes in: planned calls and the client that makes them. What goes out: batches of answers, each a frame of accepted
bars and the rejected ones, so that the provider's own objects are gone before the next answer comes. A batch ends when
it is large, old, or would have to wait for the plan's limit; so a bulk load commits tens of thousands of rows at a
time, and a slow one loses little. This module never touches the database.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest

import pandas as pd

from api_client import Bar, PolygonClient
from domain.calendar import sessions_between
from domain.clock import Deadline
from domain.errors import StockTrackerError, TimeUpError
from domain.models import EVERY_SYMBOL, ProgressFunction, RejectedBar
from domain.planner import DAY, Call, GroupedCall
from domain.validation import validate_bars

BATCH_ROWS = 50_000  # a few megabytes, and beyond it a transaction's own cost no longer shows
BATCH_SECONDS = 10.0  # the work that is lost if a run dies


@dataclass(frozen=True)
class Response:
    """What one call brought.

    Attributes
    ----------
    call : Call
    sessions : list of datetime.date
        Those that were asked for.
    accepted : pandas.DataFrame
        As :func:`domain.validation.judge` returns them.
    rejected : list of RejectedBar
    is_empty : bool
        Whether the provider sent no bar at all, of any symbol.
    """

    call: Call
    sessions: list[date]
    accepted: pd.DataFrame
    rejected: list[RejectedBar]
    is_empty: bool

    def holds(self, session: date) -> bool:
        """Whether a bar of this session is among the accepted ones."""
        return bool((self.accepted["date"] == pd.Timestamp(session)).any())


def fetch_batches(
    client: PolygonClient,
    calls: Sequence[Call],
    symbols: tuple[str, ...],
    *,
    deadline: Deadline,
    progress: ProgressFunction,
) -> Generator[list[Response], None, None]:
    """Make the calls, and give their answers in turn, as many at a time as are worth one transaction.

    While an answer is being taken in, the one after it is being fetched, and no more than that.

    Parameters
    ----------
    client : PolygonClient
    calls : sequence of Call
    symbols : tuple of str
        What is kept of a grouped answer; ``("*",)`` keeps all.
    deadline : Deadline
        A batch that would not fit into the time left, judged by the slowest one before it, is not begun.
    progress : callable
        Told of each call before its answer is waited for.

    Yields
    ------
    list of Response
        At least one.

    Raises
    ------
    ApiError, TimeUpError
        Once all answers that came before have been given out.
    """
    clock, slowest = deadline.clock, 0.0
    batch: list[Response] = []
    waiting: Future[Response] | None = None
    ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch")
    try:
        started = clock.monotonic()
        for done, (call, following) in enumerate(zip_longest(calls, calls[1:])):
            progress(done, len(calls), str(call))
            try:
                if not batch and not waiting and deadline.remaining < slowest:
                    raise TimeUpError(f"the next calls need up to {slowest:.0f} s" if slowest else "no time is left")
                batch.append(waiting.result() if waiting else _respond(client, call, symbols))
            except StockTrackerError:
                if batch:
                    yield batch
                raise
            taken = clock.monotonic() - started
            # Two more batches must fit for an answer to be fetched ahead. Nor does it wait there for the plan's limit:
            # that is left to this thread, which an interrupt reaches. A restatement may ask again while it is
            # committed, so nothing is fetched beside it.
            in_time = client.is_ready and deadline.remaining > 2 * max(slowest, taken)
            alone = following is None or call.restates
            waiting = None if alone or not in_time else ahead.submit(_respond, client, following, symbols)
            rows = sum(len(answer.accepted) for answer in batch)
            if following:  # what is stored between two sessions of a symbol is read with them
                rows += len(batch[-1].accepted) * len(sessions_between(call.last + DAY, following.first - DAY))
            if alone or not in_time or following.restates or rows >= BATCH_ROWS or taken > BATCH_SECONDS:
                yield batch
                slowest = max(slowest, clock.monotonic() - started)
                batch, started = [], clock.monotonic()
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)  # a failure does not wait for an answer that nobody takes


def _respond(client: PolygonClient, call: Call, symbols: tuple[str, ...]) -> Response:
    sessions = sessions_between(call.first, call.last)
    if isinstance(call, GroupedCall):
        bars = client.grouped_bars(call.session)
        accepted, rejected = validate_bars(_of_symbols(bars, symbols), sessions)
    else:
        bars = client.range_bars(call.symbol, call.first, call.last)
        accepted, rejected = validate_bars(bars, sessions, symbol=call.symbol)
    return Response(call, sessions, accepted, rejected, is_empty=not bars)


def _of_symbols(bars: list[Bar], symbols: tuple[str, ...]) -> list[Bar]:
    if symbols == (EVERY_SYMBOL,):
        return bars
    wanted = set(symbols)
    return [bar for bar in bars if not isinstance(bar, dict) or _may_be(bar.get("T"), wanted)]


def _may_be(symbol: object, wanted: set[str]) -> bool:
    """Whether it is a wanted symbol, or none at all, which is for the validate_bars to say."""
    return not isinstance(symbol, str) or symbol in wanted
