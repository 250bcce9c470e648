"""Plan what a run reads: the sessions that it wants, what is missing or read again of them, and the fewest calls.

Nothing here fetches or writes, or waits for a library of data: the command line shows a plan at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial, reduce
from operator import or_

from sqlalchemy import Connection

import utils
from domain.calendar import last_sessions, previous_session, sessions_between
from domain.coverage import Coverage, Grid, provisional_pairs, unread_pairs, without
from domain.models import EVERY_SYMBOL, Request, SessionSpan
from domain.planner import Call, RangeCall, places, plan_calls
from pipeline.context import RunContext

PLAN_LINES = 20  # of a dry run's plan
LISTED_LATE = timedelta(days=14)
NAMED_SYMBOLS = 100  # up to here a question of splits names the symbols; beyond, it asks for all

TargetSessions = Callable[[Coverage], list[date]]
"""The sessions that a run wants, ascending, given what has been read."""


@dataclass(frozen=True)
class KnownSplits:
    """What the last check of splits leaves to ask for.

    Attributes
    ----------
    until : datetime.date or None
        The day up to which splits are known; None before the first check.
    since : datetime.date or None
        The first day to ask for; None if nothing is stored.
    symbols : list of str
        Those that were ever read; one more than a question can name stands for many.
    """

    until: date | None
    since: date | None
    symbols: list[str]


def read_known_splits(connection: Connection, until: date | None) -> KnownSplits:
    """Read from where the next check of splits goes on; they are known until a day."""
    # A split may be listed late, and the basis of an adopted table is unknown from its first row on.
    since = until - LISTED_LATE if until else utils.read_first_session(connection)
    return KnownSplits(until, since, utils.read_covered_symbols(connection, NAMED_SYMBOLS + 1))


@dataclass(frozen=True)
class Known:
    """What earlier runs have left for a load to go on from.

    Attributes
    ----------
    coverage : Coverage
        What was read of the wanted symbols.
    marks : Marks
        How far the provider is known.
    first : datetime.date or None
        The first day that the provider's plan reaches; None while no refusal has shown it, or if all is read again.
    """

    coverage: Coverage = field(default_factory=dict)
    marks: utils.Marks = field(default_factory=utils.Marks)
    first: date | None = None


def read_known(request: Request, connection: Connection | None, *, force: bool = False) -> Known:
    """Read what earlier runs have left; `connection` is None for a database without tables."""
    if connection is None:
        return Known()
    marks = utils.read_marks(connection)
    days = None if force else marks.history_days
    first = None if days is None else request.as_of - timedelta(days=days)
    return Known(utils.read_coverage(connection, request.symbols), marks, first)


@dataclass(frozen=True)
class LoadPlan:
    """What a run is to read, and by which calls.

    Attributes
    ----------
    known : Known
    sessions : list of datetime.date, length n
        The wanted sessions that are within the plan's reach.
    missing, provisional : Grid, of m integers
        Which of the m symbols were never read of a session, and which are read again: they are provisional and can be
        settled further, or their history is restated.
    calls : list of Call
        Restatements first, then the fewest calls for both.
    splits : KnownSplits or None
        None for a database without tables.
    """

    known: Known
    sessions: list[date]
    missing: Grid
    provisional: Grid
    calls: list[Call]
    splits: KnownSplits | None

    @property
    def unread(self) -> list[date]:
        """The sessions of which at least one symbol was never read."""
        return self._columns(self.missing)

    @property
    def read_again(self) -> list[date]:
        """The sessions of which at least one symbol is read again."""
        return self._columns(self.provisional)

    def _columns(self, grid: Grid) -> list[date]:
        return [self.sessions[place] for place in places(reduce(or_, grid, 0))]

    @property
    def restates(self) -> bool:
        """Whether the history of a symbol is to be replaced."""
        return any(call.restates for call in self.calls)


def plan_update(request: Request, context: RunContext) -> LoadPlan:
    """Plan what a daily update would read. Nothing is fetched or written."""
    with utils.reading(context.engine) as stored:
        return plan_load(request, context, stored, partial(tracked_sessions, request, context), settle=True)


def tracked_sessions(request: Request, context: RunContext, coverage: Coverage) -> list[date]:
    """All sessions since the first read of any of the symbols; with none read, those that initialize loads."""
    latest = previous_session(request.as_of)
    if since := tracked_since(request, coverage, latest):
        return sessions_between(since, latest)
    return last_sessions(context.settings.history_sessions, request.as_of)


def tracked_since(request: Request, coverage: Coverage, latest: date) -> date | None:
    """The first session up to `latest` that was read of any of the symbols, if any."""
    if EVERY_SYMBOL in request.symbols:
        coverage = {EVERY_SYMBOL: coverage.get(EVERY_SYMBOL, ())}
    readings = [reading.first for some in coverage.values() for reading in some if reading.first <= latest]
    return min(readings, default=None)


def plan_load(
    request: Request,
    context: RunContext,
    connection: Connection | None,
    target_sessions: TargetSessions,
    *,
    settle: bool = False,
    force: bool = False,
) -> LoadPlan:
    """Plan the fewest calls that bring what a run wants.

    Parameters
    ----------
    request : Request
    context : RunContext
    connection : sqlalchemy.Connection or None
        None for a database without tables.
    target_sessions : callable
    settle : bool
        Whether provisional sessions are read again.
    force : bool
        Whether everything is read again.

    Returns
    -------
    LoadPlan
    """
    symbols = request.symbols
    known = read_known(request, connection, force=force)
    coverage, first = known.coverage, known.first
    sessions = [session for session in target_sessions(coverage) if first is None or session >= first]
    unread = unread_pairs(symbols, sessions, {} if force else coverage)
    again = [0] * len(symbols)
    if settle and not force:
        again = provisional_pairs(symbols, sessions, coverage, context.settings.settle_sessions)
    restatements = [] if connection is None else plan_restatements(symbols, connection, sessions, coverage, first)
    names = {call.symbol for call in restatements}
    wanted = []
    for row, symbol in enumerate(symbols):
        if symbol in names:
            again[row] = without((1 << len(sessions)) - 1, unread[row])
        wanted.append(0 if symbol in names else unread[row] | again[row])
    return LoadPlan(
        known=known,
        sessions=sessions,
        missing=unread,
        provisional=again,
        calls=[*restatements, *plan_calls(symbols, sessions, wanted)],
        splits=None if connection is None else read_known_splits(connection, known.marks.splits_until),
    )


def plan_restatements(
    wanted_symbols: Sequence[str],
    connection: Connection,
    wanted: Sequence[date],
    coverage: Coverage,
    first: date | None = None,
) -> list[RangeCall]:
    """Plan one call for each wanted symbol that split or is suspect, over its whole stored, read and wanted history.

    Parameters
    ----------
    wanted_symbols : sequence of str
    connection : sqlalchemy.Connection
    wanted : sequence of datetime.date
        Ascending.
    coverage : mapping of str to tuple of Reading
        Of these symbols.
    first : datetime.date, optional
        The plan's first day; nothing before it is asked for.

    Returns
    -------
    list of RangeCall
        By symbol.
    """
    symbols = sorted(utils.read_unrestated(connection))
    if EVERY_SYMBOL not in wanted_symbols:
        symbols = [symbol for symbol in symbols if symbol in wanted_symbols]
    spans = utils.read_spans(connection, symbols)
    calls = []
    for symbol in symbols:
        readings = (*coverage.get(symbol, ()), *coverage.get(EVERY_SYMBOL, ()))
        days = [*wanted, *spans.get(symbol, ()), *(day for part in readings for day in (part.first, part.last))]
        days = [max(day, first) for day in days] if first else days
        if days:
            calls.append(RangeCall(symbol, min(days), max(days), restates=True))
    return calls


def shown_calls(calls: Sequence[Call]) -> tuple[list[str], int]:
    """Return the first calls of a plan as text, and how many they are."""
    lines = [str(call) for call in calls[:PLAN_LINES]]
    if len(calls) > PLAN_LINES:
        lines.append(f"and {len(calls) - PLAN_LINES} more")
    return lines, len(calls)


def span_of(sessions: Sequence[date]) -> SessionSpan:
    """Return the first and last of ascending sessions, and how many they are."""
    first, last = (str(sessions[0]), str(sessions[-1])) if sessions else (None, None)
    return {"first": first, "last": last, "count": len(sessions)}
