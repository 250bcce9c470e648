"""The three jobs: the only place that knows the order of their steps.

What comes in: a checked request, and the context to carry it out. What goes out: the result as JSON. Every run that
starts leaves a row in ``job_runs``, also one that fails; a dry run leaves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

import utils
from config import secrets_rotated
from domain.calendar import last_sessions, previous_session, sessions_between, week_sessions
from domain.errors import ApiError, ConfigError, CredentialsError, TimeUpError
from domain.models import EVERY_SYMBOL, Request
from pipeline.run import Run, RunContext, exclusive, journaled
from storage.engine import transaction

if TYPE_CHECKING:
    from domain.planner import Call

PLAN_LINES = 20  # of a dry run's plan

Wanted = Callable[[Connection | None], list[date]]
"""The sessions that a run wants, given what is stored."""


def run_job(request: Request, context: RunContext) -> dict[str, Any]:
    """Run the job that a request names.

    Parameters
    ----------
    request : Request
    context : RunContext

    Returns
    -------
    dict
        The result; JSON-serialisable.

    Raises
    ------
    StockTrackerError
        Recorded in ``job_runs`` as well, where the database can be reached.
    """
    started = time.monotonic()
    run = Run(request, context)
    job = JOBS[request.job_type]
    if job is not weekly_report and not request.dry_run and not context.settings.polygon_api_key.get_secret_value():
        raise ConfigError(
            "POLYGON_API_KEY is not set: put a key of https://massive.com (the free plan will do) into .env,"
            " or add --sandbox to use recorded prices"
        )
    if request.dry_run:
        outcome = job(run)
    else:
        with journaled(run):
            outcome = job(run)
            with transaction(context.engine) as connection:
                run.save(connection, status=outcome["status"], finished_at=context.now())
    return {
        "status": outcome.pop("status"),
        "job_type": request.job_type,
        "run_id": run.run_id,
        "as_of": str(request.as_of),
        "symbols": list(request.symbols),
        "sessions": _span(outcome.pop("sessions")),
        "api_calls": run.api_calls,
        "rows": vars(run.counts).copy(),
        **outcome,
        "warnings": run.warnings,
        "elapsed_seconds": round(time.monotonic() - started, 3),
    }


def initialize(run: Run) -> dict[str, Any]:
    """Load the last sessions before as-of, or those of an explicit range, of every symbol.

    Runs of ranges that have no session in common load at the same time.
    """
    request = run.request
    latest = previous_session(request.as_of)
    if request.start:
        wanted = sessions_between(request.start, min(request.end or latest, latest))
        return _load_missing(run, lambda _: wanted, latest, held=wanted)
    wanted = last_sessions(request.sessions, request.as_of)
    return _load_missing(run, lambda _: wanted, latest)


def daily_update(run: Run) -> dict[str, Any]:
    """Load the session before as-of, and whatever earlier is missing within the tracked history."""
    latest = previous_session(run.request.as_of)
    return _load_missing(run, lambda connection: _tracked_sessions(run, connection, latest), latest)


def _tracked_sessions(run: Run, connection: Connection | None, latest: date) -> list[date]:
    """All sessions since the first fetched of any of the symbols; with none fetched, those that initialize loads."""
    if since := _tracked_since(run, connection, latest):
        return sessions_between(since, latest)
    return last_sessions(run.context.settings.history_sessions, run.request.as_of)


def _tracked_since(run: Run, connection: Connection | None, latest: date) -> date | None:
    """The first session fetched of any of the symbols up to `latest`, if any."""
    fetched = {} if connection is None else utils.read_coverage(connection, run.request.symbols)
    if EVERY_SYMBOL in run.request.symbols:
        fetched = {EVERY_SYMBOL: fetched.get(EVERY_SYMBOL, [])}
    return min((first for ranges in fetched.values() for first, _ in ranges if first <= latest), default=None)


def _load_missing(run: Run, wanted_sessions: Wanted, latest: date, held: Sequence[date] = ()) -> dict[str, Any]:
    """Load what is missing of the wanted sessions; in a dry run, say what would be asked."""
    from pipeline.loader import load
    from pipeline.splits import look_for_splits

    request = run.request
    if request.dry_run:
        _, calls, missing, _ = _plan(run, wanted_sessions)
        shown = [str(call) for call in calls[:PLAN_LINES]]
        shown += [f"and {len(calls) - PLAN_LINES} more"] if len(calls) > PLAN_LINES else []
        return {"status": "ok" if calls else "nothing_to_do", "sessions": missing, "plan": shown, "calls": len(calls)}
    with exclusive(run, held) as alone:
        wanted, calls, missing, splits_checked_until = _plan(run, wanted_sessions)
        complete, must_be_alone = True, False
        if calls or not splits_checked_until or splits_checked_until < request.as_of:
            client = _client(run)
            complete = _in_time(run, lambda: look_for_splits(run, client, alone=alone))
            wanted, calls, missing, _ = _plan(run, wanted_sessions)
            # A run beside this one may be about to store an answer of the scale before the split.
            must_be_alone = not alone and any(call.restates for call in calls)
            if not must_be_alone:
                complete = complete and load(run, client, calls, latest)
    if must_be_alone:
        with exclusive(run):
            wanted, calls, missing, _ = _plan(run, wanted_sessions)
            complete = complete and load(run, client, calls, latest)
    if wanted and request.symbols != (EVERY_SYMBOL,):
        with transaction(run.context.engine, write=False) as connection:
            unknown = utils.read_unknown(connection, request.symbols)
        run.warnings += [
            f"symbol {symbol!r}: the provider has no bar of it in these sessions; check its spelling"
            for symbol in unknown
        ]
    status = "partial" if not complete else "ok" if calls else "nothing_to_do"
    return {"status": status, "sessions": missing, "splits": run.splits}


def _plan(run: Run, wanted_sessions: Wanted) -> tuple[list[date], list[Call], list[date], date | None]:
    """The wanted sessions, the calls that bring what is missing of them, those, and the day of the last look."""
    from pipeline.loader import plan_load

    with utils.reading(run.context.engine) as stored:
        wanted = wanted_sessions(stored)
        calls, missing = plan_load(run, stored, wanted)
        return wanted, calls, missing, utils.read_splits_until(stored) if stored else None


def _in_time(run: Run, step: Callable[[], None]) -> bool:
    """Take a step, or leave it to the next run if the time left does not hold it."""
    try:
        step()
    except TimeUpError as error:
        run.warnings.append(f"left for the next run: {error}")
        return False
    return True


def _client(run: Run) -> Any:
    from api_client import PolygonClient

    settings = run.context.settings
    return PolygonClient(
        base_url=settings.polygon_base_url,
        api_key=settings.polygon_api_key.get_secret_value(),
        calls_per_minute=settings.polygon_calls_per_minute,
        deadline=run.context.deadline,
    )


def weekly_report(run: Run) -> dict[str, Any]:
    """Mail the last week that has ended, unless it was mailed already; before that, load what it lacks."""
    from pipeline.weekly_report import already_sent, send_report

    sessions = week_sessions(run.request.as_of)
    if known := already_sent(run, sessions):
        return dict(known)
    plan, shortfall = _load_week(run, sessions)
    with exclusive(run):  # which loading takes for itself
        return {**send_report(run, sessions, shortfall), **plan}


def _load_week(run: Run, sessions: list[date]) -> tuple[dict[str, Any], list[str]]:
    """Load what the week lacks, in the time that the report can spare.

    Returns what a dry run would ask for, and a sentence on what could not be loaded: a report goes out with what is
    there. A symbol list of which nothing was ever fetched gets its history, as an update would bring it.
    """
    from pipeline.loader import plan_load
    from pipeline.weekly_report import REPORT_SECONDS

    context = run.context
    loader = replace(
        run,
        request=replace(run.request, force=False),  # to force a report is to send it again, not to fetch it again
        context=replace(context, deadline=context.deadline.earlier(REPORT_SECONDS)),
    )

    def wanted(connection: Connection | None) -> list[date]:
        if _tracked_since(run, connection, sessions[-1]):
            return sessions
        return last_sessions(context.settings.history_sessions, run.request.as_of)

    if not run.request.dry_run and not context.settings.polygon_api_key.get_secret_value():
        with utils.reading(context.engine) as stored:
            calls, _ = plan_load(loader, stored, wanted(stored))
        return {}, ["POLYGON_API_KEY is not set: what is missing could not be loaded."] if calls else []
    try:
        outcome = _load_missing(loader, wanted, previous_session(run.request.as_of))
    except (ApiError, CredentialsError) as error:
        if isinstance(error, CredentialsError) and secrets_rotated(context.settings):
            raise  # the handler tries once more, with the new one
        return {}, [f"Some prices of this week could not be loaded: {error}."]
    finally:
        run.api_calls = loader.api_calls
    late = ["Some prices of this week could not be loaded in the time that there was."]
    plan: dict[str, Any] = {key: outcome[key] for key in ("plan", "calls") if key in outcome}
    return plan, late if outcome["status"] == "partial" else []


def _span(sessions: list[date]) -> dict[str, Any]:
    ends = (str(sessions[0]), str(sessions[-1])) if sessions else (None, None)
    return {"first": ends[0], "last": ends[1], "count": len(sessions)}


JOBS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "initialize": initialize,
    "daily_update": daily_update,
    "weekly_report": weekly_report,
}
