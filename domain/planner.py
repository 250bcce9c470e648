"""What is missing, and the fewest API calls that bring it.

A grouped-daily call brings one session of every symbol; a range call brings every session of one symbol. Missing
(symbol, session) pairs are the edges of a bipartite graph, and calls are its vertices, so the fewest calls are a
minimum vertex cover, which in a bipartite graph is as large as a maximum matching (Kőnig's theorem). The answer is
exact for every input. Pure: no clock, no network, no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from domain.calendar import sessions_between
from domain.models import EVERY_SYMBOL

Grid = npt.NDArray[np.bool_]
Range = tuple[date, date]
DAY = timedelta(days=1)


@dataclass(frozen=True)
class RangeCall:
    """All sessions of one symbol from `first` to `last`; `restates` if it replaces a history of another scale."""

    symbol: str
    first: date
    last: date
    restates: bool = False

    def __str__(self) -> str:
        return f"{self.symbol} from {self.first} to {self.last}{', restated by a split' if self.restates else ''}"


@dataclass(frozen=True)
class GroupedCall:
    """One session of every symbol; `first` and `last` are that session, and it never restates."""

    session: date
    restates: ClassVar[bool] = False

    @property
    def first(self) -> date:
        """The session."""
        return self.session

    @property
    def last(self) -> date:
        """The session."""
        return self.session

    def __str__(self) -> str:
        return f"all symbols on {self.session}"


Call = RangeCall | GroupedCall


def missing_pairs(symbols: Sequence[str], sessions: Sequence[date], coverage: Mapping[str, Sequence[Range]]) -> Grid:
    """Which sessions of which symbols have not been fetched.

    Parameters
    ----------
    symbols : sequence of str, length m
        What is wanted; ``"*"`` stands for the whole market.
    sessions : sequence of date, length n
        What is wanted, ascending.
    coverage : mapping of str to sequence of (first, last)
        Fetched ranges a symbol; those of ``"*"`` hold for every symbol.

    Returns
    -------
    numpy.ndarray of bool, shape (m, n)
    """
    days = np.array(sessions, dtype="datetime64[D]")
    missing = np.ones((len(symbols), len(days)), dtype=bool)
    for first, last in coverage.get(EVERY_SYMBOL, ()):
        missing[:, slice(*_positions(days, first, last))] = False
    for row, symbol in enumerate(symbols):
        for first, last in coverage.get(symbol, ()):
            missing[row, slice(*_positions(days, first, last))] = False
    return missing


def merge_ranges(ranges: Iterable[Range]) -> list[Range]:
    """The same sessions as the fewest ranges, ascending: ranges merge when no session lies between them."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and not sessions_between(merged[-1][1] + DAY, first - DAY):
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _positions(days: npt.NDArray[np.datetime64], first: date, last: date) -> tuple[int, int]:
    return int(np.searchsorted(days, np.datetime64(first))), int(np.searchsorted(days, np.datetime64(last), "right"))


def plan_calls(symbols: Sequence[str], sessions: Sequence[date], missing: Grid) -> list[Call]:
    """The fewest calls that bring every missing pair, oldest session first.

    Where several covers are smallest, the one with the most range calls is taken: a range answer is a few kilobytes, a
    grouped answer over a megabyte.

    Parameters
    ----------
    symbols : sequence of str, length m
    sessions : sequence of date, length n, ascending
    missing : numpy.ndarray of bool, shape (m, n)

    Returns
    -------
    list of RangeCall or GroupedCall
    """
    whole_market = np.array([symbol == EVERY_SYMBOL for symbol in symbols], dtype=bool)
    grouped = missing[whole_market].any(axis=0)  # only a grouped call brings the whole market
    rows, columns = minimum_cover(missing & ~grouped & ~whole_market[:, None])
    calls: list[Call] = [GroupedCall(sessions[column]) for column in np.flatnonzero(grouped | columns).tolist()]
    remaining = missing & ~(grouped | columns)
    for row in np.flatnonzero(rows).tolist():
        wanted = np.flatnonzero(remaining[row]).tolist()
        calls.append(RangeCall(symbols[row], sessions[wanted[0]], sessions[wanted[-1]]))
    return sorted(calls, key=lambda call: (call.first, call.last, str(call)))


