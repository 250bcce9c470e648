"""Figures of each symbol and of the whole market: changes, extremes, averages, momentum and breadth.

The market page shows these numbers and computes none. A symbol's figures are those of its last stored session. A window
of so many sessions holds stored sessions of the symbol; a figure is NaN where the history does not fill its window.
Ratios are rounded to 6 decimals, half to even, as the metrics of ``stock_data`` are.

Everything is vectorized over :class:`Histories`, matrices with a row per symbol and a column per bar, and prices are
whole millionths of a dollar, so that their sums and comparisons are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from domain.models import DECIMALS
from domain.rounding import SCALE, Floats, round_exactly

RSI_SESSIONS = 14
VOLATILITY_SESSIONS = 20
VOLUME_SESSIONS = 20
SESSIONS_PER_YEAR = 252  # by which a deviation of daily returns is annualized
SHORT, LONG = 50, 200  # sessions of the averages that cross
AVERAGES = (20, SHORT, LONG)
CROSSES = {1: "golden", -1: "death"}

Codes = npt.NDArray[np.integer[Any]]
Places = npt.NDArray[np.intp]
Dates = npt.NDArray[np.datetime64]


REFERENCES: dict[str, Callable[[pd.DatetimeIndex], pd.DatetimeIndex]] = {
    "change_1w": lambda days: days - pd.DateOffset(weeks=1),
    "change_1m": lambda days: days - pd.DateOffset(months=1),
    "change_3m": lambda days: days - pd.DateOffset(months=3),
    "change_ytd": lambda days: days - pd.offsets.YearEnd(1),
    "change_1y": lambda days: days - pd.DateOffset(years=1),
}
"""The day whose close each change is against: of the last stored session on or before it."""

BREADTH = [
    *["advancers", "decliners", "unchanged", "over_50", "with_50", "over_200", "with_200"],
    *["new_highs", "new_lows", "with_year"],
]


@dataclass(frozen=True)
class Histories:
    """The bars of some symbols, also as matrices: row `i` holds those of symbol `i` from column 0 on, oldest first.

    Parameters
    ----------
    code : numpy.ndarray of int, shape (n,)
        The symbol of each bar as a number; bars are sorted by it, then by session, and no number below the last lacks.
    dates : numpy.ndarray of datetime64[D], shape (n,)
        At most one bar per symbol and session.
    high, low, close, volume : numpy.ndarray of float64, shape (n,)
        Dollars and shares. Closes are positive; the others may be NaN.
    """

    code: Codes
    dates: Dates
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    @cached_property
    def lengths(self) -> Places:
        """How many bars each symbol has."""
        return np.bincount(self.code)

    @cached_property
    def columns(self) -> Places:
        """The column of each bar."""
        return np.arange(len(self.code)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)

    @cached_property
    def last(self) -> Places:
        """Which bar is each symbol's last."""
        return np.cumsum(self.lengths) - 1

    @cached_property
    def days(self) -> Dates:
        """Every session that has a bar, ascending."""
        return np.unique(self.dates)

    @cached_property
    def places(self) -> Places:
        """The place of each bar's session in :attr:`days`."""
        return np.searchsorted(self.days, self.dates)

    @cached_property
    def closes(self) -> Floats:
        """The closes in millionths, as a matrix."""
        return self.matrix(_millionths(self.close))

    @cached_property
    def _running(self) -> Floats:
        sums = np.zeros((self.closes.shape[0], self.closes.shape[1] + 1))
        np.cumsum(np.nan_to_num(self.closes), axis=1, out=sums[:, 1:])
        return sums

    @cached_property
    def _before(self) -> npt.NDArray[np.int32]:
        """How many bars each symbol has before each of :attr:`days`, and before the day after them."""
        stored = np.zeros((len(self.lengths), len(self.days) + 1), dtype=np.int32)
        stored[self.code, self.places + 1] = 1
        return np.cumsum(stored, axis=1, dtype=np.int32)

    def matrix(self, values: Floats) -> Floats:
        """Arrange the bars' values by symbol and column; NaN after a symbol's last."""
        arranged = np.full((len(self.lengths), int(self.lengths.max(initial=0))), np.nan)
        arranged[self.code, self.columns] = values
        return arranged

    def sums(self, sessions: int) -> Floats:
        """Sum the closes, in millionths, of so many sessions up to each bar: a matrix; NaN where there are fewer."""
        sums = np.full_like(self.closes, np.nan)
        if sums.shape[1] >= sessions:
            sums[:, sessions - 1 :] = self._running[:, sessions:] - self._running[:, :-sessions]
        sums[np.isnan(self.closes)] = np.nan
        return sums

    def averages(self, sessions: int) -> Floats:
        """Compute the simple moving average of the closes at each bar, in dollars: the mean of so many closes."""
        return np.rint(self.sums(sessions)[self.code, self.columns] / sessions) / SCALE

    def bars_until(self, symbols: Codes, days: Dates) -> Places:
        """Count the bars of each of the symbols up to a day, that day included."""
        return self._before[symbols, np.searchsorted(self.days, days, "right")].astype(np.intp)

    @cached_property
    def year_starts(self) -> Places:
        """The column in which each bar's last year begins: that of the first session after the same day a year ago."""
        return self.bars_until(self.code, _days(pd.DatetimeIndex(self.days) - pd.DateOffset(years=1))[self.places])


