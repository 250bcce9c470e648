"""Which settled readings are the oldest, and the calls that repeat them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt

from domain.calendar import count_sessions
from domain.coverage import DAY, Coverage, Readings
from domain.models import EVERY_SYMBOL
from domain.planner import Call, GroupedCall, plan_calls

Ages = npt.NDArray[np.int32]
UNREAD = -1


def settled_ages(
    symbols: Sequence[str], sessions: Sequence[date], coverage: Coverage, settle: int, published: date
) -> Ages:
    """Tell how old the readings are that an audit may repeat.

    Parameters
    ----------
    symbols, sessions, coverage, settle
        As for :func:`domain.coverage.provisional_pairs`.
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
    known: dict[Readings, Ages] = {}
    market = coverage.get(EVERY_SYMBOL, ())
    for row, symbol in enumerate(symbols):
        readings = (*market, *(() if symbol == EVERY_SYMBOL else coverage.get(symbol, ())))
        if readings not in known:
            oldest = np.zeros(len(days), dtype=np.int32)
            for reading in readings:
                inside = _positions(days, reading.first, reading.last)
                oldest[inside] = np.maximum(oldest[inside], reading.oldest.toordinal())
            settled = _seen_positions(sessions, readings) - place >= settle
            known[readings] = np.where(settled & (oldest < published.toordinal()), oldest, 0)
        ages[row] = known[readings]
    return ages


def plan_audit(symbols: Sequence[str], sessions: Sequence[date], ages: Ages, most: int) -> list[Call]:
    """Plan at most so many calls that repeat the oldest readings.

    Parameters
    ----------
    symbols, sessions
        As for :func:`domain.planner.plan_calls`.
    ages : numpy.ndarray of int32, shape (m, n)
        As :func:`settled_ages` returns them; 0 is not to be read.
    most : int

    Returns
    -------
    list of RangeCall or GroupedCall
    """
    calls = plan_calls(symbols, sessions, [_bits(row) for row in ages > 0])
    if len(calls) <= most:
        return calls
    rows = {symbol: row for row, symbol in enumerate(symbols)}
    columns = {session: column for column, session in enumerate(sessions)}

    def age(call: Call) -> int:
        line = ages[:, columns[call.session]] if isinstance(call, GroupedCall) else ages[rows[call.symbol]]
        return int(line[line > 0].min())

    return sorted(calls, key=age)[:most]


def _seen_positions(sessions: Sequence[date], readings: Readings) -> npt.NDArray[np.int32]:
    """For each session, the position in `sessions` of its reading's ``seen_to``, counted beyond the end if need be."""
    days = np.array(sessions, dtype="datetime64[D]")
    seen = np.full(len(days), UNREAD, dtype=np.int32)
    for first, last, seen_to, _ in readings:
        inside = _positions(days, first, last)
        if inside.start < inside.stop:
            beyond = count_sessions(sessions[-1] + DAY, seen_to)
            position = int(np.searchsorted(days, np.datetime64(seen_to), "right")) - 1 + beyond
            seen[inside] = np.maximum(seen[inside], position)
    return seen


def _positions(days: npt.NDArray[np.datetime64], first: date, last: date) -> slice:
    """Where the sessions from `first` to `last` lie in ascending days."""
    lower, upper = np.datetime64(first), np.datetime64(last)
    return slice(int(np.searchsorted(days, lower)), int(np.searchsorted(days, upper, "right")))


def _bits(row: npt.NDArray[np.bool_]) -> int:
    """Return a row as the bits of an integer, the first one lowest."""
    return int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little")
