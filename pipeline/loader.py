"""Load bars: fetch and commit the answers to planned calls, batch by batch, and follow up on what they show.

A run can end after any batch, and the next one goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date

from sqlalchemy import Engine

import utils
from api_client import PolygonClient
from domain.calendar import today
from domain.clock import Deadline
from domain.coverage import Readings, is_settled, unread_ranges
from domain.errors import ApiError, CredentialsError, TimeUpError
from domain.models import EVERY_SYMBOL
from domain.planner import Call, GroupedCall, plan_calls
from pipeline.commit import Answer, LoadState, commit_batch, commit_restatement, record_coverage, see
from pipeline.fetcher import Reach, Response, fetch_batches
from pipeline.plan import Known, plan_restatements
from pipeline.run import Run
from storage.engine import database_time, transaction

NAMED = 5  # sessions in a warning; of more, these and a count

_NO_BARS = utils.no_history()[["symbol", "date"]]

logger = logging.getLogger(f"stock_tracker.{__name__}")


def load(
    run: Run,
    client: PolygonClient,
    calls: Sequence[Call],
    sessions: Sequence[date],
    known: Known,
    *,
    deadline: Deadline,
    force: bool = False,
) -> bool:
    """Make the calls and commit their answers, batch by batch, until all are done or time is up.

    Three kinds of calls may follow: one grouped call of the latest session if no answer shows it, which tells a stall
    of the provider from a halt of the symbols; a repeat of what was asked before the provider was known to have it and
    would be settled now; and one range call for each symbol whose history was restated.

    Parameters
    ----------
    run : Run
        Takes the counts and warnings.
    client : PolygonClient
    calls : sequence of Call
    sessions : sequence of datetime.date
        What is wanted, ascending.
    known : Known
        What the calls were planned from.
    deadline : Deadline
    force : bool
        Whether answers in doubt are accepted.

    Returns
    -------
    bool
        Whether all calls were made; if not, the next run goes on from there.

    Raises
    ------
    ApiError
        If the provider refuses or fails; what it answered before is committed. For an answer that contradicts the
        question, after all other calls, or as a warning if some are left.
    """
    state = _begin(run, sessions, known, force=force)
    remaining_calls, is_done = list(calls), False
    try:
        _fetch_and_commit(run, client, remaining_calls, state, deadline)
        remaining_calls = _latest_session(state, calls, sessions)
        _fetch_and_commit(run, client, remaining_calls, state, deadline)
        remaining_calls = _catch_up(run, state)
        _fetch_and_commit(run, client, remaining_calls, state, deadline)
        remaining_calls = _suspects(run, state, sessions)
        _fetch_and_commit(run, client, remaining_calls, state, deadline)
        is_done = True
    except TimeUpError as error:
        left = f"{len(remaining_calls):,} planned calls" if remaining_calls else "what the answers have shown"
        run.warnings.append(f"left for the next run: {left} ({error})")
    except (ApiError, CredentialsError):
        _note_reach(run, state)
        raise
    _note_reach(run, state)
    _warn(run, state)
    if not is_done:
        run.warnings += map(str, state.errors)
        return False
    run.context.progress(len(calls), len(calls), "")
    if state.errors:
        raise state.errors[0]
    return True


def _begin(run: Run, sessions: Sequence[date], known: Known, *, force: bool) -> LoadState:
    settle = run.context.settings.settle_sessions
    reach = Reach(run.request.as_of, today(run.context.now()), known.first)
    state = LoadState(settle, force, reach, seen_to=known.marks.seen_to, adopted_to=known.marks.adopted_to)
    for readings in set(known.coverage.values()):
        state.settled.update(_settled_sessions(readings, sessions, settle))
    if EVERY_SYMBOL in run.request.symbols:
        executor = ThreadPoolExecutor(1)
        state.market = executor.submit(_stored_symbols, run.context.engine)
        executor.shutdown(wait=False)
    return state


def _stored_symbols(engine: Engine) -> list[str]:
    with transaction(engine, write=False) as connection:
        return utils.read_stored_symbols(connection)


def _settled_sessions(readings: Readings, sessions: Sequence[date], settle: int) -> list[date]:
    return [
        session
        for session in sessions
        for reading in readings
        if reading.first <= session <= reading.last and is_settled(session, reading.seen_to, settle)
    ]


def _fetch_and_commit(
    run: Run, client: PolygonClient, remaining_calls: list[Call], state: LoadState, deadline: Deadline
) -> None:
    """Make the calls, and remove each from the list once its answer is committed.

    A grouped call of the latest session goes first while it is not known to be published, since the answer tells how
    far the provider is. It is committed last: the metrics of its bars depend on the sessions before.
    """
    latest, held = _latest_first(remaining_calls, state), list[Response]()
    batches = fetch_batches(
        client,
        tuple(remaining_calls),
        run.request.symbols,
        reach=state.reach,
        deadline=deadline,
        progress=run.progress,
    )
    with closing(batches):
        try:
            for batch in batches:
                if latest and batch[0].call is latest and len(batch) < len(remaining_calls):
                    held = [batch.pop(0)]
                    see(state, held[0])
                    remaining_calls.append(remaining_calls.pop(0))
                if batch:
                    _commit(run, batch, state)
                    del remaining_calls[: len(batch)]
        except (ApiError, CredentialsError, TimeUpError):
            if held:
                _commit(run, held, state)
                remaining_calls.pop()
            raise
    if held:
        _commit(run, held, state)
        remaining_calls.pop()


def _commit(run: Run, batch: list[Response], state: LoadState) -> None:
    started = time.monotonic()
    if batch[0].call.restates:
        commit_restatement(run, batch[0], state)
    else:
        commit_batch(run, batch, state)
    rows = sum(len(response.accepted) for response in batch)
    logger.debug("committed %d bars in %.0f ms", rows, (time.monotonic() - started) * 1000)


def _latest_first(calls: list[Call], state: LoadState) -> Call | None:
    """Move a grouped call of the last session to the front, unless that is known to be published."""
    last = max((call.last for call in calls), default=None)
    if last is None or (state.seen_to and state.seen_to >= last):
        return None
    latest = next((call for call in calls if isinstance(call, GroupedCall) and call.session == last), None)
    if latest:
        calls.remove(latest)
        calls.insert(0, latest)
    return latest


def _latest_session(state: LoadState, calls: Sequence[Call], sessions: Sequence[date]) -> list[Call]:
    """One grouped call of the latest session, if it was asked for and no answer shows it."""
    if not sessions or not any(call.last >= sessions[-1] for call in calls):
        return []
    known = state.seen_to is not None and state.seen_to >= sessions[-1]
    probe = GroupedCall(sessions[-1])
    return [] if known or probe in calls else [probe]


def _catch_up(run: Run, state: LoadState) -> list[Call]:
    """Let early answers count up to where the provider is known to be now, and plan what has to be asked again.

    A session without a bar in an early answer may have been published right after it. If it is provisional, it will be
    read again anyway; if it would be settled, it is asked for once more.
    """
    seen_to, again = state.seen_to, dict[str, set[date]]()
    answers = [answer for answer in state.early if seen_to and (not answer.seen_to or answer.seen_to < seen_to)]
    if not answers or seen_to is None:
        return []
    counted, settled_now = list[Answer](), set[date]()
    with transaction(run.context.engine) as connection:
        coverage = utils.read_coverage(connection, sorted({symbol for answer in answers for symbol in answer.symbols}))
        for answer in answers:
            published = [day for day in answer.sessions if day <= seen_to]
            if not published:
                continue
            for symbol in answer.symbols:
                gaps = unread_ranges(coverage.get(symbol, ()), published[0], published[-1])
                unread = {day for gap in gaps for day in published if gap[0] <= day <= gap[1]}
                settled = {day for day in unread if is_settled(day, seen_to, state.settle)}
                again.setdefault(symbol, set()).update(settled)
                counted += [Answer((symbol,), part, seen_to) for part in _unbroken(published, settled)]
        if counted:
            at = database_time(connection)
            settled_now = record_coverage(run, connection, counted, _NO_BARS, state, at)
            run.save(connection)
    state.newly_settled |= settled_now
    symbols = [symbol for symbol in again if again[symbol]]
    days = sorted({day for some in again.values() for day in some})
    wanted = [sum(1 << place for place, day in enumerate(days) if day in again[symbol]) for symbol in symbols]
    return plan_calls(symbols, days, wanted)


def _unbroken(sessions: Sequence[date], without: set[date]) -> list[list[date]]:
    """Split sessions at those that are left out."""
    parts: list[list[date]] = [[]]
    for session in sessions:
        if session in without:
            parts.append([])
        else:
            parts[-1].append(session)
    return [part for part in parts if part]


def _suspects(run: Run, state: LoadState, sessions: Sequence[date]) -> list[Call]:
    """One range call for each symbol whose history was found restated."""
    if not state.suspects:
        return []
    with transaction(run.context.engine, write=False) as connection:
        coverage = utils.read_coverage(connection, run.request.symbols)
        return [
            call
            for call in plan_restatements(run.request.symbols, connection, sessions, coverage, state.reach.first)
            if call.symbol in state.suspects
        ]


def _note_reach(run: Run, state: LoadState) -> None:
    """Keep what refusals have shown of the plan's history, and name it once."""
    if not state.reach.is_new or state.reach.first is None:
        return
    run.warnings.append(
        f"sessions before {state.reach.first} are out of reach of the provider's plan: kept as they are, and not asked"
        " for again"
    )
    with transaction(run.context.engine) as connection:
        run.save(connection, history_days=(run.request.as_of - state.reach.first).days)


