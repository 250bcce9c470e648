"""Readings: which sessions of a symbol have been read, and how far the provider was published then.

A (symbol, session) pair is *unread* until an answer includes it while the provider shows a bar of this session or a
later one, of any symbol. It is then *provisional* until it is read with at least ``settle`` later sessions published,
and *settled* from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from domain.calendar import count_sessions, next_session, previous_session
from domain.models import EVERY_SYMBOL

Grid = npt.NDArray[np.bool_]
UNREAD = -1
DAY = timedelta(days=1)


class Reading(NamedTuple):
    """An unbroken range of sessions of a symbol that have been read.

    Attributes
    ----------
    first, last : datetime.date
        Both included.
    seen_to : datetime.date
        The last session of which a bar of any symbol was known when the range was last read. It never goes back.
    oldest : datetime.date
        The smallest such session of the range's parts, by which the audit takes its turns. Settled parts that were
        last read in the same quarter are one range, so that a year leaves a handful of them.
    """

    first: date
    last: date
    seen_to: date
    oldest: date


Readings = tuple[Reading, ...]
Coverage = Mapping[str, Readings]
_Test = Callable[[npt.NDArray[np.int32]], Grid]


@lru_cache(maxsize=4096)  # most symbols of a list share their history
def add_reading(
    readings: Readings, first: date, last: date, seen_to: date, settle: int, *, trusted: bool = True
) -> Readings:
    """Add a new reading to those of a symbol.

    Parameters
    ----------
    readings : tuple of Reading
        Ascending.
    first, last : datetime.date
        The sessions that were read.
    seen_to : datetime.date
        How far the provider was published then.
    settle : int
        Later sessions with which a session is settled.
    trusted : bool
        False for an answer in doubt: no state changes, but what was read before counts as read for the audit's order.

    Returns
    -------
    tuple of Reading
        Ascending and merged.
    """
    parts: list[Reading] = []
    for old in readings:
        if old.first < first:
            parts.append(old._replace(last=min(old.last, previous_session(first))))
        if old.last > last:
            parts.append(old._replace(first=max(old.first, next_session(last))))
        inside = max(old.first, first), min(old.last, last)
        if inside[0] <= inside[1]:
            advanced = max(old.seen_to, seen_to) if trusted else old.seen_to
            parts.append(Reading(*inside, advanced, max(old.oldest, seen_to)))
    if trusted:
        parts += [Reading(*gap, seen_to, seen_to) for gap in unread_ranges(readings, first, last)]
    merged: list[Reading] = []
    for part in sorted(parts):
        both = _merge(merged[-1], part, seen_to, settle) if merged else None
        merged[-1:] = [both] if both else [*merged[-1:], part]
    return tuple(merged)


@lru_cache(maxsize=4096)
def unread_ranges(readings: Readings, first: date, last: date) -> tuple[tuple[date, date], ...]:
    """Return the sessions from `first` to `last` that are in none of the readings, as ranges."""
    ranges, start = [], first
    for part in sorted(part for part in readings if part.last >= first and part.first <= last):
        if start < part.first and count_sessions(start, part.first - DAY):
            ranges.append((start, previous_session(part.first)))
        start = max(start, next_session(part.last))
    if start <= last and count_sessions(start, last):
        ranges.append((start, last))
    return tuple(ranges)


def _merge(one: Reading, other: Reading, now: date, settle: int) -> Reading | None:
    """Join two neighbors if no state is lost by it, and the audit's turns stay apart by quarter."""
    if count_sessions(one.last + DAY, other.first - DAY):
        return None
    seen_to = max(one.seen_to, other.seen_to)
    if any(part.seen_to < seen_to and not is_settled(part.last, part.seen_to, settle) for part in (one, other)):
        return None
    if one.oldest != other.oldest and (now in (one.oldest, other.oldest) or _quarter(one) != _quarter(other)):
        return None
    return Reading(one.first, other.last, seen_to, min(one.oldest, other.oldest))


def _quarter(reading: Reading) -> tuple[int, int]:
    return reading.oldest.year, (reading.oldest.month - 1) // 3


def is_settled(session: date, seen_to: date, settle: int) -> bool:
    """Whether `settle` sessions lie after a session, up to the last one that was published."""
    return count_sessions(session + DAY, seen_to) >= settle


