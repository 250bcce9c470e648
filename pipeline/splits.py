"""Splits: look for new ones, and restate the stored history of a symbol that split.

The provider restates all history by a split overnight before its execution date, so bars fetched before and after it
have different scales. What comes in: a run, its client, the wanted sessions. What goes out: calls that refetch the
stored range of each symbol that split, and the transaction that replaces it. A symbol waits as pending from the moment
its split is known until that transaction, and no other bar of it is stored meanwhile, so that two scales never meet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
from sqlalchemy import Connection

import database
import utils
from api_client import PolygonClient
from domain.calendar import today
from domain.models import EVERY_SYMBOL, RejectedBar, Split
from domain.planner import RangeCall
from domain.validation import validate_bars
from pipeline.run import Run
from storage.engine import transaction

LISTED_LATE = timedelta(days=14)
LACKING_SHARE = 0.05  # of the stored sessions may be absent from restated history before it is doubted
NAMED_SYMBOLS = 100  # up to here the question names the symbols; beyond, it asks for all


def look_for_splits(run: Run, client: PolygonClient, *, alone: bool) -> None:
    """Ask once for the splits of all symbols since the last look, and record them.

    A split of a symbol with stored rows is pending until they are restated; any other needs nothing, unless a run
    beside this one may be about to store its first rows. The splits and the day up to which they are known commit
    together. The first run of all has nothing to restate and asks nothing.

    Parameters
    ----------
    run : Run
    client : PolygonClient
    alone : bool
        Whether no other run loads meanwhile.

    Raises
    ------
    ApiError, TimeUpError
        As :meth:`PolygonClient.splits`.
    """
    as_of = run.request.as_of
    with transaction(run.context.engine, write=False) as connection:
        known = utils.read_splits_until(connection)
        # A split may be listed late. An adopted table is of unknown scale from its first row on.
        since = known - LISTED_LATE if known else utils.read_first_session(connection)
        tracked = utils.read_covered_symbols(connection, NAMED_SYMBOLS + 1)
    found: list[Split] = []
    if since:
        named = sorted({*tracked, *run.request.symbols})
        if len(named) > NAMED_SYMBOLS or EVERY_SYMBOL in named:
            named = []
        # Bars are as of the provider's today, whatever date stands for ours.
        found = client.splits(since, max(as_of, today(run.context.now())), named)
        run.api_calls = client.calls
    with transaction(run.context.engine) as connection:
        symbols = sorted({split.symbol for split in found})
        pending = utils.read_spans(connection, symbols).keys() if alone else symbols
        database.record_splits(connection, found, pending=pending, now=run.context.now())
        run.save(connection, splits_until=max(known or as_of, as_of))


def plan_restatements(run: Run, connection: Connection, wanted: Sequence[date]) -> list[RangeCall]:
    """One call for each wanted symbol whose split is pending, over all that is stored or fetched of it or wanted.

    A session fetched for the whole market counts: no bar of the symbol was taken from it while the split was pending.

    Parameters
    ----------
    run : Run
    connection : sqlalchemy.Connection
    wanted : sequence of datetime.date
        Ascending.

    Returns
    -------
    list of RangeCall
        By symbol.
    """
    pending = utils.read_pending_splits(connection)
    symbols = sorted({split.symbol for split in pending})
    if EVERY_SYMBOL not in run.request.symbols:
        symbols = [symbol for symbol in symbols if symbol in run.request.symbols]
    spans, fetched = utils.read_spans(connection, symbols), utils.read_coverage(connection, symbols)
    calls = []
    for symbol in symbols:
        ranges = [*fetched.get(symbol, []), *fetched.get(EVERY_SYMBOL, [])]
        days = [*wanted, *spans.get(symbol, ()), *(day for part in ranges for day in part)]
        if days:
            calls.append(RangeCall(symbol, min(days), max(days), restates=True))
    return calls


def is_restated(run: Run, client: PolygonClient, call: RangeCall, bars: pd.DataFrame) -> bool:
    """Whether the answer to a restatement has the scale of all the symbol's pending splits.

    After the last execution date it has. On that day the provider may be late; the closes tell, against those stored,
    or where these are the same (they may have been fetched after the provider was done) against one bar as traded.

    Parameters
    ----------
    run : Run
    client : PolygonClient
    call : RangeCall
        The restatement.
    bars : pandas.DataFrame
        The clean bars of its answer.

    Returns
    -------
    bool
        If not, the split stays pending, and what is stored stays as it is.
    """
    if not call.restates:
        return False
    with transaction(run.context.engine, write=False) as connection:
        pending = [split for split in utils.read_pending_splits(connection) if split.symbol == call.symbol]
        spans = utils.read_spans(connection, [call.symbol])
        stored = utils.read_history(connection, [call.symbol], *spans.get(call.symbol, (call.first, call.last)))
    if not pending:  # another run restated it
        return False
    named = ", ".join(str(split) for split in pending)
    if bars.empty and not stored.empty:
        run.warnings.append(f"{named}: the provider has no history of it now; the next run asks again")
        return False
    lacking = int((~stored["date"].isin(bars["date"])).sum())
    if lacking > max(3, LACKING_SHARE * len(stored)):
        run.warnings.append(
            f"{named}: the provider's history lacks {lacking} of {len(stored)} stored sessions; kept as it is,"
            " and the next run asks again"
        )
        return False
    before = bars[bars["date"] < pd.Timestamp(pending[0].execution_date)]
    if before.empty or run.request.as_of > pending[-1].execution_date:
        return True
    both = stored.merge(before, on="date", suffixes=("_stored", "_new"))
    if _closes_match_splits(both["close_stored"] / both["close_new"], pending):
        return True
    session = before["date"].iloc[-1].date()
    traded = client.range_bars(call.symbol, session, session, adjusted=False)
    run.api_calls = client.calls
    raw, _ = validate_bars(traded, [session], symbol=call.symbol)
    if _closes_match_splits(raw["close"] / before["close"].iloc[-1], pending):
        return True
    run.warnings.append(f"{named}: the provider has not restated its history yet; the next run asks again")
    return False


def _closes_match_splits(ratios: pd.Series[float], pending: Sequence[Split]) -> bool:
    """Whether old closes are to new ones as the splits say, rather than the same."""
    ratios = ratios[ratios > 0]  # an adopted row may have no close, or one of 0
    if ratios.empty:
        return False
    seen = float(np.median(np.log(ratios)))
    expected = sum(math.log(split.split_to / split.split_from) for split in pending)
    return abs(seen - expected) < abs(seen)


def quarantine_unrestated(run: Run, connection: Connection, symbol: str, bars: pd.DataFrame) -> int:
    """Clear the way for a symbol's restated history, inside the transaction that stores it.

    Rows that the restated history lacks have the old scale and cannot stay beside the new one: they move to
    ``rejected_bars``.

    Parameters
    ----------
    run : Run
    connection : sqlalchemy.Connection
    symbol : str
    bars : pandas.DataFrame
        The clean bars of the restatement's answer.

    Returns
    -------
    int
        How many rows were moved.
    """
    pending = [split for split in utils.read_pending_splits(connection) if split.symbol == symbol]
    named = ", ".join(str(split) for split in pending)
    spans = utils.read_spans(connection, [symbol])
    stored = utils.read_history(connection, [symbol], *spans[symbol]) if spans else utils.no_history()
    absent = stored[~stored["date"].isin(bars["date"])]
    reason = f"it was stored before the split {named}, and the restated history does not have it"
    moved = [
        RejectedBar(symbol, row["date"].date(), reason, pd.Series(row).to_json(date_format="iso"))
        for row in absent.to_dict("records")
    ]
    if moved:
        database.record_rejected(connection, run.run_id, moved)
        run.warnings.append(f"{named}: {len(moved)} stored bars moved to rejected_bars: {reason}")
        database.delete_bars(connection, symbol, [bar.date for bar in moved if bar.date])
    database.mark_restated(connection, symbol, run.context.now())
    run.splits.append(f"{named}: history restated")
    return len(moved)