def minimum_cover(edges: Grid) -> tuple[Grid, Grid]:
    """A smallest set of rows and columns that touches every True cell; among those, one with the most rows.

    Parameters
    ----------
    edges : numpy.ndarray of bool, shape (m, n)

    Returns
    -------
    rows : numpy.ndarray of bool, shape (m,)
    columns : numpy.ndarray of bool, shape (n,)
        Together as many True as a maximum matching has pairs.

    Notes
    -----
    Augmenting paths (Kuhn 1955) from the side with fewer vertices, breadth first, with each neighbourhood an integer
    whose bits are the vertices of the other side: at most min(m, n)² steps, each a few word operations wide. What a
    failed search reached can never be matched better, so no later search enters it.
    """
    rows_first = edges.shape[0] <= edges.shape[1]
    left = edges if rows_first else edges.T
    neighbours = [int.from_bytes(np.packbits(line, bitorder="little").tobytes(), "little") for line in left]
    mate_of_left, mate_of_right = _maximum_matching(neighbours)

    in_cover_left = np.zeros(left.shape[0], dtype=bool)
    in_cover_right = np.zeros(left.shape[1], dtype=bool)
    if rows_first:
        # Kőnig: what alternating paths from unmatched rows reach stays outside the cover on the left, and joins it on
        # the right. Everything else is covered by rows: the most rows that any smallest cover can have.
        unmatched = [vertex for vertex, mate in enumerate(mate_of_left) if mate < 0 and neighbours[vertex]]
        reached_left, reached_right = _reach(unmatched, neighbours, mate_of_right)
        for vertex, mate in enumerate(mate_of_left):
            in_cover_left[vertex] = mate >= 0 and vertex not in reached_left
        in_cover_right[list(reached_right)] = True
        return in_cover_left, in_cover_right
    # The same theorem from the other side: columns that unmatched rows force into the cover, and what these force.
    forced = _forced(neighbours, mate_of_left, mate_of_right, left)
    for vertex, mate in enumerate(mate_of_left):
        in_cover_left[vertex] = vertex in forced
        if mate >= 0 and vertex not in forced:
            in_cover_right[mate] = True
    return in_cover_right, in_cover_left


def _maximum_matching(neighbours: list[int]) -> tuple[list[int], dict[int, int]]:
    """The right mate of each left vertex (−1 for none) and the left mate of each matched right vertex."""
    mate_of_left = [-1] * len(neighbours)
    mate_of_right: dict[int, int] = {}
    free, dead = -1, 0  # bit sets of right vertices: unmatched ones, and those no search need enter again
    for start in range(len(neighbours)):
        seen, queue = dead, [start]
        came_from: dict[int, int] = {}  # right vertex → the left vertex whose search found it
        for vertex in queue:
            found = neighbours[vertex] & ~seen
            open_ends = found & free
            if open_ends:
                end = _lowest(open_ends)
                free &= ~(1 << end)
                came_from[end] = vertex
                while end >= 0:
                    left = came_from[end]
                    mate_of_right[end] = left
                    mate_of_left[left], end = end, mate_of_left[left]
                break
            seen |= found
            while found:
                end = _lowest(found)
                found &= found - 1
                came_from[end] = vertex
                queue.append(mate_of_right[end])
        else:
            dead = seen
    return mate_of_left, mate_of_right


def _reach(starts: Iterable[int], neighbours: list[int], mate_of_right: Mapping[int, int]) -> tuple[set[int], set[int]]:
    """Left and right vertices on alternating paths from unmatched left vertices."""
    queue, seen = list(starts), 0
    reached_left, reached_right = set(queue), set[int]()
    for vertex in queue:
        found = neighbours[vertex] & ~seen
        seen |= found
        while found:
            end = _lowest(found)
            found &= found - 1
            reached_right.add(end)
            queue.append(mate_of_right[end])
            reached_left.add(mate_of_right[end])
    return reached_left, reached_right


def _forced(neighbours: list[int], mate_of_left: list[int], mate_of_right: Mapping[int, int], left: Grid) -> set[int]:
    """Left vertices on alternating paths from unmatched right vertices: in every cover with the most right vertices."""
    outside = sum(1 << end for end in range(left.shape[1]) if end not in mate_of_right)
    forced: set[int] = set()
    waiting = set(range(len(neighbours)))
    queue = [vertex for vertex in waiting if neighbours[vertex] & outside]
    waiting.difference_update(queue)
    for vertex in queue:
        forced.add(vertex)
        mate = 1 << mate_of_left[vertex]
        touched = [other for other in waiting if neighbours[other] & mate]
        waiting.difference_update(touched)
        queue.extend(touched)
    return forced


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
