"""The three jobs: the only place that knows the order of their steps.

What comes in: a checked request, and the tools to carry it out. What goes out: the result as JSON. Every run that
starts leaves a row in ``job_runs``, also one that fails; a dry run leaves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import Connection

import database
import utils
from config import EVERY_SYMBOL
from connection import transaction
from errors import ConfigError, TimeUpError
from runs import Request, Run, Tools, recorded, turn
from sessions import last_sessions, previous_session, sessions_between, week_sessions, week_start
from transformations import weekly_performance

if TYPE_CHECKING:
    from mailer import Delivery
    from planner import Call
    from reporting import Report

PLAN_LINES = 20  # of a dry run's plan

Wanted = Callable[[Connection | None], list[date]]
"""The sessions that a run wants, given what is stored."""


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
    if job is not weekly_report and not request.dry_run and not tools.settings.polygon_api_key.get_secret_value():
        raise ConfigError(
            "POLYGON_API_KEY is not set: put a key of https://massive.com (the free plan will do) into .env,"
            " or add --sandbox to use recorded prices"
        )
    if request.dry_run:
        outcome = job(this)
    else:
        with recorded(this):
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
    """Load the last sessions before as-of, or those of an explicit range, of every symbol.

    Runs of ranges that have no session in common load at the same time.
    """
    request = this.request
    latest = previous_session(request.as_of)
    if request.start:
        wanted = sessions_between(request.start, min(request.end or latest, latest))
        return _bring(this, lambda _: wanted, latest, held=wanted)
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


def _bring(this: Run, wanted_sessions: Wanted, latest: date, held: Sequence[date] = ()) -> dict[str, Any]:
    """Load what is missing of the wanted sessions; in a dry run, say what would be asked."""
    from loading import load
    from splits import is_restatement, look_for_splits

    request = this.request
    if request.dry_run:
        _, calls, missing, _ = _plan(this, wanted_sessions)
        shown = [str(call) for call in calls[:PLAN_LINES]]
        shown += [f"and {len(calls) - PLAN_LINES} more"] if len(calls) > PLAN_LINES else []
        return {"status": "ok" if calls else "nothing_to_do", "sessions": missing, "plan": shown, "calls": len(calls)}
    with turn(this, held) as alone:
        wanted, calls, missing, looked = _plan(this, wanted_sessions)
        complete, must_be_alone = True, False
        if calls or not looked or looked < request.as_of:
            client = _client(this)
            complete = _in_time(this, lambda: look_for_splits(this, client, alone=alone))
            wanted, calls, missing, _ = _plan(this, wanted_sessions)
            # A run beside this one may be about to store an answer of the scale before the split.
            must_be_alone = not alone and any(is_restatement(call) for call in calls)
            if not must_be_alone:
                complete = complete and load(this, client, calls, latest)
    if must_be_alone:
        with turn(this):
            wanted, calls, missing, _ = _plan(this, wanted_sessions)
            complete = complete and load(this, client, calls, latest)
    if wanted and request.symbols != (EVERY_SYMBOL,):
        with transaction(this.tools.engine, write=False) as connection:
            unknown = utils.read_unknown(connection, request.symbols)
        this.warnings += [
            f"symbol {symbol!r}: the provider has no bar of it in these sessions; check its spelling"
            for symbol in unknown
        ]
    status = "partial" if not complete else "ok" if calls else "nothing_to_do"
    return {"status": status, "sessions": missing, "splits": this.splits}


def _plan(this: Run, wanted_sessions: Wanted) -> tuple[list[date], list[Call], list[date], date | None]:
    """The wanted sessions, the calls that bring what is missing of them, those, and the day of the last look."""
    from loading import plan_load

    with utils.reading(this.tools.engine) as stored:
        wanted = wanted_sessions(stored)
        calls, missing = plan_load(this, stored, wanted)
        return wanted, calls, missing, utils.read_splits_until(stored) if stored else None


def _in_time(this: Run, step: Callable[[], None]) -> bool:
    """Take a step, or leave it to the next run if the time left does not hold it."""
    try:
        step()
    except TimeUpError as error:
        this.warnings.append(f"left for the next run: {error}")
        return False
    return True


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
    with turn(this):
        return _report(this)


def _report(this: Run) -> dict[str, Any]:
    from charts import CHART_SESSIONS, fetch_charts
    from mailer import outbox_files
    from reporting import Week, build_report, chart_symbols, subject

    request, settings = this.request, this.tools.settings
    sessions = week_sessions(request.as_of)
    week = Week(sessions[0], sessions[-1], len(sessions))
    outcome: dict[str, Any] = {"sessions": sessions, "recipients": list(settings.mail_to), "charts": []}
    with utils.reading(this.tools.engine) as stored:
        sent = utils.read_sent_report(stored, week_start(sessions[0])) if stored else None
        if sent and sent["status"] == "sent" and not request.force:
            known = {"subject": sent["subject"], "sent_at": str(sent["sent_at"])}
            return {**outcome, "status": "already_sent", **known, "files": outbox_files(settings, week.name)}
        first = last_sessions(CHART_SESSIONS, sessions[-1] + timedelta(days=1))[0]
        history = utils.read_history(stored, request.symbols, first, sessions[-1]) if stored else utils.no_history()
        notes = _notes(stored, request, sessions, history) if stored else []
    performance = weekly_performance(history, pd.Timestamp(sessions[0]))
    if request.dry_run:
        return {
            **outcome,
            "status": "ok",
            "subject": subject(performance),
            "plan": [f"charts of {', '.join(chart_symbols(performance))}"],
        }
    drawn = history[history["symbol"].isin(chart_symbols(performance))]
    pictures, failures = fetch_charts(drawn, url=settings.quickchart_url, timeout=_time_for_charts(this))
    failures = _by_reason(failures)
    this.warnings += notes + failures
    report = build_report(performance, week, charts=pictures, notes=notes + failures)
    delivery = _deliver(this, report)
    this.warnings += [f"{recipient} was refused: {reason}" for recipient, reason in delivery.refused.items()]
    return {
        **outcome,
        "status": "sent",
        "subject": report.subject,
        "recipients": list(delivery.recipients),
        "charts": [chart.symbol for chart in report.charts],
        "files": outbox_files(settings, week.name),
    }


def _by_reason(failures: list[str]) -> list[str]:
    """Say once what is wrong with many: ``no chart for AAPL, FB: the chart service cannot be reached``."""
    symbols: dict[str, list[str]] = {}
    for failure in failures:
        start, _, reason = failure.partition(": ")
        symbols.setdefault(reason, []).append(start.removeprefix("no chart for "))
    return [f"no chart for {', '.join(names)}: {reason}" for reason, names in symbols.items()]


def _time_for_charts(this: Run) -> float:
    """Seconds: 10, or half of what is left of the invocation if that is less."""
    return max(min(10.0, this.tools.deadline.remaining / 2), 1.0)


def _deliver(this: Run, report: Report) -> Delivery:
    """Claim the week, hand the mail over, confirm; the next run after one that died in between finds the claim."""
    from mailer import send
    from reporting import build_message, page

    settings, now = this.tools.settings, this.tools.now()
    message = build_message(report, sender=settings.mail_from, recipients=settings.mail_to, sent_at=now)
    week = week_start(report.week.first)
    with transaction(this.tools.engine) as connection:
        attempt = database.claim_report(
            connection,
            week,
            run_id=this.run_id,
            message_id=str(message["Message-ID"]),
            subject=report.subject,
            recipients=", ".join(settings.mail_to),
            claimed_at=now,
        )
    if attempt > 1:
        this.warnings.append(f"this is attempt {attempt} to send the report of the week of {week}")
    delivery = send(message, settings, page=page(report))
    with transaction(this.tools.engine) as connection:
        database.confirm_report(connection, week, this.tools.now())
    return delivery


def _notes(connection: Connection, request: Request, sessions: list[date], history: pd.DataFrame) -> list[str]:
    """What the report should say of bars that are not there, in sentences."""
    notes = []
    week = history[history["date"] >= pd.Timestamp(sessions[0])]
    traded = {symbol: set(dates.dt.date) for symbol, dates in week.groupby("symbol")["date"]}
    if request.symbols != (EVERY_SYMBOL,):
        for symbol in request.symbols:
            lacking = [session for session in sessions if session not in traded.get(symbol, set())]
            if len(lacking) == len(sessions):
                notes.append(f"{symbol} has no bar in this week.")
            elif lacking:
                notes.append(f"{symbol} has no bar of {', '.join(f'{day:%A}' for day in lacking)}.")
    for symbol, day, reason in utils.read_rejected(connection, request.symbols, sessions[0], sessions[-1]):
        notes.append(f"A bar of {symbol} of {day:%A} was rejected: {reason}.")
    return notes


def _span(sessions: list[date]) -> dict[str, Any]:
    ends = (str(sessions[0]), str(sessions[-1])) if sessions else (None, None)
    return {"first": ends[0], "last": ends[1], "count": len(sessions)}


JOBS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "initialize": initialize,
    "daily_update": daily_update,
    "weekly_report": weekly_report,
}
