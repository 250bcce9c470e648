"""What the report says of a week that is not as usual: sentences on what is missing, stale, rejected or split.

What comes in: the week's sessions, the symbols that were asked for, their stored rows, and what was rejected and split.
What goes out: sentences in plain text, few enough for a mail however many symbols there are. Pure; this module never
looks anything up, and never says what happened outside the week.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from domain.calendar import week_start

if TYPE_CHECKING:
    from domain.models import Split

NAMED = 8  # symbols in a sentence; of more, these and a count
LISTED = 10  # sentences on rejected bars, and on splits; of more, these and a count
REASON = 200  # characters


def closures(sessions: Sequence[date]) -> list[str]:
    """On which weekdays the exchange was closed, in a sentence; nothing of a full week.

    Parameters
    ----------
    sessions : sequence of datetime.date
        The week's, ascending.

    Returns
    -------
    list of str

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
    """Which symbols lack which bars, as in ``"IBM has no bar of Friday."``.

    Parameters
    ----------
    sessions : sequence of datetime.date
        The week's, ascending.
    symbols : iterable of str
        Those that should have bars.
    history : pandas.DataFrame
        ``symbol, date`` of the stored rows, the week's and earlier ones.
    rejected : iterable of (str, datetime.date)
        Bars whose absence is told by :func:`rejections`.

    Returns
    -------
    list of str
        One for all symbols that lack the same bars, those that lack all of them first.
    """
    week = history[history["date"] >= pd.Timestamp(sessions[0])]
    stored: dict[str, set[date]] = {}
    for symbol, day in zip(week["symbol"], week["date"].dt.date, strict=True):
        stored.setdefault(symbol, set()).add(day)
    told = set(rejected)
    lacking: dict[tuple[date, ...], list[str]] = {}
    for symbol in symbols:
        there = stored.get(symbol, set())
        missed = tuple(day for day in sessions if day not in there and (symbol, day) not in told)
        if missed:
            lacking.setdefault(missed, []).append(symbol)
    sentences = []
    for missed, names in sorted(lacking.items(), key=lambda item: (-len(item[0]), item[0])):
        have = "has" if len(names) == 1 else "have"
        if len(missed) < len(sessions):
            sentences.append(f"{_listed(names)} {have} no bar of {_listed([_weekday(day) for day in missed])}.")
            continue
        earlier = history.loc[history["symbol"] == names[0], "date"]
        known = len(names) == 1 and not earlier.empty
        last = f"; its last is of {earlier.max().day} {earlier.max():%B %Y}" if known else ""
        sentences.append(f"{_listed(names)} {have} no bar in this week{last}.")
    return sentences


def rejections(rejected: Sequence[tuple[str, date, str]]) -> list[str]:
    """Which bars were not good enough, and why.

    Parameters
    ----------
    rejected : sequence of (str, datetime.date, str)
        Symbol, session and reason.

    Returns
    -------
    list of str
    """
    sentences = [
        f"A bar of {symbol} of {_weekday(day)} was rejected: {reason[:REASON]}."
        for symbol, day, reason in rejected[:LISTED]
    ]
    if (more := len(rejected) - LISTED) > 0:
        sentences.append(f"{more:,} more {'bar was' if more == 1 else 'bars were'} rejected.")
    return sentences


def splits(known: Sequence[tuple[Split, bool]]) -> list[str]:
    """Which shares split in the week, and in which shares their prices are.

    Parameters
    ----------
    known : sequence of (Split, bool)
        Each with whether the stored history has its scale.

    Returns
    -------
    list of str
    """
    endings = {
        True: "its prices are all in the new shares",
        False: "its prices are in the old shares, and later ones are not there yet",
    }
    sentences = [
        f"{split.symbol} split {split.split_to:g} for {split.split_from:g} on {_weekday(split.execution_date)};"
        f" {endings[restated]}."
        for split, restated in known[:LISTED]
    ]
    if (more := len(known) - LISTED) > 0:
        sentences.append(f"{more:,} more {'symbol' if more == 1 else 'symbols'} split in this week.")
    return sentences


def _weekday(day: date) -> str:
    return f"{day:%A}"


def _listed(names: Sequence[str]) -> str:
    """Names in a row: ``A, B and C``; of many, the first ones and a count."""
    if len(names) > NAMED:
        return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
