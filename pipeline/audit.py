"""The audit: read the least recently read part of settled history again."""

from __future__ import annotations

from datetime import date

import utils
from domain import audit as turns
from domain.audit import settled_ages
from domain.errors import ApiError, CredentialsError, TimeUpError
from domain.planner import Call
from pipeline.loader import load
from pipeline.plan import Known, TargetSessions, read_known
from pipeline.run import Run


def audit(run: Run, tracked_sessions: TargetSessions) -> None:
    """Read a part of settled history again, by at most ``AUDIT_CALLS`` calls.

    A failure is a warning: the report that follows goes out, and the next audit begins where this one ended.
    """
    run.await_turn()
    deadline = run.context.deadline
    try:
        calls, sessions, known = plan_audit(run, tracked_sessions)
        if calls and not load(run, run.client(deadline), calls, sessions, known, deadline=deadline):
            run.warnings.append("the audit goes on with the next report")
    except (ApiError, CredentialsError, TimeUpError) as error:
        run.warnings.append(f"the audit goes on with the next report: {error}")


def plan_audit(run: Run, tracked_sessions: TargetSessions) -> tuple[list[Call], list[date], Known]:
    """Plan the calls of an audit.

    Parameters
    ----------
    run : Run
    tracked_sessions : callable
        All sessions that the run's symbols should have, given what has been read.

    Returns
    -------
    calls : list of Call
        Nothing that was read since the latest session was published.
    sessions : list of datetime.date
        The tracked sessions that are within the plan's reach.
    known : Known
    """
    settings, symbols = run.context.settings, run.request.symbols
    with utils.reading(run.context.engine) as stored:
        known = read_known(run.request, stored if settings.audit_calls else None)
    coverage, first, published = known.coverage, known.first, known.marks.seen_to
    if not published:
        return [], [], known
    sessions = [session for session in tracked_sessions(coverage) if not first or session >= first]
    if not sessions:
        return [], [], known
    ages = settled_ages(symbols, sessions, coverage, settings.settle_sessions, published)
    return turns.plan_audit(symbols, sessions, ages, settings.audit_calls), sessions, known
