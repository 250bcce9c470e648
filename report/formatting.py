"""The report's figures as text: prices, percentages, trends of small bars, and a symbol's line of all of them.

What comes in: rows of the weekly performance, floats as they were stored or computed. What goes out: text that is right
to the last digit and the same in HTML, in plain text and in the CSV. Pure; and never decides which symbols are shown.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Literal

import pandas as pd

Way = Literal["rise", "fall", "flat"]

UNKNOWN = "–"

_BARS = "▁▂▃▄▅▆▇█"
_TREND_CELLS, _HISTORY_CELLS = 10, 20
_ARROWS: dict[Way, str] = {"rise": "▲", "fall": "▼", "flat": " "}
_HEADING = ["Symbol", "Close", "Week", "Range", "Low", "High", "Volat.", "Volume", "Trend"]
_CSV_DIGITS = {"return_pct": 2, "range_pct": 2, "avg_volatility": 2, "volume": 0, "volume_ratio": 2}


@dataclass(frozen=True)
class Line:
    """One symbol as the report shows it; ``trend`` is short, ``history`` longer, ``closes`` in words."""

    symbol: str
    partial: bool
    way: Way
    arrow: str
    close: str
    change: str
    spread: str
    high: str
    low: str
    volatility: str
    volume: str
    trend: str
    history: str
    closes: str


def line(row: Mapping[Hashable, Any], week_sessions: int) -> Line:
    """A symbol's line.

    Parameters
    ----------
    row : mapping
        A row of the weekly performance.
    week_sessions : int
        How many sessions the week has; a symbol that traded in fewer is marked as partial.

    Returns
    -------
    Line
    """
    direction, closes = way(row["return_pct"]), row["closes"]
    ends = f"{len(closes)} closes, from {price(closes[0])} to {price(closes[-1])}" if len(closes) > 1 else "1 close"
    return Line(
        symbol=plain(str(row["symbol"])),
        partial=row["sessions"] < week_sessions,
        way=direction,
        arrow=_ARROWS[direction],
        close=price(row["close"]),
        change=change(row["return_pct"]),
        spread=percent(row["range_pct"]),
        high=price(row["high"]),
        low=price(row["low"]),
        volatility=percent(row["avg_volatility"]),
        volume=times(row["volume_ratio"]),
        trend=trend(closes, _TREND_CELLS),
        history=trend(closes, _HISTORY_CELLS),
        closes=ends,
    )


def text_table(lines: Sequence[Line]) -> list[str]:
    """The lines in columns, a heading first: symbol and trend flush left, the figures between them flush right."""
    rows = [_HEADING]
    for one in lines:
        symbol, moved = f"{one.symbol} *" if one.partial else one.symbol, f"{one.arrow} {one.change}"
        rows.append([symbol, one.close, moved, one.spread, one.low, one.high, one.volatility, one.volume, one.trend])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(_HEADING) - 1
    return [
        "  ".join(
            cell.ljust(width) if n in (0, last) else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def csv_table(performance: pd.DataFrame) -> str:
    """All symbols: figures rounded as in the report, in numbers that a spreadsheet reads; empty where unknown."""
    table = performance.drop(columns="closes")
    for name, digits in _CSV_DIGITS.items():
        table[name] = [fixed(value, digits) for value in table[name]]
    symbols = [plain(str(symbol)) for symbol in table["symbol"]]
    # A spreadsheet would run what begins like a formula.
    table["symbol"] = [f"'{symbol}" if symbol.startswith(("=", "+", "-", "@")) else symbol for symbol in symbols]
    return table.to_csv(index=False, lineterminator="\r\n")


def fixed(value: float, digits: int) -> str:
    """A number with so many decimals, half to even, in ASCII; never ``-0.0``, and nothing for NaN.

    Examples
    --------
    >>> fixed(2.675, 2), fixed(-0.04, 1)
    ('2.68', '0.0')
    """
    return format(_rounded(value, digits), "f") if math.isfinite(value) else ""


def price(value: float) -> str:
    """A price in cents; below a dollar with all of six decimals, or four digits of what is smaller still.

    Examples
    --------
    >>> price(1234.5), price(0.5), price(0.00012)
    ('1,234.50', '0.50', '0.00012')
    """
    if not math.isfinite(value):
        return UNKNOWN
    if abs(value) >= 1 or value == 0:
        return format(_rounded(value, 2), ",f")
    digits = max(6, 3 - _exact(value).adjusted())
    whole, _, decimals = format(_rounded(value, digits), "f").partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def percent(value: float) -> str:
    """A percentage: ``3.19%``."""
    return f"{format(_rounded(value, 2), ',f')}%" if math.isfinite(value) else UNKNOWN


def change(value: float) -> str:
    """A change in percent, with its sign: ``+8.53%``, ``−3.20%``, ``0.00%``."""
    sign = {"rise": "+", "fall": "−", "flat": ""}[way(value)]
    return f"{sign}{percent(abs(value))}"


def way(value: float) -> Way:
    """Which way a change goes, as far as two decimals show."""
    rounded = _rounded(value, 2) if math.isfinite(value) else 0
    return "rise" if rounded > 0 else "fall" if rounded < 0 else "flat"


def times(value: float) -> str:
    """A ratio: ``0.97×``."""
    return f"{format(_rounded(value, 2), ',f')}×" if math.isfinite(value) else UNKNOWN


def trend(values: Sequence[float], cells: int) -> str:
    """Values as a row of small bars, oldest first, from the lowest to the highest.

    Of more values than cells, evenly spaced ones are drawn, the first and the last among them.

    Examples
    --------
    >>> trend([1.0, 2.0, 4.0], 12)
    '▁▃█'
    """
    known = [value for value in values if math.isfinite(value)]
    if len(known) > cells:
        known = [known[round(cell * (len(known) - 1) / (cells - 1))] for cell in range(cells)]
    low, high = min(known, default=0), max(known, default=0)
    if low == high:
        return _BARS[3] * len(known)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in known)


def plain(text: str) -> str:
    """Text in one line: a control character, a line break or a change of writing direction becomes a space."""
    return "".join(c if c.isprintable() else " " for c in text)


def _exact(value: float) -> Decimal:
    """The decimal that a float stands for.

    Twelve digits are more than any price has, and fewer than the noise that binary division leaves behind, which would
    else turn a tie such as 2.675 into 2.67499999999999982.
    """
    return Decimal(f"{value:.12g}")


def _rounded(value: float, digits: int) -> Decimal:
    # Adding zero drops the sign of a negative zero.
    return _exact(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN) + 0
