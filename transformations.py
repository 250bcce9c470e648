"""Raw bars to the rows of ``stock_data``: volume, metrics, and the week's performance of each symbol.

What comes in: accepted bars (``symbol, date, open, high, low, close, volume``) and stored closes around them. What goes
out: the same bars with ``volatility, rolling_avg, daily_pct_change``, the metrics of stored bars that change with them,
and one row a symbol for the report. Everything is vectorised over sorted arrays, and every rounded figure is the exact
decimal's: binary arithmetic decides all but the few values too near a tie, and decimal arithmetic decides those.
Pure: no clock, no network, no database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

ROLLING_SESSIONS = 5
DECIMALS = 6
SCALE = 10.0**DECIMALS
BLOCK = 16_384  # rows
PERFORMANCE = [
    *["symbol", "sessions", "open", "close", "high", "low", "return_pct", "range_pct"],
    *["avg_volatility", "volume", "volume_ratio", "closes"],
]

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_QUANTUM = Decimal(1).scaleb(-DECIMALS)

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.integer[Any]]


def clean(accepted: pd.DataFrame) -> pd.DataFrame:
    """Accepted bars, sorted by symbol and date, with volume rounded to the nearest share (half to even).

    Parameters
    ----------
    accepted : pandas.DataFrame
        Columns ``symbol, date, open, high, low, close, volume``, in the order received.

    Returns
    -------
    pandas.DataFrame
        The same columns; ``volume`` is int64. Of several bars of a symbol and session the last one received is kept.
    """
    code, _ = pd.factorize(accepted["symbol"], sort=True)
    dates = accepted["date"].to_numpy()
    order = np.lexsort((dates, code))
    bars = accepted.take(order[_is_last(code[order], dates[order])]).reset_index(drop=True)
    return bars.assign(volume=np.rint(bars["volume"]).astype("int64"))


def _is_last(*keys: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which rows are the last of those with the same keys; the keys are sorted."""
    last = np.ones(len(keys[0]), dtype=bool)
    if len(last):
        last[:-1] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return last


