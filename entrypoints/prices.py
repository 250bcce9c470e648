"""The stored prices of one symbol: its last bars, splits, corrections and rejected bars."""

from __future__ import annotations

import difflib
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, Engine

import utils
from config import redact
from domain.errors import DataError, DeliveryError
from entrypoints.candlesticks import draw_candles
from entrypoints.status import BarChange, Rejected, bar_change
from entrypoints.status_view import GAP, change_line, fitting_columns
from report.charts import CHART_SESSIONS, fetch_charts
from report.formatting import change, direction, percent, price
from storage.engine import redacted_url

CHART_HEIGHT = 14
NAMED = 5  # symbols in a message
COLORS = {"rise": "#3B9BE0", "fall": "#E08A3B", "flat": "default"}
DROPPED = ("avg 5", "range", "open", "volume", "high", "low")  # columns in the order in which they give way
THOUSANDS = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


class SplitState(TypedDict):
    """A split; ``is_adjusted`` says whether stored history is adjusted for it."""

    date: str
    split_from: float
    split_to: float
    is_adjusted: bool


class SymbolPrices(TypedDict):
    """What ``main.py show`` shows; JSON-serializable. A bar has the columns of ``stock_data``; dates are ISO dates."""

    symbol: str
    bars: list[dict[str, Any]]  # oldest first
    splits: list[SplitState]
    changes: list[BarChange]  # of the bars shown, oldest first
    rejected: list[Rejected]


def read_prices(engine: Engine, symbol: str, days: int) -> tuple[SymbolPrices, pd.DataFrame]:
    """Read the last bars of a symbol, and what became of them. Nothing is written.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    symbol : str
    days : int
        How many sessions, at least 1.

    Returns
    -------
    prices : SymbolPrices
    bars : pandas.DataFrame
        The bars as :func:`utils.read_table` returns them.

    Raises
    ------
    DataError
        If nothing is stored of the symbol; the message names symbols that look like it.
    """
    with utils.reading_prices(engine) as connection:
        bars = utils.no_history() if connection is None else utils.read_table(connection, [symbol])
        if bars.empty:
            raise DataError(_unknown(engine, connection, symbol))
    bars = bars.tail(days).reset_index(drop=True)
    prices: SymbolPrices = {
        "symbol": symbol,
        "bars": [_json_bar(bar) for bar in bars.to_dict("records")],
        "splits": [],
        "changes": [],
        "rejected": [],
    }
    first, last = bars["date"].iloc[0].date(), bars["date"].iloc[-1].date()
    with utils.reading(engine) as connection:
        if connection is not None:
            splits = utils.read_splits(connection, [symbol], first, date.max)
            prices["splits"] = [
                {
                    "date": str(split.execution_date),
                    "split_from": split.split_from,
                    "split_to": split.split_to,
                    "is_adjusted": is_adjusted,
                }
                for split, is_adjusted in splits
            ]
            prices["changes"] = [bar_change(each) for each in utils.read_revisions(connection, [symbol], first, last)]
            rejected = utils.read_rejected(connection, [symbol], first, date.max)
            prices["rejected"] = [{"symbol": name, "session": str(day), "reason": why} for name, day, why in rejected]
    return prices, bars


def _unknown(engine: Engine, connection: Connection | None, symbol: str) -> str:
    stored = [] if connection is None else utils.read_stored_symbols(connection)
    place = redacted_url(engine)
    if not stored:
        return f"{place} holds no prices yet: run initialize first"
    near = [symbol.upper()] if symbol.upper() in stored else difflib.get_close_matches(symbol.upper(), stored)
    advice = f"did you mean {' or '.join(near)}?" if near else f"stored are {', '.join(stored[:NAMED])}"
    return f"{symbol!r} is not stored in {place}; {advice}{', …' if not near and len(stored) > NAMED else ''}"


def _json_bar(bar: dict[Any, Any]) -> dict[str, Any]:
    values = {name: None if pd.isna(value) else value for name, value in bar.items()}
    return {**values, "date": str(bar["date"].date()), "volume": None if pd.isna(bar["volume"]) else int(bar["volume"])}


def save_picture(engine: Engine, symbol: str, *, url: str, folder: Path) -> Path:
    """Draw the last sessions of a symbol into a folder, as the report draws them, and return the picture's path.

    Raises
    ------
    DeliveryError
        If the chart service at `url` does not draw it.
    """
    _, bars = read_prices(engine, symbol, CHART_SESSIONS)
    charts, warnings = fetch_charts(bars, url=url, mask=redact)
    if not charts:
        raise DeliveryError(warnings[0])
    path = folder.absolute() / f"{symbol}-{bars['date'].iloc[-1]:%Y-%m-%d}.png"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(charts[0].png)
    return path


def show_prices(console: Console, prices: SymbolPrices, bars: pd.DataFrame) -> None:
    """Print a candlestick chart of the bars, the bars with their metrics, and what became of them."""
    for line in draw_candles(bars, width=console.width, height=CHART_HEIGHT):
        console.print(line)
    console.print(_table(bars, console.width))
    for split in prices["splits"]:
        adjusted = "stored history is adjusted" if split["is_adjusted"] else "stored history will be read again"
        console.print(f"Split on {split['date']}: {split['split_from']:g} for {split['split_to']:g}; {adjusted}.")
    for each in prices["changes"]:
        console.print(change_line(each), markup=False)
    for rejected in prices["rejected"]:
        console.print(f"{rejected['session']} was rejected: {rejected['reason']}", markup=False)


def _table(bars: pd.DataFrame, width: int) -> Table:
    """Make a table of the bars, with as many columns as there is room for."""
    columns = {
        "date": [f"{day:%Y-%m-%d}" for day in bars["date"]],
        **{name: [price(value) for value in bars[name]] for name in ("open", "high", "low", "close")},
        "change": [change(value) for value in bars["daily_pct_change"]],
        "volume": [_shares(value) for value in bars["volume"]],
        "range": [percent(value) for value in bars["volatility"]],
        "avg 5": [price(value) for value in bars["rolling_avg"]],
    }
    columns = fitting_columns(columns, DROPPED, width)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, GAP, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name == "date" else "right", no_wrap=True)
    colors = [COLORS[direction(value)] for value in bars["daily_pct_change"]]
    for row, color in enumerate(colors):
        cells = {name: columns[name][row] for name in columns}
        if "change" in cells:
            cells["change"] = f"[{color}]{cells['change']}[/{color}]"
        table.add_row(*cells.values())
    return table


def _shares(volume: float) -> str:
    """Format a number of shares in three or four digits: ``12.3M``."""
    if pd.isna(volume):
        return "–"
    scale, letter = next(((scale, letter) for scale, letter in THOUSANDS if volume >= scale), (1.0, ""))
    return f"{volume / scale:.1f}{letter}" if letter else f"{volume:.0f}"
