"""Bring what is missing: the way of a bar from the provider to the table, batch by batch.

What comes in: a run, and the sessions it wants. What goes out: the table with them, and what there is to say of it.
The bars, metrics, coverage, rejected bars and counts of a batch of answers commit in one transaction, so that a run can
end after any of them and the next one goes on. This module decides the order of a load's steps and does none of them
itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pandas as pd
from sqlalchemy import Connection

import database
import utils
from api_client import PolygonClient
from domain.errors import TimeUpError
from domain.planner import Call, GroupedCall, Range, RangeCall, merge_ranges, missing_pairs, plan_calls
from pipeline.fetcher import Response, fetch_batches
from pipeline.run import Run
from pipeline.splits import is_restated, plan_restatements, quarantine_unrestated
from storage.engine import transaction
from transformations import add_metrics, clean


@dataclass
class LoadState:
    """What a load has seen so far.

    Attributes
    ----------
    latest : datetime.date
        The most recent session wanted, which the provider may not have yet.
    latest_seen, latest_rejected : bool
        Whether any bar of it has come, and whether one came that was rejected.
    waiting : set of str
        Symbols whose answer included `latest` in its range, but no bar of it, before any other bar of it had come.
    """

    latest: date
    latest_seen: bool = False
    latest_rejected: bool = False
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
    """Make the calls and commit their answers, batch by batch, until all are done or time is up.

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

    Raises
    ------
    ApiError
        If the provider refuses or fails; what it answered before is committed.
    """
    with transaction(run.context.engine, write=False) as connection:
        progress = LoadState(latest, latest_seen=utils.latest_is_known(connection, latest))
    remaining_calls = list(calls)
    try:
        _fetch_and_commit(run, client, remaining_calls, progress)
        if progress.waiting and progress.latest_seen:
            # The provider got it between two answers, or has none of these symbols: one more call tells.
            remaining_calls.append(GroupedCall(latest))
            _fetch_and_commit(run, client, remaining_calls, progress)
    except TimeUpError as error:
        run.warnings.append(
            f"{len(remaining_calls)} of {len(calls)} calls are remaining_calls for the next run: {error}"
        )
        return False
    finally:
        run.api_calls = client.calls
    run.context.progress(len(calls), len(calls), "")
    if progress.waiting and not progress.latest_seen:
        run.warnings.append(
            f"every bar of {latest} was rejected (see rejected_bars): the next run asks again"
            if progress.latest_rejected
            else f"the provider has no bar of {latest} yet: the next run asks again"
        )
        with transaction(run.context.engine) as connection:  # nor can it be trusted to know this morning's splits
            run.save(connection, splits_until=latest)
    return True


def _fetch_and_commit(run: Run, client: PolygonClient, remaining_calls: list[Call], progress: LoadState) -> None:
    """Make the calls that are remaining_calls, and take each from the list once its answer is committed."""
    context = run.context
    with closing(
        fetch_batches(
            client, tuple(remaining_calls), run.request.symbols, deadline=context.deadline, progress=context.progress
        )
    ) as batches:
        for batch in batches:
            run.api_calls = client.calls
            commit(run, client, batch, progress)
            del remaining_calls[: len(batch)]


def commit(run: Run, client: PolygonClient, batch: Sequence[Response], progress: LoadState) -> None:
    """Take a batch of answers into the database, all of it in one transaction.

    Parameters
    ----------
    run : Run
    client : PolygonClient
        Asked again only where an answer leaves open whether it is restated.
    batch : sequence of Response
        One or more in the order of their calls, of which a later bar replaces an earlier one; a restatement is alone.
    progress : LoadState
        Brought up to date.
    """
    new = clean(pd.concat([answer.accepted for answer in batch], ignore_index=True))
    call = batch[0].call
    restated_symbol = call.symbol if isinstance(call, RangeCall) and is_restated(run, client, call, new) else None
    with transaction(run.context.engine) as connection:
        cleared = quarantine_unrestated(run, connection, restated_symbol, new) if restated_symbol else 0
        waiting = {split.symbol for split in utils.read_pending_splits(connection)}
        if waiting:
            new = new[~new["symbol"].isin(waiting)]
        rows, restated, present = add_metrics(new, utils.read_neighbours(connection, new))
        counts = database.load_bars(connection, rows, restated, present)
        rejected = [bar for answer in batch for bar in answer.rejected]
        counts.rejected = database.record_rejected(connection, run.run_id, rejected) + cleared
        _record_coverage(run, connection, batch, progress, waiting)
        run.counts.add(counts)
        run.save(connection)
    run.warnings += [
        f"the provider has no bar of any symbol on {answer.call.first}: taken as a closed exchange"
        for answer in batch
        if isinstance(answer.call, GroupedCall) and answer.is_empty and answer.call.session != progress.latest
    ]


def _record_coverage(
    run: Run, connection: Connection, batch: Sequence[Response], progress: LoadState, waiting: set[str]
) -> None:
    """Record the sessions of each call as fetched, but for symbols that wait to be restated.

    The latest session does not count while no bar of it has come from anywhere.
    """
    fetched: dict[str, list[Range]] = {}
    for answer in batch:
        progress.latest_seen = progress.latest_seen or answer.holds(progress.latest)
        progress.latest_rejected |= any(bar.date == progress.latest for bar in answer.rejected)
        sessions = answer.sessions
        asked = run.request.symbols if isinstance(answer.call, GroupedCall) else (answer.call.symbol,)
        symbols = tuple(symbol for symbol in asked if symbol not in waiting)
        if sessions and sessions[-1] == progress.latest and not progress.latest_seen:
            progress.waiting.update(symbols)
            sessions = sessions[:-1]
        if sessions:
            for symbol in symbols:
                fetched.setdefault(symbol, []).append((sessions[0], sessions[-1]))
    _add_coverage(connection, fetched)


def _add_coverage(connection: Connection, fetched: Mapping[str, Sequence[Range]]) -> None:
    known = utils.read_coverage(connection, list(fetched))
    merged = {symbol: merge_ranges([*known.get(symbol, []), *ranges]) for symbol, ranges in fetched.items()}
    database.replace_coverage(connection, {s: parts for s, parts in merged.items() if parts != known.get(s)})
