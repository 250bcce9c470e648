"""Write the report's notices: sentences on closed days, missing, rejected and changed bars, and splits of the week.

Each function returns plain-text sentences, and limits their number and length, so that a mail stays short however many
symbols there are. `sessions` are the week's, ascending. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from domain.calendar import week_start
from domain.models import PRICE_COLUMNS, WHOLE_HISTORIES
from report.formatting import price

if TYPE_CHECKING:
    from domain.models import Revision, Split

NAMED = 8  # symbols named in one sentence; further ones are counted
LISTED = 10  # sentences on rejected bars, on splits and on changed bars; further ones are counted
REASON_LENGTH = 200  # characters


def closures(sessions: Sequence[date]) -> list[str]:
    """Name the weekdays on which the exchange was closed, in at most one sentence.

    Examples
    --------
    >>> closures([date(2012, 10, 31), date(2012, 11, 1), date(2012, 11, 2)])
    ['The exchange was closed on Monday and Tuesday.']
    """
    monday = week_start(sessions[0])
    weekdays = [monday + timedelta(days=n) for n in range(5)]
    closed = [_weekday(day) for day in weekdays if day not in sessions]
    return [f"The exchange was closed on {_listed(closed)}."] if closed else []


def absences(
    sessions: Sequence[date], symbols: Iterable[str], history: pd.DataFrame, rejected: Iterable[tuple[str, date]] = ()
) -> list[str]:
    """Name the symbols that lack bars, as in ``"IBM has no bar for Friday."``.

    Symbols that lack the same bars share a sentence; those that lack the most come first.

    Parameters
    ----------
    symbols : iterable of str
        The symbols that should have bars.
    history : pandas.DataFrame
        ``symbol, date`` of the stored rows, of the week and before it.
    rejected : iterable of (str, datetime.date)
        Bars that :func:`rejections` reports; they are not reported as missing too.
    """
    week = history[history["date"] >= pd.Timestamp(sessions[0])]
    stored: dict[str, set[date]] = {}
    for symbol, day in zip(week["symbol"], week["date"].dt.date, strict=True):
        stored.setdefault(symbol, set()).add(day)
    reported = set(rejected)
    lacking: dict[tuple[date, ...], list[str]] = {}
    for symbol in symbols:
        present = stored.get(symbol, set())
        missing = tuple(day for day in sessions if day not in present and (symbol, day) not in reported)
        if missing:
            lacking.setdefault(missing, []).append(symbol)
    sentences = []
    for missing, names in sorted(lacking.items(), key=lambda item: (-len(item[0]), item[0])):
        have = "has" if len(names) == 1 else "have"
        if len(missing) < len(sessions):
            sentences.append(f"{_listed(names)} {have} no bar for {_listed([_weekday(day) for day in missing])}.")
            continue
        earlier = history.loc[history["symbol"] == names[0], "date"]
        known = len(names) == 1 and not earlier.empty
        last = f"; its last is from {earlier.max().day} {earlier.max():%B %Y}" if known else ""
        sentences.append(f"{_listed(names)} {have} no bar this week{last}.")
    return sentences


def rejections(rejected: Sequence[tuple[str, date, str]]) -> list[str]:
    """Report rejected bars, given as symbol, session and reason."""
    sentences = [
        f"The bar of {symbol} for {_weekday(day)} was rejected: {reason[:REASON_LENGTH]}."
        for symbol, day, reason in rejected[:LISTED]
    ]
    if (more := len(rejected) - LISTED) > 0:
        sentences.append(f"{more:,} more {'bar was' if more == 1 else 'bars were'} rejected.")
    return sentences


def splits(known: Sequence[tuple[Split, bool]]) -> list[str]:
    """Report splits, each with whether the stored history is already adjusted for it."""
    endings = {
        True: "all its prices are adjusted for the split",
        False: "its prices are not adjusted for the split yet, and later ones are missing",
    }
    sentences = [
        f"{split.symbol} split {split.split_to:g} for {split.split_from:g} on {_weekday(split.execution_date)};"
        f" {endings[adjusted]}."
        for split, adjusted in known[:LISTED]
    ]
    if (more := len(known) - LISTED) > 0:
        sentences.append(f"{more:,} more {'symbol' if more == 1 else 'symbols'} split this week.")
    return sentences


def revisions(changes: Sequence[Revision], sessions: Sequence[date], split: Collection[str] = ()) -> list[str]:
    """Report stored bars that changed: ``"IBM's close of Tuesday was corrected from 201.09 to 204.50 on Wednesday."``.

    A change that no figure of a report shows is left out.

    Parameters
    ----------
    changes : sequence of Revision
    sessions : sequence of datetime.date
        The week's. Days of this week are named by their weekday, others by their date.
    split : collection of str
        Symbols whose restatement :func:`splits` reports.
    """
    monday = week_start(sessions[0])

    def named(day: date) -> str:
        return _weekday(day) if monday <= day < monday + timedelta(days=7) else f"{day.day} {day:%B %Y}"

    told = [
        sentence
        for change in changes
        if (sentence := _revision(change, named(change.session), named(change.as_of)))
        and not (change.cause in WHOLE_HISTORIES and change.symbol in split)
    ]
    told = list(dict.fromkeys(told))  # a history that was restated twice in a day is reported once
    if (more := len(told) - LISTED) > 0:
        told[LISTED:] = [f"{more:,} more {'change' if more == 1 else 'changes'} of stored prices."]
    return told


def _revision(change: Revision, session: str, made: str) -> str | None:
    """Report one change; None if the report's figures do not show it."""
    if change.cause in WHOLE_HISTORIES:
        return f"All prices of {change.symbol} were restated on {made}."
    *_, before = old = [_price(value) for value in change.old]
    *_, after = new = [_price(value) for value in change.new]
    if change.cause == "appeared":
        return f"{change.symbol}'s bar of {session} appeared on {made}, with a close of {after}."
    if change.cause == "withdrawn":
        return f"{change.symbol}'s bar of {session}, with a close of {before}, was withdrawn on {made}."
    corrected = [
        (name, f"from {one} to {other}")
        for name, one, other in zip(PRICE_COLUMNS, old, new, strict=True)
        if one != other
    ]
    if len(corrected) == 1:
        name, values = corrected[0]
        return f"{change.symbol}'s {name} of {session} was corrected {values} on {made}."
    listed = _listed([f"{name} {values}" for name, values in corrected]) if corrected else None
    return listed and f"{change.symbol}'s bar of {session} was corrected on {made}: {listed}."


def _price(value: float | None) -> str:
    return price(math.nan if value is None else value)


def _weekday(day: date) -> str:
    return f"{day:%A}"


def _listed(names: Sequence[str]) -> str:
    """Join names as ``A, B and C``; of many, name the first and count the others."""
    if len(names) > NAMED:
        return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
