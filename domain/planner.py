"""The fewest API calls that bring a set of (symbol, session) pairs.

A grouped call brings one session of every symbol; a range call brings every session of one symbol. The pairs are the
edges of a bipartite graph and the calls its vertices, so the fewest calls are a minimum vertex cover, which in a
bipartite graph is as large as a maximum matching (Kőnig's theorem). The answer is exact for every input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from operator import or_
from typing import ClassVar

from domain.coverage import Grid
from domain.models import EVERY_SYMBOL


@dataclass(frozen=True)
class RangeCall:
    """All sessions of one symbol from `first` to `last`; `restates` if the answer replaces the symbol's history."""

    symbol: str
    first: date
    last: date
    restates: bool = False

    def __str__(self) -> str:
        return f"{self.symbol} from {self.first} to {self.last}{', whole history' if self.restates else ''}"


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


def plan_calls(symbols: Sequence[str], sessions: Sequence[date], wanted: Grid) -> list[Call]:
    """Plan the fewest calls that bring every wanted pair.

    Where several covers are smallest, the one with the most range calls is taken: a range answer is a few kilobytes, a
    grouped answer over a megabyte. The oldest sessions come first.

    Parameters
    ----------
    symbols : sequence of str, length m
    sessions : sequence of datetime.date, length n
        Ascending.
    wanted : Grid
        Of m integers.

    Returns
    -------
    list of RangeCall or GroupedCall
    """
    pairs = list(zip(symbols, wanted, strict=True))
    grouped = reduce(or_, (days for symbol, days in pairs if symbol == EVERY_SYMBOL), 0)  # no other call brings "*"
    rows, columns = minimum_cover([0 if symbol == EVERY_SYMBOL else days & ~grouped for symbol, days in pairs])
    grouped |= columns
    calls: list[Call] = [GroupedCall(sessions[place]) for place in places(grouped)]
    for row in rows:
        days = places(wanted[row] & ~grouped)
        calls.append(RangeCall(symbols[row], sessions[days[0]], sessions[days[-1]]))
    return sorted(calls, key=lambda call: (call.first, call.last, str(call)))


def minimum_cover(edges: Grid) -> tuple[list[int], int]:
    """Find a smallest set of rows and columns that touches every edge; among those, one with the most rows.

    Parameters
    ----------
    edges : Grid
        The columns of each row, as bits.

    Returns
    -------
    rows : list of int
        Ascending.
    columns : int
        As bits; rows and columns together are as many as a maximum matching has pairs.

    Notes
    -----
    Augmenting paths (Kuhn 1955), breadth first. What a failed
    search reached can never be matched better, so no later search enters it; therefore all failed searches together
    visit each column once, and the work is bounded by min(m, n)² + m steps, each a few word operations wide.

    The cover is Kőnig's: what alternating paths from unmatched rows reach stays outside the cover among the rows and
    joins it among the columns. All other matched rows are in it, the most that any smallest cover can have.
    """
    column_of_row, row_of_column = _maximum_matching(edges)
    unmatched = [row for row, column in enumerate(column_of_row) if column < 0 and edges[row]]
    reached_rows, reached_columns = _reach(unmatched, edges, row_of_column)
    rows = [row for row, column in enumerate(column_of_row) if column >= 0 and row not in reached_rows]
    return rows, sum(1 << column for column in reached_columns)


def _maximum_matching(neighbors: list[int]) -> tuple[list[int], dict[int, int]]:
    """Return the matched column of each row (−1 for none) and the matched row of each column that has one."""
    column_of_row = [-1] * len(neighbors)
    row_of_column: dict[int, int] = {}
    free, dead = -1, 0  # bit sets of columns: unmatched ones, and those that no search needs to enter again
    for start in range(len(neighbors)):
        seen, queue = dead, [start]
        came_from: dict[int, int] = {}  # column → the row whose search found it
        for row in queue:
            found = neighbors[row] & ~seen
            open_ends = found & free
            if open_ends:
                column = _lowest(open_ends)
                free &= ~(1 << column)
                came_from[column] = row
                while column >= 0:
                    turned = came_from[column]
                    row_of_column[column] = turned
                    column_of_row[turned], column = column, column_of_row[turned]
                break
            seen |= found
            while found:
                column = _lowest(found)
                found &= found - 1
                came_from[column] = row
                queue.append(row_of_column[column])
        else:
            dead = seen
    return column_of_row, row_of_column


def _reach(starts: list[int], neighbors: list[int], row_of_column: dict[int, int]) -> tuple[set[int], set[int]]:
    """Return the rows and columns on alternating paths from unmatched rows."""
    queue, seen = list(starts), 0
    reached_rows, reached_columns = set(queue), set[int]()
    for row in queue:
        found = neighbors[row] & ~seen
        seen |= found
        while found:
            column = _lowest(found)
            found &= found - 1
            reached_columns.add(column)
            queue.append(row_of_column[column])
            reached_rows.add(row_of_column[column])
    return reached_rows, reached_columns


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def places(bits: int) -> list[int]:
    """Return the places of the bits that are set, ascending."""
    found = []
    while bits:
        found.append(_lowest(bits))
        bits &= bits - 1
    return found
