"""Readings: which sessions of a symbol have been read, and how far the provider was published then.

A (symbol, session) pair is *unread* until an answer includes it while the provider shows a bar of this session or a
later one, of any symbol. It is then *provisional* until it is read with at least ``settle`` later sessions published,
and *settled* from there on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import cache, lru_cache, partial, reduce
from operator import or_
from typing import NamedTuple

from domain.calendar import count_sessions, next_session, previous_session
from domain.models import EVERY_SYMBOL

Grid = list[int]
"""Sessions of symbols: an integer for each symbol, whose bit n stands for the n-th session."""

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
    Grid
        Of m integers.
    """

    def unread(readings: Readings) -> int:
        return without(_up_to(len(sessions)), *(_inside(sessions, reading) for reading in readings))

    return _by_symbol(symbols, coverage, unread)


def provisional_pairs(symbols: Sequence[str], sessions: Sequence[date], coverage: Coverage, settle: int) -> Grid:
    """Find the provisional pairs that were read before the last of the sessions was published.

    Parameters and result are those of :func:`unread_pairs`; `settle` as for :func:`add_reading`.
    """
    return _by_symbol(symbols, coverage, partial(_read_without, sessions, settle, _done))


def unsettled_pairs(symbols: Sequence[str], sessions: Sequence[date], coverage: Coverage, settle: int) -> Grid:
    """Find the pairs that were read while fewer than `settle` later sessions were published.

    Parameters and result are those of :func:`provisional_pairs`, which leaves out those that were read just now.
    """
    return _by_symbol(symbols, coverage, partial(_read_without, sessions, settle, _settled))


def _read_without(
    sessions: Sequence[date], settle: int, find: Callable[[Sequence[date], date, int], int], readings: Readings
) -> int:
    """The sessions that were read, but for those of which `find` says so of any reading that holds them."""
    found = (_inside(sessions, reading) & find(sessions, reading.seen_to, settle) for reading in readings)
    return without(reduce(or_, (_inside(sessions, reading) for reading in readings), 0), *found)


def _by_symbol(symbols: Sequence[str], coverage: Coverage, find: Callable[[Readings], int]) -> Grid:
    market = coverage.get(EVERY_SYMBOL, ())
    find = cache(find)  # most symbols of a list share their history
    return [find((*market, *(() if symbol == EVERY_SYMBOL else coverage.get(symbol, ())))) for symbol in symbols]


def _inside(sessions: Sequence[date], reading: Reading) -> int:
    """The sessions of a reading."""
    return _up_to(bisect_right(sessions, reading.last)) & ~_up_to(bisect_left(sessions, reading.first))


def _done(sessions: Sequence[date], seen_to: date, settle: int) -> int:
    """The sessions that need not be read again if the provider was published up to `seen_to` when they were read."""
    if not sessions or seen_to >= sessions[-1]:
        return _up_to(len(sessions))
    return _settled(sessions, seen_to, settle)


def _settled(sessions: Sequence[date], seen_to: date, settle: int) -> int:
    """The sessions that were settled by a reading when the provider was published up to `seen_to`."""
    beyond = count_sessions(sessions[-1] + DAY, seen_to)
    return _up_to(min(max(bisect_right(sessions, seen_to) + beyond - settle, 0), len(sessions)))


def _up_to(count: int) -> int:
    """The first sessions."""
    return (1 << count) - 1


def without(bits: int, *others: int) -> int:
    """Return the bits that none of the others has."""
    return bits & ~reduce(or_, others, 0)


def count_pairs(grid: Grid) -> int:
    """Return how many pairs a grid has."""
    return sum(row.bit_count() for row in grid)
