"""Describe one symbol's candlestick chart, as a QuickChart request and as alt text.

``bars`` is a DataFrame of one symbol, oldest first, with columns ``date`` (datetime64, the session at midnight),
``open``, ``high``, ``low``, ``close``, ``volume`` (numbers) and ``rolling_avg`` (mean close of 5 sessions, NaN where
unknown). The request is plain Chart.js JSON without JavaScript or plugins, so that the hosted QuickChart and every
self-hosted one draw it. Pure; :mod:`report.charts` sends it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from domain.models import PRICE_COLUMNS
from report.formatting import price

CHART_SESSIONS = 30

CHART_JS_VERSION = "2.9.4"  # QuickChart's default
# CSS pixels, drawn at twice the resolution. A phone shows the chart 343 wide, so its letters are large.
WIDTH, HEIGHT = 560, 360
TITLE_SIZE, LABEL_SIZE = 21, 18
# Blue and orange differ for every common kind of color blindness; red and green do not. On white; a page in dark mode
# inverts the lightness of the picture and keeps its hues.
RISE, FALL, UNCHANGED = "#0072B2", "#D55E00", "#666666"
AVERAGE, VOLUME, INK, PALE_INK = "#7A7A7A", "#A3B1BF", "#222222", "#5C6670"
GRID, FLOOR = "#E8EAED", "#B4BBC2"

_DATES, _PRICES = 5, 6  # the most labels per axis
_BAND, _HIGHEST = 2, 1.4  # grid steps of the band of volume below the prices, and of the highest bar in it
_ROUND, _FINELY_ROUND = (1, 2, 2.5, 5, 10), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)  # digits of a grid step
_THOUSANDS = ("", "K", "M", "B", "T")


def chart_request(symbol: str, bars: pd.DataFrame) -> dict[str, Any]:
    """Build the body of QuickChart's ``POST /chart`` for one symbol.

    A candle is two floating bars, a thin ``[low, high]`` and a wide ``[open, close]``, on two x axes laid over each
    other; on one axis they would stand side by side. Sessions are categories, so weekends leave no gap.

    Parameters
    ----------
    symbol : str
        Shown in the title.
    bars : pandas.DataFrame
        As described above; the chart shows the last 30 sessions that have all four prices.

    Returns
    -------
    dict
        Strict JSON: no NaN, no functions.

    Raises
    ------
    ValueError
        If no session has all four prices.

    Examples
    --------
    >>> request = chart_request("GOOG", bars)
    >>> request["chart"]["data"]["datasets"][1]["data"][-1]  # the last session's [open, close]
    [797.8, 806.19]
    """
    bars = _drawable(bars)
    last = bars.iloc[-1]
    chart: dict[str, Any] = {
        "type": "bar",
        "data": {"labels": _labels(bars["date"]), "datasets": _datasets(bars)},
        "options": {
            "legend": {"display": False},
            "title": {
                "display": True,
                "text": f"{symbol}  ${price(last['close'])}",
                "fontSize": TITLE_SIZE,
                "fontColor": INK,
                "padding": 10,
            },
            "layout": {"padding": {"left": 10, "right": 6, "top": 0, "bottom": 4}},
            "scales": {
                "xAxes": [_session_axis("body", display=True), _session_axis("wick"), _session_axis("shares")],
                "yAxes": _value_axes(bars),
            },
        },
    }
    return {
        "version": CHART_JS_VERSION,
        "width": WIDTH,
        "height": HEIGHT,
        "devicePixelRatio": 2,
        "backgroundColor": "#FFFFFF",
        "format": "png",
        "chart": chart,
    }


def alt_text(symbol: str, bars: pd.DataFrame) -> str:
    """Describe a symbol's chart in one sentence.

    Raises
    ------
    ValueError
        If no session has all four prices.

    Examples
    --------
    >>> alt_text("GOOG", bars)
    'GOOG, 30 sessions from Jan 17 to Mar 1, 2013: closed at $806.19, between $695.52 and $808.97.'
    """
    bars = _drawable(bars)
    close, low, high = (price(value) for value in (bars["close"].iloc[-1], bars["low"].min(), bars["high"].max()))
    return f"{symbol}, {_span(bars)}: closed at ${close}, between ${low} and ${high}."


def _drawable(bars: pd.DataFrame) -> pd.DataFrame:
    """Select the last 30 sessions with four finite prices, as floats."""
    numbers = bars[[*PRICE_COLUMNS, "volume", "rolling_avg"]].astype(float)
    numbers = numbers.where(numbers.abs() < math.inf).assign(date=bars["date"]).dropna(subset=PRICE_COLUMNS)
    if numbers.empty:
        raise ValueError("no session has all of open, high, low and close")
    return numbers.tail(CHART_SESSIONS)


def _datasets(bars: pd.DataFrame) -> list[dict[str, Any]]:
    """Build the datasets of average, bodies, wicks and volume; Chart.js draws the first on top."""
    opens, highs, lows, closes = (bars[name].tolist() for name in PRICE_COLUMNS)
    colors = [
        RISE if close > opened else FALL if close < opened else UNCHANGED
        for opened, close in zip(opens, closes, strict=True)
    ]
    wide = {"categoryPercentage": 1, "barPercentage": 0.64, "maxBarThickness": 14}
    return [
        {
            "type": "line",
            "data": _numbers(bars["rolling_avg"]),
            "xAxisID": "body",
            "yAxisID": "price",
            "borderColor": AVERAGE,
            "borderWidth": 1.5,
            "pointRadius": 0,
            "fill": False,
            "lineTension": 0,
            "spanGaps": False,
        },
        {
            "type": "bar",
            "data": [list(ends) for ends in zip(opens, closes, strict=True)],
            "xAxisID": "body",
            "yAxisID": "price",
            "backgroundColor": colors,
            "minBarLength": 2,  # pixels; a session that closed at its open shows as a line
            **wide,
        },
        {
            "type": "bar",
            "data": [list(ends) for ends in zip(lows, highs, strict=True)],
            "xAxisID": "wick",
            "yAxisID": "price",
            "backgroundColor": colors,
            "barThickness": 1.5,
        },
        {
            "type": "bar",
            "data": _numbers(bars["volume"]),
            "xAxisID": "shares",
            "yAxisID": "volume",
            "backgroundColor": VOLUME,
            **wide,
        },
    ]


def _numbers(values: pd.Series[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _day(session: pd.Timestamp) -> str:
    return f"{session:%b} {session.day}"


def _span(bars: pd.DataFrame) -> str:
    first, last = bars["date"].iloc[0], bars["date"].iloc[-1]
    sessions = f"{len(bars)} sessions from {_day(first)} to" if len(bars) > 1 else "1 session on"
    return f"{sessions} {_day(last)}, {last.year}"


def _labels(sessions: pd.Series[pd.Timestamp]) -> list[str]:
    """Label about five sessions, evenly spaced and ending with the last; the other labels are empty."""
    step, last = math.ceil(len(sessions) / _DATES), len(sessions) - 1
    return [_day(session) if (last - n) % step == 0 else "" for n, session in enumerate(sessions)]


def _session_axis(name: str, *, display: bool = False) -> dict[str, Any]:
    return {
        "id": name,
        "type": "category",
        "display": display,
        "offset": True,
        "gridLines": {"display": False},
        "ticks": {"autoSkip": False, "maxRotation": 0, "fontSize": LABEL_SIZE, "fontColor": PALE_INK},
    }


def _value_axes(bars: pd.DataFrame) -> list[dict[str, Any]]:
    """Build the y axes: prices, and below them volume in a band of its own, on one grid of equal steps.

    Chart.js 2 cannot stack axes, and an axis of numbers labels its whole height. So the axes that place prices and
    volume are hidden, and axes of text, with one label per grid line, show the values.
    """
    low = float(np.nanmin(bars[["low", "rolling_avg"]].to_numpy()))
    high = float(np.nanmax(bars[["high", "rolling_avg"]].to_numpy()))
    least = high * 0.02 or 1.0  # constant prices get an axis of two percent
    if high - low < least:
        low, high = max(0.0, low - least / 2), high + least / 2
    step = _round_up((high - low) / _PRICES, _ROUND)
    first, last = math.floor(low / step), math.ceil(high / step + 0.1)
    digits = next(digits for digits in range(20) if round(step, digits) == step)
    prices = [f"{n * step:,.{digits}f}" for n in range(last, first - 1, -1)]
    floor = len(prices) - 1
    most = bars["volume"].max()
    band = _BAND if most > 0 else 0
    shares = _round_up(most / _HIGHEST, _FINELY_ROUND) if band else 1.0  # per step
    labels = [*prices, _count(shares), ""] if band else prices
    colors = [FLOOR if n in (floor, len(labels) - 1) else GRID for n in range(len(labels))]
    title = [*[""] * floor, "Volume" if band else "", *[""] * band]
    # Chart.js takes the first line of a text axis for its zero.
    grid = {"color": colors, "zeroLineColor": GRID, "drawBorder": False, "drawTicks": False}
    return [
        _number_axis("price", (first - band) * step, last * step),
        _number_axis("volume", 0, (floor + band) * shares),
        _text_axis("right", labels, grid, padding=8, fontSize=LABEL_SIZE),
        # Inside the band, on the left below the prices.
        _text_axis(
            "left", title, {"display": False}, mirror=True, labelOffset=LABEL_SIZE * 0.7, fontSize=LABEL_SIZE - 3, z=1
        ),
    ]


def _round_up(value: float, digits: Sequence[float]) -> float:
    """The smallest of `digits` times a power of ten that is not below a positive value."""
    power = math.floor(math.log10(value))
    return next(step for digit in digits if (step := float(f"{digit}e{power}")) >= value * (1 - 1e-9))


def _count(shares: float) -> str:
    """Format a number of shares: ``500``, ``2.5M``."""
    power = min(int(math.log10(shares)) // 3, len(_THOUSANDS) - 1) if shares >= 1 else 0
    return f"{shares / 1000**power:g}{_THOUSANDS[power]}"


def _number_axis(name: str, low: float, high: float) -> dict[str, Any]:
    """Build a hidden y axis that places values."""
    return {"id": name, "type": "linear", "display": False, "ticks": {"min": low, "max": high}}


def _text_axis(side: str, labels: Sequence[str], grid: dict[str, Any], **ticks: float) -> dict[str, Any]:
    """Build a visible y axis that places nothing; its labels go from top to bottom."""
    return {
        "id": side,
        "type": "category",
        "labels": list(labels),
        "position": side,
        "gridLines": grid,
        "ticks": {"autoSkip": False, "fontColor": PALE_INK, **ticks},
    }
