"""Splits and restatements: find splits, and replace the whole history of a symbol in one transaction.

The provider restates all earlier history of a symbol by a split, listed or not. Prices of two adjustment bases are
never mixed: an answer whose closes differ from the stored ones by a factor makes its symbol a suspect, and nothing of
it is stored until one range answer has replaced its history.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection

import database
import utils
from api_client import PolygonClient
from domain.calendar import today
from domain.models import EVERY_SYMBOL, PRICE_COLUMNS, Counts, RejectedBar, Split
from pipeline.plan import NAMED_SYMBOLS, KnownSplits
from pipeline.run import Run
from storage.engine import transaction
from transformations import clean

SAME = 0.001  # relative difference up to which two factors are the same
LARGE = 0.10  # relative change of a single close that is suspect
MIN_OVERLAP = 20  # sessions from which the factor of a restatement can be measured


def check_splits(run: Run, client: PolygonClient, known: KnownSplits, *, alone: bool) -> bool:
    """Ask once for the splits of all symbols since the last check, and record them.

    A split of a symbol with stored rows is pending until its history has been read again; any other needs nothing,
    unless a run beside this one may be about to store its first rows. The splits and the watermark commit together; if
    there are none, the next commit takes the watermark along. The first run of all has nothing to restate and asks
    nothing.

    Parameters
    ----------
    run : Run
    client : PolygonClient
    known : KnownSplits
    alone : bool
        Whether no other run loads meanwhile.

    Returns
    -------
    bool
        Whether any history is to be read again because of it.

    Raises
    ------
    ApiError, TimeUpError
        As :meth:`PolygonClient.splits`.
    """
    as_of, since, tracked = run.request.as_of, known.since, known.symbols
    found: list[Split] = []
    rejected: list[RejectedBar] = []
    if since:
        named = sorted({*tracked, *run.request.symbols})
        if len(named) > NAMED_SYMBOLS or EVERY_SYMBOL in named:
            named = []
        # Bars are as of the provider's today, whatever date stands for ours.
        found, rejected = client.splits(since, max(as_of, today(run.context.now())), named)
    until = max(known.until or as_of, as_of)
    if not found and not rejected:
        run.note(splits_until=until)
        return False
    with transaction(run.context.engine) as connection:
        symbols = sorted({split.symbol for split in found})
        pending = set(utils.read_spans(connection, symbols)) if alone else set(symbols)
        new = database.record_splits(connection, found, pending=pending, now=run.context.now())
        counts = Counts(rejected=run.record_rejected(connection, rejected))
        run.save(connection, counts, splits_until=until)
    run.counts.add(counts)
    return any(split.symbol in pending for split in new)


def off_factors(stored: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Find the closes that are off: new bars whose close differs from the stored one by more than 0.1 %.

    Parameters
    ----------
    stored, new : pandas.DataFrame
        ``symbol, date, close``.

    Returns
    -------
    pandas.DataFrame
        ``symbol, factor``: the new close by the stored one.
    """
    both = stored.merge(new, on=["symbol", "date"], suffixes=("_stored", "_new"))
    factor = (both["close_new"] / both["close_stored"]).to_numpy(dtype=np.float64)
    off = is_off(factor)
    return pd.DataFrame({"symbol": both["symbol"][off].to_numpy(), "factor": factor[off]})


