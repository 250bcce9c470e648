"""Daily bars in compact read-only arrays: recorded real prices, or synthetic ones.

Prices are integers in ten-thousandths of a dollar. A recorded decimal is therefore exact, and 11,000 symbols over 500
sessions take 132 MB. Splits, the current date and the wire format belong to :mod:`sandbox.history`.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from domain.calendar import last_sessions

RECORDED_FILE = Path(__file__).with_name("data") / "prices.csv.gz"
SYNTHETIC_END = date(2025, 12, 31)
TICKS_PER_DOLLAR = 10_000
NO_BAR = -1
_CENT = TICKS_PER_DOLLAR // 100

Bar = dict[str, Any]
"""One bar in wire format: ``o, h, l, c`` in dollars, ``v`` in shares, optionally ``vw`` and ``n``."""


@dataclass(frozen=True, eq=False)
class BarArrays:
    """Unadjusted bars, one per symbol and session.

    Parameters
    ----------
    symbols : tuple of str
        Sorted; a symbol's position is its column in the arrays.
    sessions : tuple of date
        Ascending; a session's position is its row in the arrays.
    prices : ndarray of int32, shape (4, sessions, symbols)
        Open, high, low and close in ten-thousandths of a dollar.
    volumes : ndarray of int64, shape (sessions, symbols)
        Shares; :data:`NO_BAR` where the symbol did not trade.
    """

    symbols: tuple[str, ...]
    sessions: tuple[date, ...]
    prices: npt.NDArray[np.int32]
    volumes: npt.NDArray[np.int64]

    @cached_property
    def columns(self) -> dict[str, int]:
        """The column of each symbol."""
        return {symbol: place for place, symbol in enumerate(self.symbols)}

    def bars(self, rows: slice | int, columns: slice | int) -> list[Bar | None]:
        """Convert one row or one column to wire format.

        Neither source has the volume-weighted price or the number of trades. ``vw`` is the typical price
        (high + low + close) / 3, and ``n`` is one trade per 100 shares: plausible, but not real.

        Parameters
        ----------
        rows, columns : slice or int
            Positions of sessions and of symbols; exactly one of them is an int.

        Returns
        -------
        list of (dict or None)
            One per position in the slice; None where the symbol did not trade.
        """
        prices, volumes = self.prices[:, rows, columns], self.volumes[rows, columns]
        typical = np.rint(prices[1:].sum(axis=0, dtype=np.int64) / 3)
        o, h, l, c, vw = (np.vstack([prices, typical]) / TICKS_PER_DOLLAR).tolist()  # noqa: E741
        trades = np.maximum(volumes // 100, 1).tolist()
        return [
            None if bar[0] == NO_BAR else dict(zip(("v", "vw", "o", "c", "h", "l", "n"), bar, strict=True))
            for bar in zip(volumes.tolist(), vw, o, c, h, l, trades, strict=True)
        ]


@lru_cache(maxsize=1)
def recorded_bars() -> BarArrays:
    """Read the shipped real prices, once per process.

    They cover AAPL, FB, GOOG, IBM and MSFT, from 2000-03-01 or their listing to 2013-03-01.
    """
    with gzip.open(RECORDED_FILE, "rt", encoding="ascii", newline="") as file:
        rows = list(csv.reader(file))[1:]
    symbols = sorted({row[0] for row in rows})
    days = sorted({row[1] for row in rows})
    column = {symbol: place for place, symbol in enumerate(symbols)}
    row_of = {day: place for place, day in enumerate(days)}
    places = ([row_of[row[1]] for row in rows], [column[row[0]] for row in rows])
    prices = np.zeros((4, len(days), len(symbols)), dtype=np.int32)
    prices[:, *places] = np.rint(np.array([row[2:6] for row in rows], dtype=np.float64).T * TICKS_PER_DOLLAR)
    volumes = np.full((len(days), len(symbols)), NO_BAR, dtype=np.int64)
    volumes[places] = [int(row[6]) for row in rows]
    return _frozen(symbols, [date.fromisoformat(day) for day in days], prices, volumes)


def synthetic_bars(symbols: int, sessions: int, *, seed: int = 0, end: date | None = None) -> BarArrays:
    """Generate random walks on the real NYSE calendar.

    Parameters
    ----------
    symbols : int
        How many; named SYN00000, SYN00001, and so on.
    sessions : int
        How many; every symbol trades in each.
    seed : int, default 0
        The same arguments give the same bars.
    end : date, optional
        The last session is the last one up to this date; default 2025-12-31, so that no clock is read.

    Returns
    -------
    BarArrays
        Prices in whole cents from $0.01 up, with low <= open, close <= high.

    Raises
    ------
    ValueError
        If ``symbols`` or ``sessions`` is less than 1.
    """
    if symbols < 1 or sessions < 1:
        raise ValueError(f"{symbols} symbols over {sessions} sessions: both must be at least 1")
    random = np.random.default_rng(seed)
    shape = (sessions, symbols)
    walk = random.standard_normal(shape, dtype=np.float32)
    walk *= 0.02  # a daily volatility of 2 %
    walk[:1] += np.log(random.uniform(5, 500, symbols)).astype(np.float32)
    np.cumsum(walk, axis=0, out=walk)
    np.clip(np.exp(walk, out=walk), 0.05, 90_000, out=walk)

    prices = np.empty((4, *shape), dtype=np.int32)
    opens, highs, lows, closes = prices
    closes[:] = np.rint(walk * 100)
    opens[:] = np.rint(walk * random.uniform(99, 101, shape).astype(np.float32))
    swing = np.rint(walk * random.uniform(0, 2, shape).astype(np.float32)).astype(np.int32)
    np.maximum(opens, closes, out=highs)
    highs += swing
    np.minimum(opens, closes, out=lows)
    lows -= swing // 2
    np.maximum(prices, 1, out=prices)
    prices *= _CENT
    volumes = random.integers(1_000, 50_000_000, shape)
    names = [f"SYN{number:05d}" for number in range(symbols)]
    return _frozen(names, last_sessions(sessions, (end or SYNTHETIC_END) + timedelta(days=1)), prices, volumes)


def _frozen(
    symbols: list[str], sessions: list[date], prices: npt.NDArray[np.int32], volumes: npt.NDArray[np.int64]
) -> BarArrays:
    prices.flags.writeable = False
    volumes.flags.writeable = False
    return BarArrays(tuple(symbols), tuple(sessions), prices, volumes)
