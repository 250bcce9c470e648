"""Format the report's numbers: prices, percentages, ratios and trends, one table row per symbol.

HTML, plain text, CSV and charts share these functions, so that one value reads the same everywhere. Numbers are rounded
half to even, as exact decimal arithmetic would. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Literal

import pandas as pd

Direction = Literal["rise", "fall", "flat"]

UNKNOWN = "–"

_BARS = "▁▂▃▄▅▆▇█"
_TREND_CELLS, _HISTORY_CELLS = 10, 20
_ARROWS: dict[Direction, str] = {"rise": "▲", "fall": "▼", "flat": " "}
_HEADING = ["Symbol", "Close", "Week", "Range", "Low", "High", "Volat.", "Volume", "Trend"]
_CSV_DIGITS = {"return_pct": 2, "range_pct": 2, "avg_volatility": 2, "volume": 0, "volume_ratio": 2}


@dataclass(frozen=True)
class Row:
    """One symbol's row of the report, as text.

    ``trend`` draws the last 30 closes in 10 cells and ``history`` in 20; ``closes`` describes them.
    """

    symbol: str
    partial: bool
    direction: Direction
    arrow: str
    close: str
    change: str
    price_range: str
    high: str
    low: str
    volatility: str
    volume: str
    trend: str
    history: str
    closes: str


def table_row(figures: Mapping[Hashable, Any], week_sessions: int) -> Row:
    """Format one row of the weekly performance.

    A symbol that traded in fewer than `week_sessions` sessions is marked as partial.
    """
    closes = figures["closes"]
    ends = f"{len(closes)} closes, from {price(closes[0])} to {price(closes[-1])}" if len(closes) > 1 else "1 close"
    return Row(
        symbol=single_line(str(figures["symbol"])),
        partial=figures["sessions"] < week_sessions,
        direction=direction(figures["return_pct"]),
        arrow=_ARROWS[direction(figures["return_pct"])],
        close=price(figures["close"]),
        change=change(figures["return_pct"]),
        price_range=percent(figures["range_pct"]),
        high=price(figures["high"]),
        low=price(figures["low"]),
        volatility=percent(figures["avg_volatility"]),
        volume=ratio(figures["volume_ratio"]),
        trend=trend(closes, _TREND_CELLS),
        history=trend(closes, _HISTORY_CELLS),
        closes=ends,
    )


def text_table(rows: Sequence[Row]) -> list[str]:
    """Align rows in columns below a heading: symbol and trend flush left, numbers flush right."""
    lines = [_HEADING]
    for row in rows:
        symbol, change = f"{row.symbol} *" if row.partial else row.symbol, f"{row.arrow} {row.change}"
        lines.append(
            [symbol, row.close, change, row.price_range, row.low, row.high, row.volatility, row.volume, row.trend]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    last = len(_HEADING) - 1
    return [
        "  ".join(
            cell.ljust(width) if n in (0, last) else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def csv_table(performance: pd.DataFrame) -> str:
    """Write all symbols as CSV, rounded as in the report; an unknown number is an empty cell."""
    table = performance.drop(columns="closes")
    for name, digits in _CSV_DIGITS.items():
        table[name] = [decimal_text(value, digits) for value in table[name]]
    symbols = [single_line(str(symbol)) for symbol in table["symbol"]]
    # A spreadsheet would run a cell that begins like a formula; a leading quote makes it text.
    table["symbol"] = [f"'{symbol}" if symbol.startswith(("=", "+", "-", "@")) else symbol for symbol in symbols]
    return table.to_csv(index=False, lineterminator="\r\n")


def decimal_text(value: float, digits: int) -> str:
    """Format a number with `digits` decimals, in ASCII; empty for NaN and infinity, never ``-0.0``.

    Examples
    --------
    >>> decimal_text(2.675, 2), decimal_text(-0.04, 1)
    ('2.68', '0.0')
    """
    return format(_rounded(value, digits), "f") if math.isfinite(value) else ""


def price(value: float) -> str:
    """Format a price: in cents, below a dollar with six decimals or four significant digits, without trailing zeros.

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
    """Format a percentage: ``3.19%``."""
    return f"{format(_rounded(value, 2), ',f')}%" if math.isfinite(value) else UNKNOWN


def change(value: float) -> str:
    """Format a change in percent with its sign: ``+8.53%``, ``−3.20%``, ``0.00%``."""
    sign = {"rise": "+", "fall": "−", "flat": ""}[direction(value)]
    return f"{sign}{percent(abs(value))}"


def direction(value: float) -> Direction:
    """The direction of a change, as its two decimals show it."""
    rounded = _rounded(value, 2) if math.isfinite(value) else 0
    return "rise" if rounded > 0 else "fall" if rounded < 0 else "flat"


def ratio(value: float) -> str:
    """Format a ratio: ``0.97×``."""
    return f"{format(_rounded(value, 2), ',f')}×" if math.isfinite(value) else UNKNOWN


def trend(values: Sequence[float], cells: int) -> str:
    """Draw values as a row of small bars, oldest first, scaled from the lowest to the highest.

    If there are more values than cells, evenly spaced ones are drawn, always with the first and the last.

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


def single_line(text: str) -> str:
    """Replace control characters, line breaks and changes of writing direction by spaces."""
    return "".join(c if c.isprintable() else " " for c in text)


def _exact(value: float) -> Decimal:
    """The decimal that a float stands for.

    Twelve significant digits hold any price, and drop the noise of binary division, which would turn a tie such as
    2.675 into 2.67499999999999982.
    """
    return Decimal(f"{value:.12g}")


def _rounded(value: float, digits: int) -> Decimal:
    # Adding zero turns a negative zero into zero.
    return _exact(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN) + 0
