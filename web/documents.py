"""The site's small documents: what its pages show beside the prices. Pure: values in, JSON out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

FEW = 20  # symbols up to which documents have all figures of each, and one page holds everything
NAMED_IN_CALENDAR = 200  # symbols up to which the calendar has a line for each
ENDS = 10  # symbols at each end of a list
SPARK = 60  # closes of a sparkline
SHOWN = ["symbol", "close", "change_1d", "volume_ratio"]

LETTERS = "somncrp"
"""The state of a symbol's session, see :func:`states`."""
SETTLED, OUT, MISSING, NO_BAR, CORRECTED, REJECTED, PROVISIONAL = range(len(LETTERS))

Grid = npt.NDArray[np.bool_]
States = npt.NDArray[np.uint8]
Pairs = tuple[Sequence[int], Sequence[int]]


def to_json(document: object) -> bytes:
    """Write a document; NaN becomes null, and moments have a Z."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS)


def breadth(counts: pd.DataFrame) -> dict[str, list[Any]]:
    """Show the counts of :func:`domain.figures.market_breadth` by column; shares and highs are null until known."""
    shown: dict[str, pd.Series[Any]] = {}
    for name in ("advancers", "decliners", "unchanged"):
        shown[name] = counts[name]
    for sessions in (50, 200):
        known = counts[f"with_{sessions}"]
        shown[f"above_{sessions}"] = (counts[f"over_{sessions}"] / known.where(known > 0)).round(6)
    for name in ("new_highs", "new_lows"):
        shown[name] = counts[name].where(counts["with_year"] > 0)
    columns = {name: _plain(shown[name], float if name.startswith("above") else int) for name in shown}
    return {"date": [str(day.date()) for day in counts.index], **columns}


def _plain(values: pd.Series[Any], kind: Callable[[Any], Any]) -> list[Any]:
    return [None if pd.isna(value) else kind(value) for value in values.tolist()]


@dataclass(frozen=True)
class Completeness:
    """How many sessions of the symbols were never read, and how many the next update reads again."""

    missing: int
    read_again: int


def summary(
    figures: pd.DataFrame,
    counts: pd.DataFrame,
    sparks: npt.NDArray[np.float64],
    completeness: Completeness,
) -> dict[str, Any]:
    """Collect what the first page shows.

    Parameters
    ----------
    figures : pandas.DataFrame
        A row per symbol: ``symbol`` and the columns of :func:`domain.figures.symbol_figures`.
    counts : pandas.DataFrame
        Of :func:`domain.figures.market_breadth`.
    sparks : numpy.ndarray of float64
        The last closes of each symbol, oldest first; NaN before its first.
    """
    document: dict[str, Any] = {"best": [], "worst": [], "unusual_volume": []}
    tiles: dict[str, Any] = {"symbols": len(figures), "last_session": None}
    if len(counts):
        last = counts.index[-1]
        tiles["last_session"] = str(last.date())
        tiles |= {name: values[-1] for name, values in breadth(counts.tail(1)).items() if name != "date"}
        traded = figures[figures["last"] == last]
        moved = traded.dropna(subset="change_1d").sort_values(["change_1d", "symbol"], ascending=[False, True])
        busy = traded.dropna(subset="volume_ratio").sort_values(["volume_ratio", "symbol"], ascending=[False, True])
        # A short list is cut in two halves, so that no symbol is among the best and the worst.
        ends = min(ENDS, (len(moved) + 1) // 2)
        document["best"] = rows(moved.head(ends)[SHOWN], sparks)
        document["worst"] = rows(moved[ends:].tail(ENDS)[::-1][SHOWN], sparks)
        document["unusual_volume"] = rows(busy.head(ENDS)[SHOWN], sparks)
    tiles["completeness"] = {"missing": completeness.missing, "read_again": completeness.read_again}
    document["tiles"] = tiles
    if len(figures) <= FEW:
        document["symbols"] = rows(figures, sparks)
    return document


def rows(figures: pd.DataFrame, sparks: npt.NDArray[np.float64]) -> list[dict[Hashable, Any]]:
    """Turn figures into objects, each with its sparkline, which the row's index finds."""

    def plain(value: Any) -> Any:
        if pd.isna(value):
            return None
        return str(value.date()) if isinstance(value, pd.Timestamp) else value

    found: list[dict[Hashable, Any]] = figures.to_dict("records")
    for place, row in zip(figures.index.tolist(), found, strict=True):
        row.update({name: plain(value) for name, value in row.items()})
        row["spark"] = sparks[place][~np.isnan(sparks[place])]
    return found


def states(*, stored: Grid, unread: Grid, missing: Grid, unsettled: Grid) -> States:
    """Tell the state of each symbol's session, as places in :data:`LETTERS`.

    Parameters
    ----------
    stored, unread, missing, unsettled : numpy.ndarray of bool, shape (m, n)
        Which sessions have a bar; were never read; are missing, and so read by the next update; and were read while
        fewer later sessions were published than settle them.

    Returns
    -------
    numpy.ndarray of uint8, shape (m, n)
        Missing; else out of reach or not tracked if it was never read; else provisional or settled, or without a bar.
        A bar that was stored before any run, and not read since, is settled.
    """
    found = np.full(stored.shape, NO_BAR, dtype=np.uint8)
    found[stored] = SETTLED
    found[stored & unsettled] = PROVISIONAL
    found[unread & ~stored] = OUT
    found[missing] = MISSING
    return found


def mark_changes(grid: States, *, corrected: Pairs, rejected: Pairs) -> None:
    """Mark in the states what is known of single bars, but for sessions that are missing.

    Parameters
    ----------
    grid : numpy.ndarray of uint8
        As :func:`states` returns it; changed in place.
    corrected, rejected : pair of sequences of int
        Rows and columns of the bars that were replaced, withdrawn or late, and of those that were rejected, which count
        where no other bar is stored.
    """
    for (rows, columns), state, over in (
        (rejected, REJECTED, (NO_BAR, OUT)),
        (corrected, CORRECTED, (NO_BAR, OUT, SETTLED, PROVISIONAL)),
    ):
        row, column = np.asarray(rows, dtype=np.intp), np.asarray(columns, dtype=np.intp)
        changed = np.isin(grid[row, column], over)
        grid[row[changed], column[changed]] = state


def calendar(symbols: Sequence[str], grid: States) -> dict[str, Any]:
    """Show the states as runs of equal ones, of the symbols and over all: the most frequent state of each session.

    Of many symbols only those are named that differ from it somewhere.
    """
    counts = np.stack([np.count_nonzero(grid == place, axis=0) for place in range(len(LETTERS))])
    overall = counts.argmax(axis=0).astype(np.uint8)
    chosen: Iterable[int] = range(len(symbols))
    if len(symbols) > NAMED_IN_CALENDAR:
        chosen = np.flatnonzero((grid != overall).any(axis=1)).tolist()
    return {"overall": _runs(overall), "symbols": {symbols[row]: _runs(grid[row]) for row in chosen}}


def _runs(line: States) -> list[tuple[str, int]]:
    ends = np.append(np.flatnonzero(np.diff(line)) + 1, len(line)) if len(line) else np.empty(0, dtype=int)
    lengths = np.diff(ends, prepend=0)
    return [(LETTERS[line[end - 1]], int(length)) for end, length in zip(ends, lengths, strict=True)]
