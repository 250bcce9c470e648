"""Check what time does to a set-up: the clock, the age of the calendar, and the last runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

import utils
from domain import holidays
from domain.calendar import count_sessions, last_sessions, previous_session, today
from domain.errors import StockTrackerError
from domain.models import EVERY_SYMBOL
from entrypoints.checks import Check, Setup, failed, listed, no_database, ok, skipped, warning
from storage.engine import database_time

MOST_DRIFT = timedelta(seconds=60)
SESSIONS_PER_YEAR = 252
LAST_RUNS = 50
LOADS, LOADED = ("initialize", "daily_update"), ("ok", "nothing_to_do", "partial")  # jobs, and how they end well
DIED = ("failed", "interrupted", "abandoned")


def check_clock(setup: Setup) -> Check:
    """Compare this machine's clock with those that have answered."""
    drifts = setup.drifts
    if not drifts:
        return skipped("clock", "no other clock has answered", "mend the key or the database first")
    off = {whose: drift for whose, drift in drifts.items() if abs(drift) > MOST_DRIFT}
    if not off:
        most = max(abs(drift).total_seconds() for drift in drifts.values())
        return ok("clock", f"within {most + 1:.0f} s of {' and '.join(drifts)}")
    found = " and ".join(
        f"{abs(drift).total_seconds():,.0f} s {'behind' if drift > timedelta(0) else 'ahead of'} {whose}"
        for whose, drift in off.items()
    )
    is_the_databases = list(off) == ["the database"] and len(drifts) > 1
    whose = "the database's server" if is_the_databases else "this machine (timedatectl set-ntp true)"
    return warning("clock", f"this machine's clock is {found}", f"set the clock of {whose} by network time")


def check_calendar(setup: Setup) -> Check:
    """Look for sessions of the last year that only the calendar knows, and for those of next year."""
    empty: list[date] = []
    if setup.engine is not None:
        try:
            with utils.reading(setup.limited(setup.engine)) as stored:
                if stored:
                    empty = _read_but_empty(stored, last_sessions(SESSIONS_PER_YEAR, setup.today))
        except StockTrackerError as error:
            return failed("calendar", str(error), "run doctor again")
    return calendar_check(setup.today, empty, on_lambda=setup.on_lambda)


def calendar_check(day: date, empty: Sequence[date], *, on_lambda: bool) -> Check:
    """Check the calendar on a day; `empty` are sessions of which no symbol has a bar."""
    year, version = day.year + 1, holidays.VERSION
    count = count_sessions(date(year, 1, 1), date(year, 12, 31))
    cure = f"update it ({'make calendar deploy' if on_lambda else 'make calendar'})"
    if empty:
        days = listed([str(each) for each in empty])
        found = f"exchange-calendars {version} calls sessions open of which no symbol has a bar: {days}"
        return warning("calendar", found, f"{cure}, or read them again: initialize with start, end and force")
    if not count:
        return warning("calendar", f"exchange-calendars {version} knows no session of {year}", cure)
    return ok("calendar", f"exchange-calendars {version} knows {count} sessions of {year}")


def _read_but_empty(stored: Connection, sessions: list[date]) -> list[date]:
    """Return the sessions that were read, and of which no symbol has a bar."""
    readings = [each for some in utils.read_coverage(stored, [EVERY_SYMBOL]).values() for each in some]
    empty = utils.read_empty_sessions(stored, sessions)
    return [day for day in empty if any(reading.first <= day <= reading.last for reading in readings)]


def check_freshness(setup: Setup) -> Check:
    """Look at the last runs."""
    if setup.engine is None:
        return no_database("freshness")
    try:
        with utils.reading(setup.limited(setup.engine)) as stored:
            runs = utils.read_last_runs(stored, LAST_RUNS) if stored else []
            clock = database_time(stored) if stored else setup.now()
    except StockTrackerError as error:
        return failed("freshness", str(error), "run doctor again")
    return _check_runs(runs, clock, previous_session(setup.today))


def _check_runs(runs: Sequence[Mapping[str, Any]], clock: datetime, latest: date) -> Check:
    """Check the last runs, newest first, by the database's clock and the latest session."""
    if not runs:
        return warning("freshness", "no run yet", "run initialize")
    for run in runs:
        if run["status"] == "running" and _is_over(run["leased_until"], clock):
            found = f"{run['job_type']} of {_moment(run)} stands as running, and its process is gone"
            return warning("freshness", found, "nothing to do: the next run closes it; see the log if it happens again")
    last = runs[0]
    found = f"{last['job_type']} of {_moment(last)}: {last['status']}"
    if last["status"] in DIED:
        return warning("freshness", f"{found}: {last['error']}", f"run {last['job_type']} again; nothing is lost")
    loads = [run for run in runs if run["job_type"] in LOADS and run["status"] in LOADED]
    if not loads:
        return warning("freshness", f"{found}; none of the last {len(runs)} runs loaded prices", "run daily_update")
    if (missed := count_sessions(today(_aware(loads[0]["started_at"])), latest)) > 1:
        found = f"{missed} sessions have ended since the last load, {loads[0]['job_type']} of {_moment(loads[0])}"
        return warning("freshness", found, "run daily_update, and check its schedule")
    return ok("freshness", found)


def _moment(run: Mapping[str, Any]) -> str:
    return f"{_aware(run['started_at']).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _is_over(lease: datetime | None, clock: datetime) -> bool:
    return lease is None or _aware(lease) < clock


def _aware(moment: datetime) -> datetime:
    """Return a moment with its zone, which SQLite does not keep."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
