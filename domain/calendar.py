"""NYSE trading sessions: the previous one, the last N, the week of a date, and the session of a timestamp.

The calendar (holidays, early closes, unscheduled closures) is XNYS of exchange-calendars. A session is a
``datetime.date`` in New York.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

NEW_YORK = ZoneInfo("America/New_York")
FIRST_YEAR, LAST_YEAR = 1990, 2099  # the years that a payload may name

Dates = npt.NDArray[np.datetime64]


def today(now: datetime) -> date:
    """Return the date in New York at an aware moment."""
    return now.astimezone(NEW_YORK).date()


def sessions_between(first: date, last: date) -> list[date]:
    """Return all sessions from `first` to `last`, both included, ascending; empty if `first` is after `last`."""
    days = _sessions(first, last)
    return list(days.tolist())


def count_sessions(first: date, last: date) -> int:
    """Count the sessions from `first` to `last`, both included."""
    return len(_sessions(first, last))


def _sessions(first: date, last: date) -> Dates:
    if first > last:
        return np.empty(0, dtype="datetime64[D]")
    decades = [_sessions_of_decade(decade) for decade in range(first.year // 10, last.year // 10 + 1)]
    known = decades[0] if len(decades) == 1 else np.concatenate(decades)
    lower, upper = np.searchsorted(known, [np.datetime64(first), np.datetime64(last) + 1])
    return known[lower:upper]


def next_session(day: date) -> date:
    """Return the first session strictly after a day."""
    return sessions_between(day + timedelta(days=1), day + timedelta(days=15))[0]


def previous_session(as_of: date) -> date:
    """Return the last session strictly before `as_of`."""
    return sessions_between(as_of - timedelta(days=15), as_of - timedelta(days=1))[-1]


def last_sessions(count: int, as_of: date) -> list[date]:
    """Return the last `count` sessions strictly before `as_of`, ascending."""
    # 252 sessions make a year of 365.25 days; 1.5 and two weeks leave room for any cluster of holidays.
    first = as_of - timedelta(days=int(count * 1.5) + 15)
    return sessions_between(first, as_of - timedelta(days=1))[-count:]


def week_sessions(as_of: date) -> list[date]:
    """Return the sessions, Monday to Friday, of the last week that ended before `as_of`."""
    monday = week_start(previous_session(as_of))
    sessions = sessions_between(monday, monday + timedelta(days=6))
    return sessions if sessions[-1] < as_of else week_sessions(monday)


def week_start(day: date) -> date:
    """Return the Monday of the week of `day`."""
    return day - timedelta(days=day.weekday())


def session_dates(milliseconds: npt.ArrayLike) -> Dates:
    """Return the New York dates of timestamps, whether they mark a session's start or its end.

    Parameters
    ----------
    milliseconds : array_like of int, shape (n,)
        Milliseconds since 1970-01-01 UTC.

    Returns
    -------
    numpy.ndarray of datetime64[D], shape (n,)
    """
    import pandas as pd

    moments = pd.DatetimeIndex(np.asarray(milliseconds, dtype="datetime64[ms]"), tz="UTC")
    local = moments.tz_convert(NEW_YORK).tz_localize(None)
    return np.asarray(local.to_numpy().astype("datetime64[D]"))


@lru_cache(maxsize=16)
def _sessions_of_decade(decade: int) -> Dates:
    """Return all sessions of ten years. Building a calendar takes 0.1 s, hence the cache."""
    from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar

    calendar = XNYSExchangeCalendar(start=f"{decade}0-01-01", end=f"{decade}9-12-31")
    known: Dates = calendar.sessions.to_numpy().astype("datetime64[D]")
    return known