def _millionths(prices: Floats) -> Floats:
    return np.rint(prices * SCALE)


def _days(moments: pd.DatetimeIndex) -> Dates:
    return np.asarray(moments.to_numpy().astype("datetime64[D]"))


def symbol_figures(bars: Histories) -> pd.DataFrame:
    """Compute the figures of each symbol as of its last session.

    Parameters
    ----------
    bars : Histories, of m symbols

    Returns
    -------
    pandas.DataFrame, m rows
        ``sessions`` (how many are stored), ``first``, ``last`` (datetime64[s]), ``close`` (dollars), and:

        ``change_1d`` … ``change_1y``
            Percent: the close against an earlier one. A day is the previous stored session. A week, a month, three
            months or a year is the last stored session up to the same day of so much earlier, or to the last day of a
            month that is too short. ``change_ytd`` is against the last close of the year before.
        ``high_52w``, ``low_52w``, ``place_52w``
            The highest high and the lowest low since the same day of the year before, that day excluded, as far as the
            history reaches; and where the close lies between them, 0 to 1.
        ``volatility_20``
            Percent per year: the standard deviation of the sample of the last 20 daily logarithmic returns × √252
            (Hull, Options, Futures, and Other Derivatives, chapter "Estimating volatility from historical data").
        ``volume``, ``volume_ratio``
            Shares, and these against the mean of the 20 sessions before.
        ``sma_20``, ``sma_50``, ``sma_200``, ``distance_50``
            Dollars: the mean of the last so many closes; and percent: the close against ``sma_50``.
        ``rsi_14``
            See :func:`relative_strength`.
        ``cross``, ``cross_date``
            See :func:`crosses`.
        ``streak``
            Sessions in a row that closed higher than the one before, negative for lower; 0 if the close is unchanged.
        ``range_pct``
            Percent: (high − low) / close, the ``volatility`` of ``stock_data``.
    """
    symbols = np.arange(len(bars.lengths))
    last, dates = bars.last, bars.dates[bars.last]
    close = _millionths(bars.close[last])
    ends = np.cumsum(bars.lengths) - bars.lengths
    table: dict[str, Any] = {
        "sessions": bars.lengths,
        "first": bars.dates[ends].astype("datetime64[s]"),
        "last": dates.astype("datetime64[s]"),
        "close": bars.close[last],
        "change_1d": _change(close, _closes_at(bars, bars.lengths - 2)),
    }
    for name, reference in REFERENCES.items():
        then = bars.bars_until(symbols, _days(reference(pd.DatetimeIndex(dates)))) - 1
        table[name] = _change(close, _closes_at(bars, then))
    high, low = _year_extremes(bars)
    table |= {"high_52w": high / SCALE, "low_52w": low / SCALE, "place_52w": _ratio(close - low, high - low)}
    table["volatility_20"] = _volatility(bars)
    volume = bars.volume[last]
    before = _last(bars, bars.matrix(bars.volume), VOLUME_SESSIONS + 1)[:, :-1].sum(axis=1)
    table |= {"volume": volume, "volume_ratio": _ratio(volume * VOLUME_SESSIONS, before)}
    for sessions in AVERAGES:
        table[f"sma_{sessions}"] = bars.averages(sessions)[last]
    short = bars.sums(SHORT)[symbols, bars.lengths - 1]
    table["distance_50"] = _change(close * SHORT, short)
    table["rsi_14"] = relative_strength(bars)
    sign, column = crosses(bars)
    table["cross"] = pd.Series([CROSSES.get(each) for each in sign.tolist()], dtype="str")
    crossed = bars.dates[np.maximum(ends + column, 0)].astype("datetime64[s]")
    table["cross_date"] = np.where(column >= 0, crossed, np.datetime64("NaT", "s"))
    table["streak"] = _streaks(bars)
    table["range_pct"] = _ratio(_millionths(bars.high[last]) * 100 - _millionths(bars.low[last]) * 100, close)
    return pd.DataFrame(table)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide whole numbers, rounded as exact decimals; NaN for a denominator of 0."""

    def scaled(block: slice, values: Floats) -> None:
        np.multiply(numerator[block], SCALE, out=values)
        values /= denominator[block]

    def exact(i: int) -> Decimal:
        return Decimal(int(numerator[i])) / Decimal(int(denominator[i]))

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        result = round_exactly(len(numerator), scaled, exact) + 0.0  # no negative zero
    result[~np.isfinite(result)] = np.nan
    return result


def _change(now: Floats, then: Floats) -> Floats:
    return _ratio((now - then) * 100, then)


def _closes_at(bars: Histories, column: Places) -> Floats:
    """The close of each symbol in a column, in millionths; NaN before the first."""
    found = bars.closes[np.arange(len(column)), np.maximum(column, 0)]
    return np.where(column >= 0, found, np.nan)


def _last(bars: Histories, matrix: Floats, sessions: int) -> Floats:
    """The values of each symbol's last sessions, shape (m, sessions); NaN where there are fewer."""
    column = bars.lengths[:, None] - sessions + np.arange(sessions)
    found = np.take_along_axis(matrix, np.clip(column, 0, matrix.shape[1] - 1), axis=1)
    return np.where(column >= 0, found, np.nan)