def _warn(run: Run, state: LoadState) -> None:
    """Warn of sessions that are not published, and of those that the provider skips for good."""
    unpublished = sorted(
        {day for answer in state.early for day in answer.sessions if state.seen_to is None or day > state.seen_to}
    )
    many = unpublished[:-1] if len(unpublished) > NAMED else []
    for named in ([_named(many)] if many else []) + [str(day) for day in unpublished[len(many) :]]:
        run.warnings.append(f"the provider has no bar of {named} yet: the next run asks again")
    if unpublished:
        run.note(splits_until=unpublished[-1])  # nor can it be trusted to know this morning's splits
        with transaction(run.context.engine) as connection:
            run.save(connection)
    skipped = _skipped_sessions(run, state)
    if skipped:
        run.warnings.append(
            f"the provider has no bar of any symbol on {_named(skipped)}, although the exchange was open:"
            " taken as final"
        )


def _named(sessions: Sequence[date]) -> str:
    """Name the first sessions, and count the others."""
    more = f" and {len(sessions) - NAMED} more" if len(sessions) > NAMED else ""
    return ", ".join(map(str, sessions[:NAMED])) + more


def _skipped_sessions(run: Run, state: LoadState) -> list[date]:
    """The sessions that this load settled, of which no symbol has a bar although earlier and later ones have."""
    candidates = sorted(state.newly_settled - state.shown)
    if not candidates:
        return []
    with transaction(run.context.engine, write=False) as connection:
        return utils.read_empty_sessions(connection, candidates)
