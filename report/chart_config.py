"""The candlestick chart of one symbol, as the JSON that QuickChart draws and as a sentence.

What comes in: a symbol and its bars, oldest first, a DataFrame with columns ``date`` (datetime64, the session at
midnight), ``open``, ``high``, ``low``, ``close``, ``volume`` (numbers) and ``rolling_avg`` (mean close of 5 sessions,
NaN where there is none). What goes out: plain Chart.js JSON without JavaScript or plugins, so that the hosted
QuickChart and every self-hosted one draw it. This module is pure: it never asks anyone to draw.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pandas as pd

CHART_SESSIONS = 30

# CSS pixels, drawn twice as fine. On a phone the picture is 343 wide: hence the size of its letters.
WIDTH, HEIGHT = 560, 320
# Blue and orange stay apart for every common kind of colour blindness; red and green do not.
RISE, FALL, UNCHANGED = "#0072B2", "#D55E00", "#666666"
AVERAGE, VOLUME, INK, PALE_INK, GRID = "#8A8A8A", "#D3DCE5", "#222222", "#666666", "#EBEBEB"

_PRICES = ["open", "high", "low", "close"]
_VOLUME_SHARE = 0.2  # of the height, at the bottom
_DATES, _TICKS = 6, 6  # labels on the axes, about


def chart_request(symbol: str, bars: pd.DataFrame, *, version: Literal["2.9.4", "4"] = "2.9.4") -> dict[str, Any]:
    """The body of QuickChart's ``POST /chart`` for one symbol.

    A candle is two floating bars, ``[low, high]`` thin and ``[open, close]`` wide, on two x axes laid over each other;
    one axis would put them side by side. Sessions are categories, so weekends leave no gap.

    Parameters
    ----------
    symbol : str
        Shown in the title.
    bars : pandas.DataFrame
        The symbol's bars; the last 30 sessions that have all four prices are drawn.
    version : {"2.9.4", "4"}
        The Chart.js that draws it: the service's default, or the one after the rewrite of its options.

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
    chart = {
        "type": "bar",
        "data": {"labels": _labels(bars["date"]), "datasets": _datasets(bars)},
        "options": {
            "legend": {"display": False},
            "title": {
                "display": True,
                "text": f"{symbol}  ${price_text(last['close'])}",
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
        "version": version,
        "width": WIDTH,
        "height": HEIGHT,
        "devicePixelRatio": 2,
        "backgroundColor": "#FFFFFF",
        "format": "png",
        "chart": chart if version == "2.9.4" else _in_words_of_version_4(chart),
    }


def alt_text(symbol: str, bars: pd.DataFrame) -> str:
    """What a symbol's chart shows, in one sentence.

    Parameters
    ----------
    symbol : str
    bars : pandas.DataFrame
        As for :func:`chart_request`.

    Returns
    -------
    str

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
    close, low, high = (price_text(price) for price in (bars["close"].iloc[-1], bars["low"].min(), bars["high"].max()))
    return f"{symbol}, {_span(bars)}: closed at ${close}, between ${low} and ${high}."


def price_text(price: float) -> str:
    """A price as people write it: in cents, and below a dollar with as many digits as it needs.

    Examples
    --------
    >>> price_text(123456.789), price_text(0.00012)
    ('123,456.79', '0.00012')
    """
    return f"{price:,.2f}" if price >= 1 else f"{price:.6f}".rstrip("0").ljust(4, "0")


def _drawable(bars: pd.DataFrame) -> pd.DataFrame:
    """The last sessions with four finite prices, as floats."""
    numbers = bars[[*_PRICES, "volume", "rolling_avg"]].astype(float)
    numbers = numbers.where(numbers.abs() < math.inf).assign(date=bars["date"]).dropna(subset=_PRICES)
    if numbers.empty:
        raise ValueError("no session has all of open, high, low and close")
    return numbers.tail(CHART_SESSIONS)


def _datasets(bars: pd.DataFrame) -> list[dict[str, Any]]:
    """Average, bodies, wicks and volume; Chart.js draws the first on top."""
    opens, highs, lows, closes = (bars[name].tolist() for name in _PRICES)
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
            "minBarLength": 2,  # a session that closed where it opened is a line, not nothing
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
    """A few dates, evenly apart and ending at the last session; the others are empty, so that none overlap."""
    step, last = math.ceil(len(sessions) / _DATES), len(sessions) - 1
    return [_day(session) if (last - n) % step == 0 else "" for n, session in enumerate(sessions)]


def _session_axis(name: str, caption: str = "") -> dict[str, Any]:
    """An x axis of sessions; only the one with a caption is seen."""
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
    """A y axis that fits the prices, with round ticks, above the room that volume takes."""
    low = float(np.nanmin(bars[["low", "rolling_avg"]].to_numpy()))
    high = float(np.nanmax(bars[["high", "rolling_avg"]].to_numpy()))
    spread = max(high - low, high * 0.02) or 1.0  # prices that never moved get an axis of two percent
    bottom = low - spread * _VOLUME_SHARE / (1 - _VOLUME_SHARE)
    power = math.floor(math.log10(spread / _TICKS))
    step = next(step for step in (1, 2, 5, 10) if step * 10.0**power >= spread / _TICKS) * 10.0**power
    # A hair inside its round ends, or Chart.js 2 loses a tick to binary fractions; whole numbers have none.
    digits, hair = max(0, -power), step * 1e-8 if power < 0 else 0.0
    bottom = max(0.0, round(math.floor(bottom / step) * step, digits))
    top = round(math.ceil(high / step + 0.1) * step, digits)
    return {
        "id": "price",
        "type": "linear",
        "position": "right",
        "gridLines": {"color": GRID, "drawBorder": False, "drawTicks": False},
        "ticks": {
            "min": bottom + hair,
            "max": top - hair,
            "stepSize": round(step, digits),
            "padding": 8,
            "fontSize": 14,
            "fontColor": PALE_INK,
        },
    }


def _volume_axis(bars: pd.DataFrame) -> dict[str, Any]:
    """A hidden y axis on which the highest volume takes the lowest part of the height."""
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


def _in_words_of_version_4(chart: dict[str, Any]) -> dict[str, Any]:
    """The same chart with the names that Chart.js gave its options in versions 3 and 4."""
    options = chart["options"]
    scales = {}
    for kind in ("xAxes", "yAxes"):
        for axis in options["scales"][kind]:
            ticks, label = axis["ticks"], axis.get("scaleLabel", {})
            scale = {key: axis[key] for key in ("type", "display", "offset", "position") if key in axis}
            scale |= {key: ticks[key] for key in ("min", "max") if key in ticks}
            scale |= {"axis": kind[0], "grid": axis["gridLines"], "border": {"display": False}}
            scale["ticks"] = {
                key: ticks[key] for key in ("stepSize", "autoSkip", "maxRotation", "padding") if key in ticks
            }
            scale["ticks"] |= _font(ticks)
            scale["title"] = {"display": "labelString" in label, "text": label.get("labelString", ""), **_font(label)}
            scales[axis["id"]] = scale
    title = options["title"]
    plugins = {
        "legend": options["legend"],
        "title": {"display": True, "text": title["text"], "padding": title["padding"], **_font(title)},
    }
    # There, bars stand side by side even when their x axes differ.
    data = chart["data"] | {"datasets": [dataset | {"grouped": False} for dataset in chart["data"]["datasets"]]}
    return {**chart, "data": data, "options": {"layout": options["layout"], "plugins": plugins, "scales": scales}}


def _font(words: dict[str, Any]) -> dict[str, Any]:
    return {"color": words["fontColor"], "font": {"size": words["fontSize"]}} if "fontColor" in words else {}