def _year_extremes(bars: Histories) -> tuple[Floats, Floats]:
    inside = bars.columns >= bars.year_starts[bars.last][bars.code]
    starts = bars.last - bars.lengths + 1
    if not len(starts):
        return np.empty(0), np.empty(0)
    high = np.fmax.reduceat(np.where(inside, _millionths(bars.high), np.nan), starts)
    low = np.fmin.reduceat(np.where(inside, _millionths(bars.low), np.nan), starts)
    return high, low


def _volatility(bars: Histories) -> Floats:
    closes = _last(bars, bars.closes, VOLATILITY_SESSIONS + 1)
    returns = np.diff(np.log(closes), axis=1)
    deviation: Floats = np.asarray(np.std(returns, axis=1, ddof=1))
    return np.asarray(np.round(deviation * np.sqrt(SESSIONS_PER_YEAR) * 100, DECIMALS))


def relative_strength(bars: Histories) -> Floats:
    """Compute Wilder's relative strength index of 14 sessions as of each symbol's last session, 0 to 100.

    RSI = 100 × gain / (gain + loss). Average gain and loss begin as the means of the first 14 changes of the close, and
    each later change counts a 14th: average = (13 × average + change) / 14 (Wilder, New Concepts in Technical Trading
    Systems, 1978, section VI). It is 100 without a loss, 0 without a gain, 50 with neither, and NaN under 15 sessions.
    Wilder's RS = gain / loss, and 100 − 100 / (1 + RS), are the same, but not defined without a loss.
    """
    changes = np.nan_to_num(np.diff(bars.closes, axis=1))
    size = np.maximum(bars.lengths - 1, 0)[:, None]  # changes per symbol
    age = size - 1 - np.arange(changes.shape[1])
    # Unrolled, the recursion is a weighted sum: a change counts 13/14 less for each later one after the first 14.
    weight = ((RSI_SESSIONS - 1) / RSI_SESSIONS) ** np.clip(age, 0, np.maximum(size - RSI_SESSIONS, 0))
    gain = (np.maximum(changes, 0) * weight).sum(axis=1)
    loss = (np.maximum(-changes, 0) * weight).sum(axis=1)
    with np.errstate(invalid="ignore"):
        index = np.where(gain + loss > 0, 100 * gain / (gain + loss), 50.0)
    return np.where(size[:, 0] >= RSI_SESSIONS, np.round(index, DECIMALS), np.nan)


