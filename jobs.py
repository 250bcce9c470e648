"""The three jobs: the only place that knows the order of their steps.

What comes in: a checked request, and the tools to carry it out. What goes out: the result as JSON. Every run that
starts leaves a row in ``job_runs``, also one that fails; a dry run leaves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

from sqlalchemy import Connection

import utils
from config import EVERY_SYMBOL
from connection import run_lock, transaction
from runs import Request, Run, Tools, recorded
from sessions import last_sessions, previous_session, sessions_between

PLAN_LINES = 20  # of a dry run's plan


def run(request: Request, tools: Tools) -> dict[str, Any]:
    """Run the job that a request names.

    Parameters
    ----------
    request : Request
    tools : Tools

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
    this = Run(request, tools)
    job = JOBS[request.job_type]
    if request.dry_run:
        outcome = job(this)
    else:
        with run_lock(tools.engine, tools.deadline.remaining), recorded(this):
            outcome = job(this)
            with transaction(tools.engine) as connection:
                this.save(connection, status=outcome["status"], finished_at=tools.now())
    return {
        "status": outcome.pop("status"),
        "job_type": request.job_type,
        "run_id": this.run_id,
        "as_of": str(request.as_of),
        "symbols": list(request.symbols),
        "sessions": _span(outcome.pop("sessions")),
        "api_calls": this.api_calls,
        "rows": vars(this.counts).copy(),
        **outcome,
        "warnings": this.warnings,
        "elapsed_seconds": round(time.monotonic() - started, 3),
    }


def initialize(this: Run) -> dict[str, Any]:
    """Load the last sessions before as-of, or those of an explicit range, of every symbol."""
    request = this.request
    latest = previous_session(request.as_of)
    if request.start:
        wanted = sessions_between(request.start, min(request.end or latest, latest))
    else:
        wanted = last_sessions(request.sessions, request.as_of)
    return _bring(this, lambda _: wanted, latest)


def daily_update(this: Run) -> dict[str, Any]:
    """Load the session before as-of, and whatever earlier is missing within the tracked history."""
    latest = previous_session(this.request.as_of)
    return _bring(this, lambda connection: _tracked_sessions(this, connection, latest), latest)


def _tracked_sessions(this: Run, connection: Connection | None, latest: date) -> list[date]:
    """All sessions since the first fetched of any of the symbols; with none fetched, those that initialize loads."""
    fetched = {} if connection is None else utils.read_coverage(connection, this.request.symbols)
    if EVERY_SYMBOL in this.request.symbols:
        fetched = {EVERY_SYMBOL: fetched.get(EVERY_SYMBOL, [])}
    starts = [first for ranges in fetched.values() for first, _ in ranges if first <= latest]
    if not starts:
        return last_sessions(this.tools.settings.history_sessions, this.request.as_of)
    return sessions_between(min(starts), latest)


def _bring(this: Run, wanted_sessions: Callable[[Connection | None], list[date]], latest: date) -> dict[str, Any]:
    """Load what is missing of the wanted sessions; in a dry run, say what would be asked."""
    from loading import load, plan_load

    with transaction(this.tools.engine, write=False) as connection:
        stored = connection if not this.request.dry_run or utils.schema_exists(connection) else None
        wanted = wanted_sessions(stored)
        calls = plan_load(this, stored, wanted)
    if this.request.dry_run:
        shown = [str(call) for call in calls[:PLAN_LINES]]
        shown += [f"and {len(calls) - PLAN_LINES} more"] if len(calls) > PLAN_LINES else []
        return {"status": "ok" if calls else "nothing_to_do", "sessions": wanted, "plan": shown, "calls": len(calls)}
    complete = True
    if calls:
        complete = load(this, _client(this), calls, latest)
    if this.request.symbols != (EVERY_SYMBOL,):
        with transaction(this.tools.engine) as connection:
            unknown = utils.read_unknown(connection, this.request.symbols)
        this.warnings += [
            f"symbol {symbol!r}: the provider has no bar of it in these sessions; check its spelling"
            for symbol in unknown
        ]
    return {"status": ("ok" if complete else "partial") if calls else "nothing_to_do", "sessions": wanted}


def _client(this: Run) -> Any:
    from api_client import PolygonClient

    settings = this.tools.settings
    return PolygonClient(
        base_url=settings.polygon_base_url,
        api_key=settings.polygon_api_key.get_secret_value(),
        calls_per_minute=settings.polygon_calls_per_minute,
        deadline=this.tools.deadline,
    )


def weekly_report(this: Run) -> dict[str, Any]:
    """Mail the week of the last session before as-of, unless it was mailed already."""
    raise NotImplementedError


def _span(sessions: list[date]) -> dict[str, Any]:
    ends = (str(sessions[0]), str(sessions[-1])) if sessions else (None, None)
    return {"first": ends[0], "last": ends[1], "count": len(sessions)}


JOBS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "initialize": initialize,
    "daily_update": daily_update,
    "weekly_report": weekly_report,
}
