"""Validation of bars: which can be stored, and which are rejected and why. No bar is dropped, and none is repaired."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from domain.calendar import session_dates
from domain.columns import BarColumns
from domain.errors import EnvelopeError
from domain.models import BAR_COLUMNS, PRICE_COLUMNS, RejectedBar

SYMBOL = re.compile(r"[\x21-\x7e]{1,10}")  # stock_data.symbol is VARCHAR(10)
SYMBOLS = re.compile(rf"{SYMBOL.pattern}(?:\n{SYMBOL.pattern})*")  # one per line
MIN_PRICE, MAX_PRICE = 1e-9, 1e15  # dollars; seven reverse splits have made 4e13, and beyond is no price
MAX_VOLUME = 2.0**63  # stock_data.volume is BIGINT
MAX_REJECTED = 10_000  # of one answer; a symbol has as many sessions in 40 years
MAX_JSON = 20_000  # characters of a rejected bar that is kept; an honest one has 150
MAX_MILLISECONDS = 4e12  # the year 2096; beyond, a timestamp is nonsense rather than a date
PRICES = dict(zip(PRICE_COLUMNS, "ohlc", strict=True))
NUMBERS = {**PRICES, "volume": "v", "stamp": "t"}

Floats = npt.NDArray[np.float64]
Grid = npt.NDArray[np.bool_]


def validate_bars(
    bars: Sequence[Any], wanted: Iterable[date], *, symbol: str | None = None
) -> tuple[pd.DataFrame, list[RejectedBar]]:
    """Separate the bars that can be stored from those that cannot.

    Parameters
    ----------
    bars : sequence of dict
        Bars of one response as the provider sent them: ``o, h, l, c`` prices in dollars, ``v`` shares, ``t``
        milliseconds, and ``T`` the symbol where the response holds many. Of :class:`domain.columns.BarColumns` whole
        columns are validated, and the bars one by one only if any cannot be stored.
    wanted : iterable of date
        The sessions that were asked for.
    symbol : str, optional
        The symbol of all bars, where the response holds one.

    Returns
    -------
    accepted : pandas.DataFrame, shape (n, 7)
        Columns ``symbol`` (str), ``date`` (datetime64[s], the session at midnight), ``open, high, low, close, volume``
        (float64), in the order received.
    rejected : list of RejectedBar
        All others. Of two bars of the same symbol and session the later one counts.

    Raises
    ------
    EnvelopeError
        If more than :data:`MAX_REJECTED` cannot be stored: whatever was answered, it is not what was asked for.
    """
    days = np.array(sorted(wanted), dtype="datetime64[D]")
    if isinstance(bars, BarColumns) and symbol is None and (all_of_them := _accept_columns(bars, days)) is not None:
        return all_of_them, []
    symbols = [symbol] * len(bars) if symbol is not None else _field(bars, "T")
    numbers = {name: _numbers(_field(bars, key)) for name, key in NUMBERS.items()}
    stamp_ok, dates = _sessions(numbers["stamp"])
    named = _named(symbols)
    reasons = _reasons(np.array(named, dtype=bool), numbers, stamp_ok, dates, days)

    names = [name if valid else "" for name, valid in zip(symbols, named, strict=True)]
    accepted = _frame(names, dates, numbers)
    if any(reasons):
        accepted = accepted[[not reason for reason in reasons]]
    repeated = _are_repeated(accepted)
    if repeated.any():
        for position in accepted.index[repeated]:
            reasons[position] = "the provider sent another bar of this symbol and session after it"
        accepted = accepted[~repeated]
    if (count := len(bars) - len(accepted)) > MAX_REJECTED:
        first = next(reason for reason in reasons if reason)
        raise EnvelopeError(
            f"the provider sent {count:,} bars that cannot be stored, more than {MAX_REJECTED:,}: of the first, {first}"
        )
    rejected = [
        RejectedBar(
            symbol=names[position] or as_json(symbols[position]),
            date=dates[position].item() if stamp_ok[position] else None,
            reason=reason,
            bar=as_json(bars[position]),
        )
        for position, reason in enumerate(reasons)
        if reason
    ]
    return accepted.reset_index(drop=True), rejected


def _accept_columns(bars: BarColumns, days: Any) -> pd.DataFrame | None:
    """Return the bars as a frame if all can be stored, by the same rules as one by one; None if any cannot."""
    symbols = bars.columns["T"]
    numbers = {name: bars.columns[key].to_numpy() for name, key in NUMBERS.items()}
    stamp_ok, dates = _sessions(numbers["stamp"])
    named = pc.match_substring_regex(symbols, rf"^{SYMBOL.pattern}$").to_numpy(zero_copy_only=False)
    if any(_reasons(named, numbers, stamp_ok, dates, days)):
        return None
    accepted = _frame(symbols, dates, numbers)
    return None if _are_repeated(accepted).any() else accepted


def _frame(symbols: Any, dates: npt.NDArray[np.datetime64], numbers: dict[str, Floats]) -> pd.DataFrame:
    values = {name: numbers[name] for name in BAR_COLUMNS[2:]}
    return pd.DataFrame({"symbol": pd.array(symbols, dtype="str"), "date": dates.astype("datetime64[s]"), **values})


def _are_repeated(bars: pd.DataFrame) -> Grid:
    """Return which bars have another one of the same symbol and session after them."""
    if bars["symbol"].is_unique or bars["date"].is_unique:  # as of a whole answer, nearly always
        return np.zeros(len(bars), dtype=bool)
    return bars.duplicated(["symbol", "date"], keep="last").to_numpy()


def as_json(value: Any) -> str:
    """Return a rejected value as JSON, or its size if that is too long; a part of it could end in part of a secret."""
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= MAX_JSON else json.dumps(f"{len(text):,} characters, too many to keep")


def _field(bars: Sequence[Any], key: str) -> list[Any]:
    """Return one field of all bars; None where it is absent or the bar is not an object."""
    try:
        return list(map(itemgetter(key), bars))
    except (KeyError, TypeError):
        return [bar.get(key) if isinstance(bar, dict) else None for bar in bars]


def _named(symbols: Sequence[Any]) -> list[bool]:
    """Return whether each symbol can be stored; one match decides for all where every one can, as nearly always."""
    if set(map(type, symbols)) == {str}:
        lines = "\n".join(symbols)
        if lines.count("\n") == len(symbols) - 1 and SYMBOLS.fullmatch(lines):
            return [True] * len(symbols)
    return [isinstance(name, str) and SYMBOL.fullmatch(name) is not None for name in symbols]


def _numbers(values: Sequence[Any]) -> Floats:
    """Return one field of all bars as float64; NaN where it is absent or not a JSON number."""
    if set(map(type, values)) <= {int, float}:
        with suppress(OverflowError):  # an integer of more than 308 digits
            return np.array(values, dtype=np.float64)
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _sessions(stamps: Floats) -> tuple[Grid, npt.NDArray[np.datetime64]]:
    """Return which timestamps can be one, and the sessions of these."""
    stamp_ok = (stamps >= 0) & (stamps <= MAX_MILLISECONDS)
    return stamp_ok, session_dates(np.where(stamp_ok, stamps, 0).astype("int64"))


def _reasons(
    named: Grid, numbers: dict[str, Floats], stamp_ok: npt.NDArray[np.bool_], dates: Any, wanted: Any
) -> list[str]:
    """Return why each bar is rejected, by the first rule it breaks; ``""`` for accepted ones."""
    open_, high, low, close = (numbers[name] for name in PRICES)
    volume = numbers["volume"]
    reasons = [""] * len(named)

    def reject(broken: Any, text: str, **shown: Any) -> None:
        for position in np.flatnonzero(broken):
            values = {name: array[position] for name, array in shown.items()}
            reasons[position] = reasons[position] or text.format(**values)

    reject(~named, "its symbol is not text of 1 to 10 ASCII characters")
    reject(~stamp_ok, "its timestamp is missing or not milliseconds since 1970")
    reject(~np.isin(dates, wanted), "{session} is not a session that was asked for", session=dates)
    for name in PRICES:
        reject(np.isnan(numbers[name]), f"its {name} is missing or not a number")
        reject(
            ~np.isfinite(numbers[name]) | (numbers[name] <= 0),
            f"its {name} {{price}} is not above 0",
            price=numbers[name],
        )
        reject(
            (numbers[name] < MIN_PRICE) | (numbers[name] > MAX_PRICE),
            f"its {name} {{price}} is not from {MIN_PRICE:g} to {MAX_PRICE:g}",
            price=numbers[name],
        )
    top, bottom = np.fmax(open_, close), np.fmin(open_, close)
    reject(high < low, "its high {high} is below its low {low}", high=high, low=low)
    reject(high < top, "its high {high} is below its open or close {top}", high=high, top=top)
    reject(low > bottom, "its low {low} is above its open or close {bottom}", low=low, bottom=bottom)
    reject(np.isnan(volume), "its volume is missing or not a number")
    reject((volume < 0) | (volume >= MAX_VOLUME), "its volume {volume} is not a count of shares", volume=volume)
    return reasons
