"""The formulas: bars to rows with metrics, and the week's performance of each symbol.

Everything is vectorized over arrays sorted by symbol and session, and every metric is the exact decimal's.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from domain.models import CLOSE_METRICS
from domain.rounding import SCALE, Floats, exact_decimal, round_exactly

ROLLING_SESSIONS = 5
PERFORMANCE = [
    *["symbol", "sessions", "open", "close", "high", "low", "return_pct", "range_pct"],
    *["avg_volatility", "volume", "volume_ratio", "closes"],
]

Codes = npt.NDArray[np.integer[Any]]


def clean(accepted: pd.DataFrame) -> pd.DataFrame:
    """Sort accepted bars by symbol and date, and round volume to the nearest share (half to even).

    Parameters
    ----------
    accepted : pandas.DataFrame
        Columns ``symbol, date, open, high, low, close, volume``, in the order received.

    Returns
    -------
    pandas.DataFrame
        The same columns; ``volume`` is int64. Of several bars of a symbol for one session the last received
        is kept.
    """
    code, _ = pd.factorize(accepted["symbol"], sort=True)
    dates = accepted["date"].to_numpy()
    order = np.lexsort((dates, code))
    bars = accepted.take(order[_is_last(code[order], dates[order])]).reset_index(drop=True)
    return bars.assign(volume=np.rint(bars["volume"]).astype("int64"))


def _is_last(*keys: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mark the last row of each run of equal keys; the keys are sorted."""
    last = np.ones(len(keys[0]), dtype=bool)
    if len(last):
        last[:-1] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return last


class Metrics(NamedTuple):
    """What :func:`add_metrics` computes.

    Attributes
    ----------
    rows : pandas.DataFrame, n rows
        The new bars with ``volatility, rolling_avg, daily_pct_change``.
    dependents : pandas.DataFrame
        ``symbol, date, rolling_avg, daily_pct_change`` of the stored bars after a new or a withdrawn one.
    is_stored : numpy.ndarray of bool, shape (n,)
        Whether each of the new bars replaces a stored one.
    """

    rows: pd.DataFrame
    dependents: pd.DataFrame
    is_stored: npt.NDArray[np.bool_]


def add_metrics(bars: pd.DataFrame, neighbors: pd.DataFrame, withdrawn: npt.NDArray[np.bool_] | None = None) -> Metrics:
    """Compute the metrics of new bars, and of the stored bars whose metrics depend on them.

    Parameters
    ----------
    bars : pandas.DataFrame, n rows
        New bars as :func:`clean` returns them.
    neighbors : pandas.DataFrame, m rows
        Stored ``symbol, date, close``, from 4 sessions before the first changed bar of each symbol to 4 sessions after
        its last.
    withdrawn : numpy.ndarray of bool, shape (m,), optional
        The neighbors that are removed.

    Returns
    -------
    Metrics
    """
    symbols, dates, close = _appended(bars, neighbors)
    new = np.arange(len(close)) < len(bars)
    gone = np.zeros(len(close), dtype=bool)
    if withdrawn is not None:
        gone[len(bars) :] = withdrawn
    code, _ = pd.factorize(symbols)
    order = np.lexsort((~new, dates, code))
    code, new, gone = code[order], new[order], gone[order]
    # A new bar comes before the stored bar of the same session, which it replaces.
    replaced = np.zeros(len(order), dtype=bool)
    replaced[1:] = ~_is_last(code, dates[order])[:-1]
    is_stored = np.zeros(len(bars), dtype=bool)
    is_stored[order[np.flatnonzero(replaced) - 1]] = True
    follows = np.maximum.accumulate(np.where(new | gone, code, -1)) == code if len(code) else new
    kept = ~replaced & ~gone
    order, code, new, follows = order[kept], code[kept], new[kept], follows[kept]
    average, change = _close_metrics(code, close[order])

    # `bars` is sorted as `order` is, but for the order of symbols, which factorize took from their appearance.
    placed = np.flatnonzero(new)[np.argsort(order[new])]
    high, low, close = (bars[name].to_numpy(dtype=np.float64) for name in ("high", "low", "close"))
    rows = bars.assign(
        volatility=_volatility(high, low, close), rolling_avg=average[placed], daily_pct_change=change[placed]
    )
    after = follows & ~new
    metrics = dict(zip(CLOSE_METRICS, (average[after], change[after]), strict=True))
    keys = {"symbol": symbols.array[order[after]], "date": dates[order[after]]}
    return Metrics(rows, pd.DataFrame({**keys, **metrics}), is_stored)