def add_metrics(bars: pd.DataFrame, neighbours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Compute the metrics of new bars, and of the stored bars whose metrics depend on them.

    Parameters
    ----------
    bars : pandas.DataFrame, n rows
        New bars as :func:`clean` returns them.
    neighbours : pandas.DataFrame
        Stored ``symbol, date, close`` of the same symbols, from 4 sessions before the first new bar of each to 4
        sessions after its last.

    Returns
    -------
    rows : pandas.DataFrame, n rows
        `bars` with the metrics of :func:`compute_metrics`.
    restated : pandas.DataFrame
        ``symbol, date, rolling_avg, daily_pct_change`` of the neighbours that come after a new bar.
    present : int
        How many of the new bars are stored already: these neighbours are replaced.
    """
    series = pd.concat(
        [bars[["symbol", "date", "close"]].assign(new=True), neighbours[["symbol", "date", "close"]].assign(new=False)],
        ignore_index=True,
    )
    code, _ = pd.factorize(series["symbol"])
    new = series["new"].to_numpy(dtype=bool)
    order = np.lexsort((~new, series["date"].to_numpy(), code))
    code, dates, new = code[order], series["date"].to_numpy()[order], new[order]
    # A new bar comes before the stored bar of the same session, which it replaces.
    replaced = np.zeros(len(order), dtype=bool)
    replaced[1:] = (code[1:] == code[:-1]) & (dates[1:] == dates[:-1])
    order, code, new = order[~replaced], code[~replaced], new[~replaced]
    close = series["close"].to_numpy(dtype=np.float64)[order]
    average, change = _close_metrics(code, close)

    # `bars` is sorted as `order` is, but for the order of symbols, which factorize took from their appearance.
    placed = pd.Series(np.flatnonzero(new), index=order[new]).sort_index().to_numpy()
    high, low, last = (bars[name].to_numpy(dtype=np.float64) for name in ("high", "low", "close"))
    rows = bars.assign(
        volatility=_volatility(high, low, last), rolling_avg=average[placed], daily_pct_change=change[placed]
    )
    after = (np.maximum.accumulate(np.where(new, code, -1)) == code) & ~new if len(code) else new
    restated = series.loc[order[after], ["symbol", "date"]].reset_index(drop=True)
    restated = restated.assign(rolling_avg=average[after], daily_pct_change=change[after])
    return rows, restated, int(replaced.sum())


def compute_metrics(code: Codes, high: Floats, low: Floats, close: Floats) -> tuple[Floats, Floats, Floats]:
    """The metrics of whole histories.

    Volatility = (high − low) / close × 100. Rolling average = mean close of a bar's and the 4 previous sessions, NaN
    before the fifth. Daily change = (close − previous close) / previous close × 100, NaN on the first. All are rounded
    to 6 decimals, half to even, as exact decimals.

    Parameters
    ----------
    code : numpy.ndarray of int, shape (n,)
        A number for each symbol; all arrays are sorted by symbol, then session.
    high, low, close : numpy.ndarray of float64, shape (n,)
        Dollars.

    Returns
    -------
    volatility, rolling_avg, daily_pct_change : numpy.ndarray of float64, shape (n,)
        Percent, dollars, percent.
    """
    return _volatility(high, low, close), *_close_metrics(code, close)


def _volatility(high: Floats, low: Floats, close: Floats) -> Floats:
    result, scratch = np.empty(len(close)), np.empty(BLOCK)

    def exact(i: int) -> Decimal:
        return (_decimal(high[i]) - _decimal(low[i])) / _decimal(close[i]) * 100

    for block in _blocks(len(close)):
        values = np.subtract(high[block], low[block], out=scratch[: block.stop - block.start])
        values *= 100 * SCALE
        values /= close[block]
        _round_into(result, block, values, exact)
    return result


def _close_metrics(code: Codes, close: Floats) -> tuple[Floats, Floats]:
    """Average and change as if all rows were one history, then NaN where a symbol's own is too short for them."""
    size, span = len(close), ROLLING_SESSIONS - 1
    average, change, scratch = np.empty(size), np.empty(size), np.empty(BLOCK)

    def exact_average(i: int) -> Decimal:
        return sum((_decimal(price) for price in close[i - span : i + 1]), Decimal()) / ROLLING_SESSIONS

    def exact_change(i: int) -> Decimal:
        return (_decimal(close[i]) - _decimal(close[i - 1])) / _decimal(close[i - 1]) * 100

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # an adopted table may hold anything
        for block in _blocks(size, first=1):
            previous = close[block.start - 1 : block.stop - 1]
            values = np.subtract(close[block], previous, out=scratch[: block.stop - block.start])
            values *= 100 * SCALE
            values /= previous
            if not _round_into(change, block, values, exact_change) < np.inf:
                change[block][previous == 0] = np.nan
            change[block] += 0.0  # no negative zero
        for block in _blocks(size, first=span):
            # Five closes: two pairs, and the one between them.
            pairs = close[block.start - 3 : block.stop] + close[block.start - 4 : block.stop - 1]
            values = np.add(pairs[3:], pairs[:-3], out=scratch[: block.stop - block.start])
            values += close[block.start - 2 : block.stop - 2]
            values *= SCALE / ROLLING_SESSIONS
            _round_into(average, block, values, exact_average)
    starts = np.flatnonzero(code[1:] != code[:-1]) + 1
    for early in (np.arange(min(span, size)), *(np.minimum(starts + row, size - 1) for row in range(span))):
        average[early] = np.nan
    change[:1] = change[starts] = np.nan
    return average, change


def _blocks(size: int, *, first: int = 0) -> Iterator[slice]:
    """Pieces short enough that their intermediate results stay in the processor's cache."""
    return (slice(start, min(start + BLOCK, size)) for start in range(first, size, BLOCK))


def _decimal(price: float) -> Decimal:
    """The decimal that was received: a float's shortest text is the number it was read from."""
    return Decimal(repr(float(price)))


def _round_into(result: Floats, block: slice, values: Floats, exact: Callable[[int], Decimal]) -> float:
    """Round to 6 decimals, half to even, as decimal arithmetic on the exact inputs would.

    `values` come multiplied by `SCALE`, and are used up. A binary result is off by a few units in its last place, and
    by as many of the ratio it was subtracted from: well under the margin below. Only values nearer than that to a tie,
    about one in a million and the true ties, are computed again in decimal. Returns the largest of `values`, which is
    not finite if any of them is not.
    """
    rounded = np.rint(values, out=result[block])
    values -= rounded
    largest = bound = max(np.maximum.reduce(rounded), -np.minimum.reduce(rounded))
    if not largest < np.inf:
        bound = np.abs(rounded[np.isfinite(rounded)]).max(initial=0.0)
    near_a_tie = 0.5 - (1e-6 + 1e-14 * bound)
    doubtful = np.empty(0, dtype=np.intp)
    if not max(np.maximum.reduce(values), -np.minimum.reduce(values)) < near_a_tie:  # NaN is not below anything
        doubtful = np.flatnonzero(np.abs(values) >= near_a_tie)  # by the margin of the largest, then by their own
        own = 0.5 - (1e-6 + 1e-14 * np.abs(rounded[doubtful]))
        doubtful = doubtful[np.abs(values[doubtful]) >= own]
    rounded /= SCALE
    with localcontext(_EXACT):
        for i in doubtful.tolist():
            rounded[i] = float(exact(block.start + i).quantize(_QUANTUM))
    return float(largest)


def weekly_performance(history: pd.DataFrame, first: pd.Timestamp) -> pd.DataFrame:
    """One row a symbol that traded in the week, best weekly return first.

    Weekly return % = (last close − first open) / first open × 100; weekly range % = (highest high − lowest low) /
    lowest low × 100, both over the week's sessions.

    Parameters
    ----------
    history : pandas.DataFrame
        Stored rows of each symbol up to the week's last session, at most 30 a symbol, oldest first:
        ``symbol, date, open, high, low, close, volume, volatility``.
    first : pandas.Timestamp
        The week's first session; later rows are the week's.

    Returns
    -------
    pandas.DataFrame
        Columns :data:`PERFORMANCE`: prices in dollars, percentages unrounded, ``volume`` the week's mean daily volume,
        ``volume_ratio`` that mean against the mean of all rows given, ``closes`` the closes of all rows given.
    """
    recent = history.groupby("symbol", sort=True).agg(usual=("volume", "mean"), closes=("close", list))
    week = history[history["date"] >= first].groupby("symbol", sort=True)
    table = week.agg(
        sessions=("date", "size"),
        open=("open", "first"),
        close=("close", "last"),
        high=("high", "max"),
        low=("low", "min"),
        avg_volatility=("volatility", "mean"),
        volume=("volume", "mean"),
    ).join(recent)
    table["return_pct"] = (table["close"] - table["open"]) / table["open"] * 100
    table["range_pct"] = (table["high"] - table["low"]) / table["low"] * 100
    table["volume_ratio"] = table["volume"] / table["usual"].where(table["usual"] > 0)
    table = table.replace([np.inf, -np.inf], np.nan)  # of an adopted row without a price, or with one of 0
    table = table.reset_index().sort_values(["return_pct", "symbol"], ascending=[False, True], ignore_index=True)
    return table[PERFORMANCE]