def unread_pairs(symbols: Sequence[str], sessions: Sequence[date], coverage: Coverage) -> Grid:
    """Find the sessions of the symbols that have not been read.

    Parameters
    ----------
    symbols : sequence of str, length m
        ``"*"`` stands for the whole market.
    sessions : sequence of datetime.date, length n
        Ascending.
    coverage : mapping of str to tuple of Reading
        Readings of ``"*"`` hold for every symbol.

    Returns
    -------
    numpy.ndarray of bool, shape (m, n)
    """
    return _by_symbol(symbols, sessions, coverage, lambda seen: seen == UNREAD)


def provisional_pairs(symbols: Sequence[str], sessions: Sequence[date], coverage: Coverage, settle: int) -> Grid:
    """Find the provisional pairs that were read before the last of the sessions was published.

    Parameters and result are those of :func:`unread_pairs`; `settle` as for :func:`add_reading`.
    """
    place = np.arange(len(sessions), dtype=np.int32)
    last = len(sessions) - 1
    return _by_symbol(
        symbols, sessions, coverage, lambda seen: (seen != UNREAD) & (seen - place < settle) & (seen < last)
    )


def unsettled_pairs(symbols: Sequence[str], sessions: Sequence[date], coverage: Coverage, settle: int) -> Grid:
    """Find the pairs that were read while fewer than `settle` later sessions were published.

    Parameters and result are those of :func:`provisional_pairs`, which leaves out those that were read just now.
    """
    place = np.arange(len(sessions), dtype=np.int32)
    return _by_symbol(symbols, sessions, coverage, lambda seen: (seen != UNREAD) & (seen - place < settle))


def _by_symbol(symbols: Sequence[str], sessions: Sequence[date], coverage: Coverage, test: _Test) -> Grid:
    grid = np.zeros((len(symbols), len(sessions)), dtype=bool)
    market = coverage.get(EVERY_SYMBOL, ())
    known: dict[Readings, Grid] = {}  # most symbols of a list share their history
    for row, symbol in enumerate(symbols):
        own = () if symbol == EVERY_SYMBOL else coverage.get(symbol, ())
        if own not in known:
            known[own] = test(_seen_positions(sessions, (*market, *own)))
        grid[row] = known[own]
    return grid


def _seen_positions(sessions: Sequence[date], readings: Readings) -> npt.NDArray[np.int32]:
    """For each session, the position in `sessions` of its reading's ``seen_to``, counted beyond the end if need be."""
    days = np.array(sessions, dtype="datetime64[D]")
    seen = np.full(len(days), UNREAD, dtype=np.int32)
    for first, last, seen_to, _ in readings:
        inside = positions(days, first, last)
        if inside.start < inside.stop:
            beyond = count_sessions(sessions[-1] + DAY, seen_to)
            position = int(np.searchsorted(days, np.datetime64(seen_to), "right")) - 1 + beyond
            seen[inside] = np.maximum(seen[inside], position)
    return seen


def settled_ages(
    symbols: Sequence[str], sessions: Sequence[date], coverage: Coverage, settle: int, published: date
) -> npt.NDArray[np.int32]:
    """Tell how old the readings are that an audit may repeat.

    Parameters
    ----------
    symbols, sessions, coverage, settle
        As for :func:`provisional_pairs`.
    published : datetime.date
        The last session known to be published; what was read since then is not audited.

    Returns
    -------
    numpy.ndarray of int32, shape (m, n)
        The ordinal of the reading's ``oldest``; 0 for a pair that is not to be audited.
    """
    ages = np.zeros((len(symbols), len(sessions)), dtype=np.int32)
    days = np.array(sessions, dtype="datetime64[D]")
    place = np.arange(len(sessions), dtype=np.int32)
    known: dict[Readings, npt.NDArray[np.int32]] = {}
    market = coverage.get(EVERY_SYMBOL, ())
    for row, symbol in enumerate(symbols):
        readings = (*market, *(() if symbol == EVERY_SYMBOL else coverage.get(symbol, ())))
        if readings not in known:
            oldest = np.zeros(len(days), dtype=np.int32)
            for reading in readings:
                inside = positions(days, reading.first, reading.last)
                oldest[inside] = np.maximum(oldest[inside], reading.oldest.toordinal())
            settled = _seen_positions(sessions, readings) - place >= settle
            known[readings] = np.where(settled & (oldest < published.toordinal()), oldest, 0)
        ages[row] = known[readings]
    return ages


def positions(days: npt.NDArray[np.datetime64], first: date, last: date) -> slice:
    """Where the sessions from `first` to `last` lie in ascending days."""
    lower, upper = np.datetime64(first), np.datetime64(last)
    return slice(int(np.searchsorted(days, lower)), int(np.searchsorted(days, upper, "right")))
