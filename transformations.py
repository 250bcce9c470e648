"""Raw bars to the rows of ``stock_data``: volume, metrics, and the week's performance of each symbol.

What comes in: accepted bars (``symbol, date, open, high, low, close, volume``) and stored closes around them. What goes
out: the same bars with ``volatility, rolling_avg, daily_pct_change``, the metrics of stored bars that change with them,
and one row a symbol for the report. Everything is vectorised over sorted arrays, and every rounded figure is the exact
decimal's: binary arithmetic decides all but the few values too near a tie, and decimal arithmetic decides those.
Pure: no clock, no network, no database.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import numpy as np
import numpy.typing as npt
import pandas as pd

ROLLING_SESSIONS = 5
DECIMALS = 6
METRICS = ["volatility", "rolling_avg", "daily_pct_change"]
PERFORMANCE = [
    *["symbol", "sessions", "open", "close", "high", "low", "return_pct", "range_pct"],
    *["avg_volatility", "volume", "volume_ratio", "closes"],
]

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_QUANTUM = Decimal(1).scaleb(-DECIMALS)

Floats = npt.NDArray[np.float64]


def clean(accepted: pd.DataFrame) -> pd.DataFrame:
    """Accepted bars, sorted by symbol and date, with volume rounded to the nearest share (half to even).

    Parameters
    ----------
    accepted : pandas.DataFrame
        Columns ``symbol, date, open, high, low, close, volume``.

    Returns
    -------
    pandas.DataFrame
        The same columns; ``volume`` is int64.
    """
    bars = accepted.sort_values(["symbol", "date"], ignore_index=True)
    return bars.assign(volume=np.rint(bars["volume"]).astype("int64"))


def add_metrics(bars: pd.DataFrame, neighbours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute the metrics of new bars, and of the stored bars whose metrics depend on them.

    ``volatility`` = (high − low) / close × 100. ``rolling_avg`` = mean close of the bar's and the 4 previous stored
    sessions of the symbol, NaN before the fifth. ``daily_pct_change`` = (close − previous close) / previous close ×
    100, NaN on the first. All rounded to 6 decimals, half to even, as exact decimals.

    Parameters
    ----------
    bars : pandas.DataFrame, n rows
        New bars as :func:`clean` returns them.
    neighbours : pandas.DataFrame
        Stored ``symbol, date, close`` of the same symbols, from 4 sessions before the first new bar of each to 4
        sessions after its last; those that `bars` replaces are ignored.

    Returns
    -------
    rows : pandas.DataFrame, n rows
        `bars` with the three metrics.
    restated : pandas.DataFrame
        ``symbol, date, rolling_avg, daily_pct_change`` of the neighbours that come after a new bar.
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

    metrics = pd.DataFrame({"rolling_avg": _rolling_mean(close, code), "daily_pct_change": _pct_change(close, code)})
    rows = bars.assign(volatility=_volatility(bars))
    # `bars` is sorted as `order` is, but for the order of symbols, which factorize took from their appearance.
    placed = pd.Series(np.flatnonzero(new), index=order[new]).sort_index().to_numpy()
    rows[["rolling_avg", "daily_pct_change"]] = metrics.to_numpy()[placed]

    started = np.maximum.accumulate(np.where(new, code, -1)) == code if len(code) else new
    after = started & ~new
    restated = series.loc[order[after], ["symbol", "date"]].reset_index(drop=True)
    restated[["rolling_avg", "daily_pct_change"]] = metrics.to_numpy()[after]
    return rows, restated


def _volatility(bars: pd.DataFrame) -> Floats:
    high, low, close = (bars[name].to_numpy(dtype=np.float64) for name in ("high", "low", "close"))

    def exact(i: int) -> Decimal:
        return (_decimal(high[i]) - _decimal(low[i])) / _decimal(close[i]) * 100

    return _rounded((high - low) / close * 100, exact)


def _rolling_mean(close: Floats, code: npt.NDArray[np.intp]) -> Floats:
    span = ROLLING_SESSIONS - 1
    mean = np.full(len(close), np.nan)
    if len(close) > span:
        total = close[span:].copy()
        for shift in range(span):
            total += close[shift : len(close) - span + shift]
        mean[span:] = np.where(code[span:] == code[:-span], total / ROLLING_SESSIONS, np.nan)

    def exact(i: int) -> Decimal:
        return sum((_decimal(price) for price in close[i - span : i + 1]), Decimal()) / ROLLING_SESSIONS

    return _rounded(mean, exact)


def _pct_change(close: Floats, code: npt.NDArray[np.intp]) -> Floats:
    change = np.full(len(close), np.nan)
    known = (code[1:] == code[:-1]) & (close[:-1] > 0)
    np.divide((close[1:] - close[:-1]) * 100, close[:-1], out=change[1:], where=known)

    def exact(i: int) -> Decimal:
        return (_decimal(close[i]) - _decimal(close[i - 1])) / _decimal(close[i - 1]) * 100

    return _rounded(change, exact)


def _decimal(price: float) -> Decimal:
    """The decimal that was received: a float's shortest text is the number it was read from."""
    return Decimal(repr(float(price)))


def _rounded(values: Floats, exact: Callable[[int], Decimal]) -> Floats:
    """Round to 6 decimals, half to even, as decimal arithmetic on the exact inputs would.

    The binary result is off by a few units in its last place, and by as many of the ratio it was subtracted from: well
    under the margin below. Only values nearer than that to a tie, about one in a million and the true ties, are
    computed again in decimal.
    """
    scaled = values * 10.0**DECIMALS
    with np.errstate(invalid="ignore"):
        doubtful = np.abs(np.abs(scaled - np.trunc(scaled)) - 0.5) <= 1e-6 + 1e-14 * np.abs(scaled)
    rounded: Floats = np.rint(scaled) / 10.0**DECIMALS
    with localcontext(_EXACT):
        for i in np.flatnonzero(doubtful):
            rounded[i] = float(exact(int(i)).quantize(_QUANTUM))
    return rounded + 0.0  # no negative zero


def weekly_performance(history: pd.DataFrame, first: pd.Timestamp) -> pd.DataFrame:
    """One row a symbol that traded in the week, best weekly return first.

    Weekly return % = (last close − first open) / first open × 100; weekly range % = (highest high − lowest low) /
    lowest low × 100, both over the week's sessions.

    Parameters
    ----------
    history : pandas.DataFrame
        Stored rows of each symbol up to the week's last session, at most 30 a symbol, sorted by symbol and date:
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
    table = table.reset_index().sort_values(["return_pct", "symbol"], ascending=[False, True], ignore_index=True)
    return table[PERFORMANCE]