def _appended(bars: pd.DataFrame, neighbors: pd.DataFrame) -> tuple[pd.Series[str], npt.NDArray[Any], Floats]:
    """Return symbol, date and close of new bars, followed by those of their stored neighbors."""
    symbols = pd.concat([bars["symbol"], neighbors["symbol"]], ignore_index=True)
    dates, close = (np.concatenate([bars[name], neighbors[name]]) for name in ("date", "close"))
    return symbols, dates, close.astype(np.float64, copy=False)


def last_closes(neighbors: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """Return the closes that the metrics of a symbol's next session depend on: the last 4.

    Parameters
    ----------
    neighbors : pandas.DataFrame
        Stored ``symbol, date, close``, without those that are removed.
    bars : pandas.DataFrame
        New bars with the same columns; they replace stored ones of the same symbol and session.
    """
    symbols, dates, close = _appended(bars, neighbors)
    code, _ = pd.factorize(symbols)
    span, stored = ROLLING_SESSIONS - 1, np.arange(len(close)) >= len(bars)
    order = np.lexsort((~stored, dates, code))
    order = order[_is_last(code[order], dates[order])]
    code, last = code[order], np.ones(len(order), dtype=bool)
    last[:-span] = code[span:] != code[:-span]
    kept = order[last]
    return pd.DataFrame({"symbol": symbols.array[kept], "date": dates[kept], "close": close[kept]})


def compute_metrics(code: Codes, high: Floats, low: Floats, close: Floats) -> tuple[Floats, Floats, Floats]:
    """Compute the metrics of whole histories.

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
    def scaled(block: slice, values: Floats) -> None:
        np.subtract(high[block], low[block], out=values)
        values *= 100 * SCALE
        values /= close[block]

    def exact(i: int) -> Decimal:
        return (exact_decimal(high[i]) - exact_decimal(low[i])) / exact_decimal(close[i]) * 100

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # an adopted table may hold anything
        return round_exactly(len(close), scaled, exact)


def _close_metrics(code: Codes, close: Floats) -> tuple[Floats, Floats]:
    """Compute average and change as of one history, then clear those for which a symbol's own is too short."""
    size, span = len(close), ROLLING_SESSIONS - 1

    def scaled_change(block: slice, values: Floats) -> None:
        previous = close[block.start - 1 : block.stop - 1]
        np.subtract(close[block], previous, out=values)
        values *= 100 * SCALE
        values /= previous

    def exact_change(i: int) -> Decimal:
        return (exact_decimal(close[i]) - exact_decimal(close[i - 1])) / exact_decimal(close[i - 1]) * 100

    def scaled_average(block: slice, values: Floats) -> None:
        # Five closes: two pairs, and the one between them.
        pairs = close[block.start - 3 : block.stop] + close[block.start - 4 : block.stop - 1]
        np.add(pairs[3:], pairs[:-3], out=values)
        values += close[block.start - 2 : block.stop - 2]
        values *= SCALE / ROLLING_SESSIONS

    def exact_average(i: int) -> Decimal:
        return sum((exact_decimal(price) for price in close[i - span : i + 1]), Decimal()) / ROLLING_SESSIONS

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # an adopted table may hold anything
        change = round_exactly(size, scaled_change, exact_change, first=1)
        average = round_exactly(size, scaled_average, exact_average, first=span)
    change += 0.0  # no negative zero
    change[1:][close[:-1] == 0] = np.nan
    starts = np.flatnonzero(code[1:] != code[:-1]) + 1
    for early in (np.arange(min(span, size)), *(np.minimum(starts + row, size - 1) for row in range(span))):
        average[early] = np.nan
    change[:1] = change[starts] = np.nan
    return average, change


def weekly_performance(history: pd.DataFrame, first: pd.Timestamp) -> pd.DataFrame:
    """Compute one row per symbol that traded in the week, best weekly return first.

    Weekly return % = (last close − first open) / first open × 100; weekly range % = (highest high − lowest low) /
    lowest low × 100, both over the week's sessions.

    Parameters
    ----------
    history : pandas.DataFrame
        Stored rows of each symbol up to the week's last session, at most 30 per symbol, oldest first:
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
