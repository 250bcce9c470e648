"""The three jobs: the only place that knows the order of their steps.

Every run that starts leaves a row in ``job_runs``, also one that fails; a dry run leaves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import cast

import utils
from config import secrets_rotated
from domain.calendar import last_sessions, previous_session, sessions_between, week_sessions
from domain.coverage import Coverage
from domain.errors import ApiError, ConfigError, CredentialsError, StockTrackerError, TimeUpError
from domain.models import EVERY_SYMBOL, JobResult, JobType, Outcome, Request, Status
from pipeline.context import RunContext, without_secrets
from pipeline.plan import (
    KnownSplits,
    LoadPlan,
    TargetSessions,
    plan_load,
    shown_calls,
    span_of,
    tracked_sessions,
    tracked_since,
)
from pipeline.run import Run, journaled
from storage.engine import transaction
from storage.locks import HeldSessions


def run_job(request: Request, context: RunContext) -> JobResult:
    """Run the job that a request names.

    Raises
    ------
    StockTrackerError
        Recorded in ``job_runs`` as well, where the database can be reached.
    """
    started = time.monotonic()
    run = Run(request, context, _held_sessions(request))
    job = JOBS[request.job_type]
    if job is not weekly_report and not request.dry_run and not _has_key(run):
        raise ConfigError(
            "POLYGON_API_KEY is not set: put a key of https://massive.com (the free plan will do) into .env,"
            " or add --sandbox to use recorded prices"
        )
    with without_secrets(run.redact):
        if request.dry_run:
            outcome = job(run)
        else:
            with journaled(run):
                outcome = job(run)
                with transaction(context.engine, write=False) as connection:  # another session may hold the write lock
                    run.save(connection, status=outcome["status"], finished_at=context.now())
            if context.settings.site and job is not initialize and outcome["status"] != "partial":
                _publish(run, outcome)
    result = {
        "status": outcome["status"],
        "job_type": request.job_type,
        "run_id": run.run_id,
        "as_of": str(request.as_of),
        "symbols": list(request.symbols),
        "sessions": span_of(outcome["sessions"]),
        "api_calls": run.api_calls,
        "rows": vars(run.counts).copy(),
        **{name: value for name, value in outcome.items() if name not in ("status", "sessions")},
        "warnings": [run.redact(warning) for warning in run.warnings],
        "elapsed_seconds": round(time.monotonic() - started, 3),
    }
    return cast(JobResult, result)


def _publish(run: Run, outcome: Outcome) -> None:
    """Publish the market page. What keeps it from that is a warning: the job has done its work."""
    from pipeline.site import publish_site
    from web.target import open_target

    settings = run.context.settings
    try:
        publish_site(run.context, run.request.symbols, run.request.as_of, open_target(settings.site))
    except StockTrackerError as error:
        run.warnings.append(f"the market page was not published: {error}")
    else:
        outcome["site"] = settings.site_url or settings.site


def _has_key(run: Run) -> bool:
    return bool(run.context.settings.polygon_api_key.get_secret_value())


def initialize(run: Run) -> Outcome:
    """Load the last sessions before as-of, or those of an explicit range, of every symbol."""
    request = run.request
    wanted = _sessions_of_range(request) if request.start else last_sessions(request.sessions, request.as_of)
    return _load_missing(run, lambda _: wanted)


def _held_sessions(request: Request) -> HeldSessions | None:
    """The sessions that a run holds: runs of ranges that have no session in common load at the same time."""
    wanted = _sessions_of_range(request)
    return (wanted[0], wanted[-1]) if wanted else None


def _sessions_of_range(request: Request) -> list[date]:
    if not request.start:
        return []
    latest = previous_session(request.as_of)
    return sessions_between(request.start, min(request.end or latest, latest))


def daily_update(run: Run) -> Outcome:
    """Load the session before as-of and whatever earlier is missing, and read provisional sessions again."""
    return _load_missing(run, partial(tracked_sessions, run.request, run.context), settle=True)


def _load_missing(
    run: Run,
    target_sessions: TargetSessions,
    *,
    settle: bool = False,
    force: bool | None = None,
) -> Outcome:
    """Load what is missing of the target sessions; in a dry run, say what would be asked for.

    Parameters
    ----------
    run : Run
    target_sessions : callable
    settle : bool
        Whether provisional sessions are read again.
    force : bool, optional
        Whether everything is read again; default as requested.
    """
    from pipeline.loader import load
    from pipeline.splits import check_splits

    force = run.request.force if force is None else force
    deadline = run.context.deadline
    if run.request.dry_run:
        return _dry_run(run, _plan(run, target_sessions, settle=settle, force=force))
    if run.held and _plan(run, target_sessions, settle=settle, force=force).restates:
        run.hold_all()  # a restatement replaces history that a run beside this one may be adding to
    alone = run.await_turn()
    plan = _plan(run, target_sessions, settle=settle, force=force)
    complete = True
    try:
        due = _splits_due(run, plan)
        if due and check_splits(run, run.client(deadline), due, alone=alone):
            plan = _plan(run, target_sessions, settle=settle, force=force)
        if plan.calls:
            calls = [call for call in plan.calls if alone or not call.restates]
            complete = load(run, run.client(deadline), calls, plan.sessions, plan.known, deadline=deadline, force=force)
            if len(calls) < len(plan.calls):
                run.warnings.append("a history that was restated is left for the next run, which works alone")
                complete = False
    except TimeUpError as error:
        run.warnings.append(f"left for the next run: {error}")
        complete = False
    if plan.sessions and complete:
        _warn_of_unknown(run)
    status: Status = "partial" if not complete else "ok" if plan.calls else "nothing_to_do"
    return {"status": status, "sessions": plan.unread, "splits": run.splits}


def _plan(run: Run, target_sessions: TargetSessions, *, settle: bool, force: bool) -> LoadPlan:
    engine = run.context.engine
    with utils.reading(engine) if run.request.dry_run else transaction(engine, write=False) as stored:
        return plan_load(run.request, run.context, stored, target_sessions, settle=settle, force=force)


def _splits_due(run: Run, plan: LoadPlan) -> KnownSplits | None:
    """What is known of splits, if they are to be checked: before any bars are asked for, and once a day."""
    known = plan.splits
    is_due = known and (plan.calls or known.until is None or known.until < run.request.as_of)
    return known if is_due else None


def _dry_run(run: Run, plan: LoadPlan) -> Outcome:
    with utils.reading(run.context.engine) as stored:
        oldest = utils.read_oldest_reading(stored, run.request.symbols) if stored else None
    lines, calls = shown_calls(plan.calls)
    return {
        "status": "ok" if plan.calls else "nothing_to_do",
        "sessions": plan.unread,
        "plan": lines,
        "calls": calls,
        "read_again": span_of(plan.read_again),
        "oldest_reading": str(oldest) if oldest else None,
    }


def _warn_of_unknown(run: Run) -> None:
    symbols = [symbol for symbol in run.request.symbols if symbol not in run.stored]
    if not symbols or EVERY_SYMBOL in symbols:
        return
    with transaction(run.context.engine, write=False) as connection:
        unknown = utils.read_unknown(connection, symbols)
    for symbol in unknown:
        warning = f"symbol {symbol!r}: the provider has no bar of it in these sessions; check its spelling"
        if warning not in run.warnings:
            run.warnings.append(warning)


def weekly_report(run: Run) -> Outcome:
    """Audit a part of history, and mail the last week that has ended, unless it was mailed already."""
    from pipeline.audit import audit, plan_audit
    from pipeline.weekly_report import REPORT_SECONDS, already_sent, send_report

    tracked = partial(tracked_sessions, run.request, run.context)
    sessions = week_sessions(run.request.as_of)
    known = already_sent(run, sessions)
    with run.until(run.context.deadline.earlier(REPORT_SECONDS)):
        plan, shortfall = (None, []) if known else _load_week(run, sessions)
        if not run.request.dry_run and _has_key(run):
            audit(run, tracked)
    if known:
        return known
    run.await_turn()
    outcome = send_report(run, sessions, shortfall)
    if plan:
        lines, calls = shown_calls(plan_audit(run, tracked)[0])
        outcome["plan"] = [*plan.get("plan", []), *lines]
        outcome["calls"] = plan.get("calls", 0) + calls
    return outcome


def _load_week(run: Run, sessions: list[date]) -> tuple[Outcome | None, list[str]]:
    """Load what the week lacks, in the time that the report can spare.

    A report goes out with what is there. A list of symbols of which nothing was ever read gets its history, as an
    update would bring it. To force a report is to send it again, not to read everything again.

    Returns
    -------
    plan : Outcome or None
        Of a dry run.
    shortfall : list of str
        A sentence on what could not be loaded.
    """

    def wanted(coverage: Coverage) -> list[date]:
        if tracked_since(run.request, coverage, sessions[-1]):
            return sessions
        return last_sessions(run.context.settings.history_sessions, run.request.as_of)

    if not run.request.dry_run and not _has_key(run):
        lacks = _plan(run, wanted, settle=False, force=False).calls
        return None, ["POLYGON_API_KEY is not set: what is missing could not be loaded."] if lacks else []
    try:
        outcome = _load_missing(run, wanted, force=False)
    except (ApiError, CredentialsError) as error:
        if isinstance(error, CredentialsError) and secrets_rotated(run.context.settings):
            raise  # the handler tries once more, with the new one
        return None, [f"Some prices of this week could not be loaded: {run.redact(str(error))}."]
    late = ["Some prices of this week could not be loaded in the time that there was."]
    return outcome if run.request.dry_run else None, late if outcome["status"] == "partial" else []


JOBS: dict[JobType, Callable[[Run], Outcome]] = {
    "initialize": initialize,
    "daily_update": daily_update,
    "weekly_report": weekly_report,
}