def crosses(bars: Histories) -> tuple[npt.NDArray[np.int8], Places]:
    """Find each symbol's last golden or death cross: its 50-session average passed its 200-session average.

    It is golden in the first session in which the short average is above the long one after it was below, and a death
    cross the other way around. Sessions in which both are equal change nothing.

    Returns
    -------
    sign : numpy.ndarray of int8, shape (m,)
        1 for golden, −1 for death, 0 for none.
    column : numpy.ndarray of int, shape (m,)
        The column of its bar; −1 for none.
    """
    side = np.sign(np.nan_to_num(bars.sums(SHORT) * (LONG // SHORT) - bars.sums(LONG))).astype(np.int8)
    place = np.arange(side.shape[1])
    latest = np.maximum.accumulate(np.where(side != 0, place, 0), axis=1)
    held = np.take_along_axis(side, latest, axis=1)
    crossed = np.zeros(side.shape, dtype=bool)
    crossed[:, 1:] = (side[:, 1:] != 0) & (held[:, :-1] == -side[:, 1:])
    column = np.where(crossed, place, -1).max(axis=1, initial=-1)
    sign = np.where(column >= 0, side[np.arange(len(side)), column], 0).astype(np.int8)
    return sign, column.astype(np.intp)


def _streaks(bars: Histories) -> npt.NDArray[np.int64]:
    way = np.full_like(bars.closes, 2.0)  # no direction at all in a symbol's first session
    way[:, 1:] = np.sign(np.diff(bars.closes, axis=1))
    symbols, end = np.arange(len(bars.lengths)), bars.lengths - 1
    last = way[symbols, end]
    differs = (way != last[:, None]) & (np.arange(way.shape[1]) <= end[:, None])
    begin = np.where(differs, np.arange(way.shape[1]), -1).max(axis=1, initial=-1)
    return np.where(last == 2.0, 0, last * (end - begin)).astype(np.int64)


def market_breadth(bars: Histories) -> pd.DataFrame:
    """Count per session how many symbols rose, fell, stood above their averages, and made new highs and lows.

    Counts of several sets of symbols add up to those of all.

    Parameters
    ----------
    bars : Histories

    Returns
    -------
    pandas.DataFrame
        Indexed by session (datetime64[s]), ascending, with the columns :data:`BREADTH`, of int64:

        ``advancers``, ``decliners``, ``unchanged``
            Symbols whose close is above, below or at that of their previous stored session.
        ``over_50``, ``with_50``, ``over_200``, ``with_200``
            Symbols whose close is above the mean of their last 50 or 200 closes, and how many have so many.
        ``new_highs``, ``new_lows``, ``with_year``
            Symbols whose high is above, or whose low is below, all those of the year before, and how many were stored a
            year before.
    """
    way = np.zeros_like(bars.closes)
    way[:, 1:] = np.sign(np.diff(bars.closes, axis=1))
    way, later = way[bars.code, bars.columns], bars.columns > 0
    seen = {"advancers": way > 0, "decliners": way < 0, "unchanged": later & (way == 0)}
    for sessions in (SHORT, LONG):
        total = bars.sums(sessions)[bars.code, bars.columns]
        with np.errstate(invalid="ignore"):
            seen[f"over_{sessions}"] = _millionths(bars.close) * sessions > total
        seen[f"with_{sessions}"] = ~np.isnan(total)
    reaches = bars.year_starts > 0
    with np.errstate(invalid="ignore"):
        seen["new_highs"] = reaches & (bars.high > _year_maximum(bars, bars.high))
        seen["new_lows"] = reaches & (-bars.low > _year_maximum(bars, -bars.low))
    seen["with_year"] = reaches
    size = len(bars.days)
    counts = {name: np.bincount(bars.places[seen[name]], minlength=size) for name in BREADTH}
    return pd.DataFrame(counts, index=pd.DatetimeIndex(bars.days.astype("datetime64[s]"), name="date"))


def _year_maximum(bars: Histories, values: Floats) -> Floats:
    """The largest value of each bar's last year before the bar itself; NaN where there is none.

    The maximum of any window is that of two windows that overlap, each of a power of two in length.
    """
    window = bars.columns - bars.year_starts  # sessions before the bar
    level, width = bars.matrix(values), 1  # the maxima of windows of this width that begin at each column
    largest = np.full(len(values), np.nan)
    while width <= window.max(initial=0):
        here = np.flatnonzero((window >= width) & (window < 2 * width))
        row, begin, end = bars.code[here], bars.year_starts[here], bars.columns[here] - width
        largest[here] = np.fmax(level[row, begin], level[row, end])
        level[:, : level.shape[1] - width] = np.fmax(level[:, :-width], level[:, width:])
        width *= 2
    return largest
