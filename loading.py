"""Bring what is missing: the way of a bar from the provider to the table, call by call.

What comes in: a run, and the sessions it wants. What goes out: the table with them, and what there is to say of it.
Each call's bars, metrics, coverage, rejected bars and counts commit in one transaction, so that a run can end after any
of them and the next one goes on. This module decides the order of a load's steps and does none of them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import zip_longest

import numpy as np
import pandas as pd
from sqlalchemy import Connection

import database
import utils
from api_client import Bar, PolygonClient
from config import EVERY_SYMBOL
from connection import transaction
from errors import TimeUpError
from planner import Call, GroupedCall, RangeCall, merge_ranges, missing_pairs, plan_calls
from quality import judge
from runs import Run
from sessions import sessions_between
from splits import clear_history, is_restated, plan_restatements
from transformations import add_metrics, clean


@dataclass
class Progress:
    """What a load has seen so far.

    Attributes
    ----------
    latest : datetime.date
        The most recent session wanted, which the provider may not have yet.
    latest_seen : bool
        Whether any bar of it has come.
    waiting : set of str
        Symbols whose answer included `latest` in its range, but no bar of it, before any other bar of it had come.
    """

    latest: date
    latest_seen: bool = False
    waiting: set[str] = field(default_factory=set)


def plan_load(run: Run, connection: Connection | None, sessions: Sequence[date]) -> tuple[list[Call], list[date]]:
    """The fewest calls that bring what the run wants and the database lacks.

    Parameters
    ----------
    run : Run
    connection : sqlalchemy.Connection or None
        None stands for a database without tables.
    sessions : sequence of datetime.date
        What is wanted, ascending.

    Returns
    -------
    calls : list of Call
        The restatements of symbols that split, then the others, oldest first.
    missing : list of datetime.date
        The sessions that lack at least one symbol.
    """
    symbols = run.request.symbols
    fetched = {} if run.request.force or connection is None else utils.read_coverage(connection, symbols)
    missing = missing_pairs(symbols, sessions, fetched)
    incomplete = [sessions[column] for column in np.flatnonzero(missing.any(axis=0)).tolist()]
    restatements = [] if connection is None else plan_restatements(run, connection, sessions)
    restated = {call.symbol for call in restatements}
    missing[[symbol in restated for symbol in symbols]] = False
    return [*restatements, *plan_calls(symbols, sessions, missing)], incomplete


def load(run: Run, client: PolygonClient, calls: Sequence[Call], latest: date) -> bool:
    """Fetch and commit each call in turn, until all are done or time is up.

    Parameters
    ----------
    run : Run
        Takes the counts and warnings.
    client : PolygonClient
    calls : sequence of Call
    latest : datetime.date
        The most recent session wanted.

    Returns
    -------
    bool
        Whether all calls were made; if not, the next run goes on from there.
    """
    with transaction(run.tools.engine, write=False) as connection:
        progress = Progress(latest, latest_seen=utils.latest_is_known(connection, latest))
    deadline, slowest = run.tools.deadline, 0.0
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch") as ahead:
        # Two more must fit, or the answer fetched ahead would be thrown away when time is up. Nor does it wait for the
        # plan's limit: that is left to this thread, which an interrupt reaches.
        answers = _one_ahead(ahead, client, calls, lambda: client.is_ready and deadline.remaining > 2 * slowest)
        for done, call in enumerate(calls):
            run.tools.progress(done, len(calls), str(call))
            started = deadline.clock.monotonic()
            try:
                if deadline.remaining < slowest:
                    raise TimeUpError(f"the next call needs up to {slowest:.0f} s")
                commit(run, client, call, next(answers), progress)
            except TimeUpError as error:
                run.warnings.append(f"{len(calls) - done} of {len(calls)} calls are left for the next run: {error}")
                return False
            finally:
                run.api_calls = client.calls
            slowest = max(slowest, deadline.clock.monotonic() - started)
    run.tools.progress(len(calls), len(calls), "")
    _settle_latest(run, progress)
    return True


def _one_ahead(
    pool: ThreadPoolExecutor, client: PolygonClient, calls: Sequence[Call], in_time: Callable[[], bool]
) -> Iterator[list[Bar]]:
    """The answers in turn; while one is being committed, the next one is being fetched, and no more than that.

    A failure shows when its own turn comes. A restatement may ask again while it is committed, so nothing is fetched
    beside it.
    """
    waiting: Future[list[Bar]] | None = None
    for call, following in zip_longest(calls, calls[1:]):
        bars = waiting.result() if waiting else _fetch(client, call)
        alone = isinstance(call, RangeCall) and call.restates
        waiting = pool.submit(_fetch, client, following) if following and not alone and in_time() else None
        yield bars


def _fetch(client: PolygonClient, call: Call) -> list[Bar]:
    if isinstance(call, GroupedCall):
        return client.grouped_bars(call.session)
    return client.range_bars(call.symbol, call.first, call.last)


def commit(run: Run, client: PolygonClient, call: Call, bars: list[Bar], progress: Progress) -> None:
    """Take one answer into the database, all of it in one transaction.

    Parameters
    ----------
    run : Run
    client : PolygonClient
        Asked again only where the answer leaves open whether it is restated.
    call : Call
        What was asked.
    bars : list of dict
        What was answered.
    progress : Progress
        Brought up to date.
    """
    wanted = sessions_between(call.first, call.last)
    if isinstance(call, RangeCall):
        accepted, rejected = judge(bars, wanted, symbol=call.symbol)
    else:
        accepted, rejected = judge(_of_symbols(bars, run.request.symbols), wanted)
    new = clean(accepted)
    if call.first <= progress.latest <= call.last:
        progress.latest_seen |= bool((new["date"] == pd.Timestamp(progress.latest)).any())
    restated_symbol = call.symbol if isinstance(call, RangeCall) and is_restated(run, client, call, new) else None
    with transaction(run.tools.engine) as connection:
        cleared = clear_history(run, connection, restated_symbol, new) if restated_symbol else 0
        waiting = {split.symbol for split in utils.read_pending_splits(connection)}
        if waiting:
            new = new[~new["symbol"].isin(waiting)]
        rows, restated, present = add_metrics(new, utils.read_neighbours(connection, new))
        counts = database.load_bars(connection, rows, restated, present)
        counts.rejected = database.record_rejected(connection, run.run_id, rejected) + cleared
        _cover(run, connection, call, wanted, progress, waiting)
        run.counts.add(counts)
        run.save(connection)
    if isinstance(call, GroupedCall) and not bars and call.session != progress.latest:
        run.warnings.append(f"the provider has no bar of any symbol on {call.session}: taken as a closed exchange")


def _of_symbols(bars: list[Bar], symbols: tuple[str, ...]) -> list[Bar]:
    if symbols == (EVERY_SYMBOL,):
        return bars
    wanted = set(symbols)
    return [bar for bar in bars if not isinstance(bar, dict) or bar.get("T") in wanted]


def _cover(
    run: Run, connection: Connection, call: Call, wanted: list[date], progress: Progress, waiting: set[str]
) -> None:
    """Record the sessions of a call as fetched, but for symbols that wait to be restated.

    The latest session does not count while no bar of it has come from anywhere.
    """
    asked = run.request.symbols if isinstance(call, GroupedCall) else (call.symbol,)
    symbols = [symbol for symbol in asked if symbol not in waiting]
    if wanted and wanted[-1] == progress.latest and not progress.latest_seen:
        progress.waiting.update(symbols)
        wanted = wanted[:-1]
    if wanted:
        _add_coverage(connection, symbols, wanted[0], wanted[-1])


def _settle_latest(run: Run, progress: Progress) -> None:
    """Once the provider has shown a bar of the latest session, it has none of the symbols that lacked one."""
    if not progress.waiting:
        return
    if not progress.latest_seen:
        run.warnings.append(f"the provider has no bar of {progress.latest} yet: the next run asks again")
        with transaction(run.tools.engine) as connection:  # nor can it be trusted to know this morning's splits
            run.save(connection, splits_until=progress.latest)
        return
    with transaction(run.tools.engine) as connection:
        _add_coverage(connection, sorted(progress.waiting), progress.latest, progress.latest)


def _add_coverage(connection: Connection, symbols: Sequence[str], first: date, last: date) -> None:
    known = utils.read_coverage(connection, symbols)
    merged = {symbol: merge_ranges([*known.get(symbol, []), (first, last)]) for symbol in symbols}
    database.replace_coverage(connection, {s: parts for s, parts in merged.items() if parts != known.get(s)})
