"""Candlesticks and volume as characters, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from rich.text import Text

from report.formatting import price, trend

# Blue and orange differ for every common kind of color blindness; a filled body rises, a shaded one falls, so that a
# chart without colors can be read as well.
RISE, FALL = "#3B9BE0", "#E08A3B"
WICK, RISING, FALLING = "│", "█", "▒"
LABELS = 4  # prices beside the chart
DATE = len("2013-03-01")


class _Candle(NamedTuple):
    """Rows of the chart, counted from its top, that the wick and the body of a session reach."""

    wick: range
    body: range
    rises: bool


def draw_candles(bars: pd.DataFrame, *, width: int, height: int) -> list[Text]:
    """Draw the last sessions that there is room for, a column each, above their volume and their dates.

    Parameters
    ----------
    bars : pandas.DataFrame
        ``date, open, high, low, close, volume`` of one symbol, oldest first; sessions without all prices are left out.
    width : int
        Columns of the terminal.
    height : int
        Rows for the prices.

    Returns
    -------
    list of rich.text.Text
        Lines of at most `width` cells; empty if there is nothing to draw, or no room.
    """
    bars = bars[bars[["open", "high", "low", "close"]].notna().all(axis=1)]
    margin = max((len(price(value)) for value in (*bars["high"], *bars["low"])), default=0) + 2
    gap = " " if len(bars) * 2 <= width - margin else ""  # between candles, if all of them have room for it
    bars = bars.tail(max((width - margin) // (1 + len(gap)), 0))
    if bars.empty or width < margin + DATE:
        return []
    low, high = float(bars["low"].min()), float(bars["high"].max())
    candles = [
        _candle(values, low, high, height)
        for values in bars[["open", "high", "low", "close"]].itertuples(index=False, name=None)
    ]
    lines = [_price_line(row, candles, gap, _label(row, low, high, height).rjust(margin - 1)) for row in range(height)]
    indent = " " * margin
    volumes = trend(bars["volume"].fillna(0).tolist(), len(bars))
    lines.append(Text(indent + gap.join(volumes), style="dim"))
    lines.append(Text(indent + _dates(bars["date"], len(bars) * (1 + len(gap)) - len(gap)), style="dim"))
    return lines


def _candle(values: Sequence[float], low: float, high: float, height: int) -> _Candle:
    def row(value: float) -> int:
        share = (high - value) / (high - low) if high > low else 0.5
        return min(math.floor(share * height), height - 1)

    opened, top, bottom, closed = values
    body = sorted((row(opened), row(closed)))
    return _Candle(range(row(top), row(bottom) + 1), range(body[0], body[1] + 1), closed >= opened)


def _price_line(row: int, candles: Sequence[_Candle], gap: str, label: str) -> Text:
    line = Text(f"{label} ", style="")
    line.stylize("dim")
    for place, candle in enumerate(candles):
        mark = " "
        if row in candle.body:
            mark = RISING if candle.rises else FALLING
        elif row in candle.wick:
            mark = WICK
        line.append(f"{gap if place else ''}{mark}", style=RISE if candle.rises else FALL)
    return line


def _label(row: int, low: float, high: float, height: int) -> str:
    """The price at the middle of a row, for a few rows from top to bottom."""
    labeled = {round(place * (height - 1) / (LABELS - 1)) for place in range(LABELS)}
    return price(high - (row + 0.5) / height * (high - low)) if row in labeled else ""


def _dates(dates: pd.Series[pd.Timestamp], width: int) -> str:
    first, last = f"{dates.iloc[0]:%Y-%m-%d}", f"{dates.iloc[-1]:%Y-%m-%d}"
    return f"{first}{last.rjust(width - len(first))}" if width > len(first) + len(last) else last.rjust(width)
