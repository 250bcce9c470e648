"""Describe one symbol's candlestick chart, as a QuickChart request and as alt text.

``bars`` is a DataFrame of one symbol, oldest first, with columns ``date`` (datetime64, the session at midnight),
``open``, ``high``, ``low``, ``close``, ``volume`` (numbers) and ``rolling_avg`` (mean close of 5 sessions, NaN where
unknown). The request is plain Chart.js JSON without JavaScript or plugins, so that the hosted QuickChart and every
self-hosted one draw it. Pure; :mod:`report.charts` sends it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from domain.models import PRICE_COLUMNS
from report.formatting import price

CHART_SESSIONS = 30

CHART_JS_VERSION = "2.9.4"  # QuickChart's default
# CSS pixels, drawn at twice the resolution. A phone shows the chart 343 wide, so its letters are large.
WIDTH, HEIGHT = 560, 320
# Blue and orange differ for every common kind of color blindness; red and green do not.
RISE, FALL, UNCHANGED = "#0072B2", "#D55E00", "#666666"
AVERAGE, VOLUME, INK, PALE_INK, GRID = "#8A8A8A", "#D3DCE5", "#222222", "#666666", "#EBEBEB"

_VOLUME_SHARE = 0.2  # of the height, at the bottom
_DATES, _TICKS = 6, 6  # approximate number of labels per axis


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
                "fontSize": 18,
                "fontColor": INK,
                "padding": 8,
            },
            "layout": {"padding": {"left": 10, "right": 6, "top": 0, "bottom": 4}},
            "scales": {
                "xAxes": [_session_axis("body", _caption(bars)), _session_axis("wick"), _session_axis("shares")],
                "yAxes": [_price_axis(bars), _volume_axis(bars)],
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


def _caption(bars: pd.DataFrame) -> str:
    last = bars["date"].iloc[-1]
    span = f"{len(bars)} sessions to {_day(last)}, {last.year}" if len(bars) > 1 else _span(bars)
    average = "  ·  line: 5-session average" if bars["rolling_avg"].count() > 1 else ""
    return span + average + ("  ·  grey: volume" if bars["volume"].any() else "")


def _labels(sessions: pd.Series[pd.Timestamp]) -> list[str]:
    """Label about six sessions, evenly spaced and ending with the last; the other labels are empty."""
    step, last = math.ceil(len(sessions) / _DATES), len(sessions) - 1
    return [_day(session) if (last - n) % step == 0 else "" for n, session in enumerate(sessions)]


def _session_axis(name: str, caption: str = "") -> dict[str, Any]:
    """Build an x axis of sessions; only an axis with a caption is visible."""
    return {
        "id": name,
        "type": "category",
        "display": bool(caption),
        "offset": True,
        "gridLines": {"display": False},
        "scaleLabel": {"display": True, "labelString": caption, "fontSize": 13, "fontColor": PALE_INK},
        "ticks": {"autoSkip": False, "maxRotation": 0, "fontSize": 14, "fontColor": PALE_INK},
    }


def _price_axis(bars: pd.DataFrame) -> dict[str, Any]:
    """Build a y axis that fits the prices, with round ticks, and leaves room for volume below them."""
    low = float(np.nanmin(bars[["low", "rolling_avg"]].to_numpy()))
    high = float(np.nanmax(bars[["high", "rolling_avg"]].to_numpy()))
    spread = max(high - low, high * 0.02) or 1.0  # constant prices get an axis of two percent
    bottom = low - spread * _VOLUME_SHARE / (1 - _VOLUME_SHARE)
    power = math.floor(math.log10(spread / _TICKS))
    step = next(step for step in (1, 2, 5, 10) if step * 10.0**power >= spread / _TICKS) * 10.0**power
    # Chart.js 2 loses a tick to binary fractions unless the axis ends slightly inside its round ends.
    digits, inset = max(0, -power), step * 1e-8 if power < 0 else 0.0
    bottom = max(0.0, round(math.floor(bottom / step) * step, digits))
    top = round(math.ceil(high / step + 0.1) * step, digits)
    return {
        "id": "price",
        "type": "linear",
        "position": "right",
        "gridLines": {"color": GRID, "drawBorder": False, "drawTicks": False},
        "ticks": {
            "min": bottom + inset,
            "max": top - inset,
            "stepSize": round(step, digits),
            "padding": 8,
            "fontSize": 14,
            "fontColor": PALE_INK,
        },
    }


def _volume_axis(bars: pd.DataFrame) -> dict[str, Any]:
    """Build a hidden y axis on which the highest volume takes a fifth of the height."""
    volume = bars["volume"].max()
    top = volume / _VOLUME_SHARE if volume > 0 else 1.0
    return {
        "id": "volume",
        "type": "linear",
        "display": False,
        "position": "left",
        "gridLines": {"display": False},
        "ticks": {"min": 0, "max": top},
    }
