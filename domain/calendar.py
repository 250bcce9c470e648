"""NYSE trading sessions: the previous one, the last N, the week of a date, and which session a timestamp belongs to.

The calendar (holidays, early closes, unscheduled closures) is exchange-calendars' XNYS. Pure: no clock, no network, no
database; "now" is passed in. A session is a ``datetime.date`` in New York.
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
    """The date in New York at an aware moment."""
    return now.astimezone(NEW_YORK).date()


def sessions_between(first: date, last: date) -> list[date]:
    """All sessions from `first` to `last`, both included, ascending; empty if `first` is after `last`."""
    if first > last:
        return []
    decades = range(first.year // 10, last.year // 10 + 1)
    known = np.concatenate([_sessions_of_decade(decade) for decade in decades])
    lower, upper = np.searchsorted(known, [np.datetime64(first), np.datetime64(last) + 1])
    return list(known[lower:upper].tolist())


def previous_session(as_of: date) -> date:
    """The last session strictly before `as_of`."""
    return sessions_between(as_of - timedelta(days=15), as_of - timedelta(days=1))[-1]


def last_sessions(count: int, as_of: date) -> list[date]:
    """The last `count` sessions strictly before `as_of`, ascending."""
    # 252 sessions make a year of 365.25 days; 1.5 and two weeks leave room for any cluster of holidays.
    first = as_of - timedelta(days=int(count * 1.5) + 15)
    return sessions_between(first, as_of - timedelta(days=1))[-count:]


def week_sessions(as_of: date) -> list[date]:
    """The sessions, Monday to Friday, of the last week that has ended: all of them are before `as_of`."""
    monday = week_start(previous_session(as_of))
    sessions = sessions_between(monday, monday + timedelta(days=6))
    return sessions if sessions[-1] < as_of else week_sessions(monday)


def week_start(day: date) -> date:
    """The Monday of the week of `day`."""
    return day - timedelta(days=day.weekday())


def session_dates(milliseconds: npt.ArrayLike) -> Dates:
    """The New York date of timestamps, whether they mark a session's start or its end.

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
    """All sessions of ten years; building a calendar takes 0.1 s, hence the cache."""
    from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar

    calendar = XNYSExchangeCalendar(start=f"{decade}0-01-01", end=f"{decade}9-12-31")
    known: Dates = calendar.sessions.to_numpy().astype("datetime64[D]")
    return known
