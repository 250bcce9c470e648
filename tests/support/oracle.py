"""An independent calculation of what ``stock_data`` must hold, bar by bar in decimal arithmetic.

It shares no code with the project. Its only inputs are the shipped prices and the three splits of that time.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

PRICES = Path(__file__).parents[2] / "sandbox" / "data" / "prices.csv.gz"
SPLITS = [
    ("AAPL", date(2000, 6, 21), 1, 2),
    ("MSFT", date(2003, 2, 18), 1, 2),
    ("AAPL", date(2005, 2, 28), 1, 2),
]
PLACES = Decimal("0.000001")


class Bar(NamedTuple):
    """A bar as traded, unadjusted."""

    symbol: str
    session: date
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class Row(NamedTuple):
    """A row of ``stock_data``."""

    symbol: str
    session: date
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    volatility: Decimal
    rolling_avg: Decimal | None
    daily_pct_change: Decimal | None


@lru_cache(maxsize=1)
def recorded_bars() -> tuple[Bar, ...]:
    """All shipped bars, unadjusted."""
    with gzip.open(PRICES, "rt", newline="") as lines:
        return tuple(
            Bar(
                line["symbol"],
                date.fromisoformat(line["date"]),
                *(Decimal(line[name]) for name in ("open", "high", "low", "close", "volume")),
            )
            for line in csv.DictReader(lines)
        )


def adjusted(bars: Iterable[Bar], today: date, splits: Iterable[tuple[str, date, int, int]] = SPLITS) -> list[Bar]:
    """Adjust bars for splits: each split up to `today` scales all bars before it."""
    known = [split for split in splits if split[1] <= today]
    result = []
    for bar in bars:
        old, new = 1, 1
        for symbol, execution, split_from, split_to in known:
            if symbol == bar.symbol and bar.session < execution:
                old, new = old * split_from, new * split_to
        if old == new:
            result.append(bar)
            continue
        open_, high, low, close = ((price * old / new).quantize(PLACES, ROUND_HALF_EVEN) for price in bar[2:6])
        result.append(Bar(bar.symbol, bar.session, open_, high, low, close, bar.volume * new / old))
    return result


def table(bars: Iterable[Bar]) -> list[Row]:
    """The rows of ``stock_data`` for these bars, sorted by symbol and session."""
    rows: list[Row] = []
    closes: dict[str, list[Decimal]] = {}
    for bar in sorted(bars):
        history = closes.setdefault(bar.symbol, [])
        history.append(bar.close)
        volatility = (bar.high - bar.low) / bar.close * 100
        average = sum(history[-5:], Decimal(0)) / 5 if len(history) >= 5 else None
        change = (history[-1] - history[-2]) / history[-2] * 100 if len(history) >= 2 else None
        rows.append(
            Row(
                *bar[:6],
                volume=int(bar.volume.quantize(Decimal(1), ROUND_HALF_EVEN)),
                volatility=volatility.quantize(PLACES, ROUND_HALF_EVEN),
                rolling_avg=None if average is None else average.quantize(PLACES, ROUND_HALF_EVEN),
                daily_pct_change=None if change is None else change.quantize(PLACES, ROUND_HALF_EVEN),
            )
        )
    return rows


def week_figures(bars: Iterable[Bar], first: date) -> dict[str, str]:
    """The figures that a report must show for a symbol, as text.

    Parameters
    ----------
    bars : iterable of Bar
        Adjusted bars of one symbol up to the week's last session, oldest first; the last 30 count.
    first : datetime.date
        The week's first session.
    """
    recent = list(bars)[-30:]
    week = [bar for bar in recent if bar.session >= first]
    high, low = max(bar.high for bar in week), min(bar.low for bar in week)
    change = cents((week[-1].close - week[0].open) / week[0].open * 100)
    volume = Decimal(sum(bar.volume for bar in week)) / len(week)
    usual = Decimal(sum(bar.volume for bar in recent)) / len(recent)
    return {
        "close": f"{cents(week[-1].close):,}",
        "change": f"{'+' if change > 0 else '−' if change < 0 else ''}{abs(change):,}%",
        "range": f"{cents((high - low) / low * 100):,}%",
        "low": f"{cents(low):,}",
        "high": f"{cents(high):,}",
        "volatility": f"{cents(sum(((b.high - b.low) / b.close * 100 for b in week), Decimal(0)) / len(week))}%",
        "volume": f"{cents(volume / usual):,}×",
    }


def cents(value: Decimal) -> Decimal:
    """Round to two decimals, half to even, without a negative zero."""
    return value.quantize(Decimal("0.01"), ROUND_HALF_EVEN) + 0