def is_off(factors: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which new closes differ from the stored ones by more than 0.1 %."""
    return np.isfinite(factors) & (np.abs(factors - 1) > SAME)


def is_suspect(factors: Sequence[float]) -> bool:
    """Whether closes are off as by a restatement: two by the same factor, or one by over 10 %."""
    ordered = sorted(factors)
    same = any(later / earlier - 1 <= SAME for earlier, later in pairwise(ordered))
    return same or any(abs(factor - 1) > LARGE for factor in ordered)


def read_history_of(connection: Connection, symbol: str) -> pd.DataFrame:
    """Read all stored rows of a symbol, as :func:`utils.read_history` returns them."""
    span = utils.read_spans(connection, [symbol]).get(symbol)
    return utils.read_history(connection, [symbol], *span) if span else utils.no_history()


def rescale_unreachable(
    run: Run, symbol: str, stored: pd.DataFrame, restated: pd.DataFrame, first: date
) -> tuple[pd.DataFrame, list[RejectedBar]]:
    """Bring stored bars that the provider's plan does not reach any more to the basis of the restated history.

    Parameters
    ----------
    run : Run
        Takes the warnings.
    symbol : str
    stored : pandas.DataFrame
        All stored rows of the symbol.
    restated : pandas.DataFrame
        The clean bars of the answer that replaces the history from `first` on.
    first : datetime.date
        The first session of that answer.

    Returns
    -------
    rescaled : pandas.DataFrame
        Bars like `restated`; empty if the basis has not changed.
    moved : list of RejectedBar
        The bars whose factor cannot be measured: less than 20 sessions overlap.
    """
    kept = stored[stored["date"] < pd.Timestamp(first)]
    none = restated.iloc[:0]
    if kept.empty:
        return none, []
    both = stored.merge(restated, on="date", suffixes=("_stored", "_new"))
    factors = (both["close_new"] / both["close_stored"]).to_numpy(dtype=np.float64)
    factors = factors[np.isfinite(factors) & (factors > 0)]
    factor = float(np.median(factors)) if len(factors) else math.nan
    if abs(factor - 1) <= SAME:
        return none, []
    if len(factors) < MIN_OVERLAP:
        reason = (
            f"its adjustment basis is unknown: only {len(factors)} later sessions overlap with the restated history"
        )
        run.warnings.append(f"{len(kept)} bars of {symbol} before {first} moved to rejected_bars: {reason}")
        return none, _rejected(symbol, kept, reason)
    run.warnings.append(f"{len(kept)} bars of {symbol} before {first} are out of reach: rescaled by {factor:.6g}")
    bars = kept[list(restated.columns)].assign(volume=kept["volume"] / factor)
    bars[PRICE_COLUMNS] = (bars[PRICE_COLUMNS] * factor).round(6)
    is_whole = bars.notna().all(axis=1)
    return clean(bars[is_whole]), _rejected(symbol, kept[~is_whole], "it lacks a price or its volume: not rescaled")


def _rejected(symbol: str, stored: pd.DataFrame, reason: str) -> list[RejectedBar]:
    return [
        RejectedBar(symbol, row["date"].date(), reason, pd.Series(row).to_json(date_format="iso"))
        for row in stored.to_dict("records")
    ]


def mark_restated(run: Run, connection: Connection, symbol: str, stored: pd.DataFrame, restated: pd.DataFrame) -> None:
    """Record that a symbol's history was read again, inside the transaction that replaces it.

    On the very morning of a split the provider may be late: if the closes before it are the same as before, the split
    stays pending, and the next run reads the history again.
    """
    pending = [split for split in utils.read_pending_splits(connection) if split.symbol == symbol]
    named = ", ".join(str(split) for split in pending)
    database.clear_suspect(connection, symbol)
    before = restated[restated["date"] < pd.Timestamp(pending[0].execution_date)] if pending else restated
    both = stored.merge(before, on="date", suffixes=("_stored", "_new"))
    late = pending and run.request.as_of <= pending[-1].execution_date
    if late and _are_same(both["close_new"] / both["close_stored"]):
        run.warnings.append(f"{named}: the provider has not restated its history yet; the next run asks again")
        return
    if pending:
        database.mark_restated(connection, symbol, run.context.now())
        run.splits.append(f"{named}: history restated")
    elif len(off_factors(stored[["symbol", "date", "close"]], restated[["symbol", "date", "close"]])):
        run.splits.append(f"{symbol}: history restated, by no listed split")


def _are_same(factors: pd.Series[float]) -> bool:
    """Whether at most half of the new closes are off from the stored ones."""
    known = factors[np.isfinite(factors) & (factors > 0)]  # an adopted row may have no close, or one of 0
    return known.empty or bool(is_off(np.asarray(known, np.float64)).mean() <= 0.5)
