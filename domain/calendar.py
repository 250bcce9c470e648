"""NYSE trading sessions: the previous one, the last N, the week of a date, and the session of a timestamp.

The calendar (holidays, unscheduled closures) is XNYS of exchange-calendars, as :mod:`domain.holidays` records it. A
session is a ``datetime.date`` in New York.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from domain import holidays
from domain.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NEW_YORK = ZoneInfo("America/New_York")
FIRST_YEAR, LAST_YEAR = 1990, 2099  # the years that a payload may name
SATURDAY = 5
DAY = timedelta(days=1)


def today(now: datetime) -> date:
    """Return the date in New York at an aware moment."""
    return now.astimezone(NEW_YORK).date()


def sessions_between(first: date, last: date) -> list[date]:
    """Return all sessions from `first` to `last`, both included, ascending; empty if `first` is after `last`.

    Raises
    ------
    DataError
        If the calendar does not know their years.
    """
    if first > last:
        return []
    for day in (first, last):
        if not holidays.FIRST_YEAR <= day.year <= holidays.LAST_YEAR:
            raise DataError(
                f"the sessions of {day} are unknown: the calendar knows the years {holidays.FIRST_YEAR} to"
                f" {holidays.LAST_YEAR}"
            )
    known = _sessions_of_decades(first.year // 10, last.year // 10)
    return known[bisect_left(known, first) : bisect_left(known, last + DAY)]


def count_sessions(first: date, last: date) -> int:
    """Count the sessions from `first` to `last`, both included."""
    return len(sessions_between(first, last))


def next_session(day: date) -> date:
    """Return the first session strictly after a day."""
    return sessions_between(day + DAY, day + timedelta(days=15))[0]


def previous_session(as_of: date) -> date:
    """Return the last session strictly before `as_of`."""
    return sessions_between(as_of - timedelta(days=15), as_of - DAY)[-1]


def last_sessions(count: int, as_of: date) -> list[date]:
    """Return the last `count` sessions strictly before `as_of`, ascending."""
    # 252 sessions make a year of 365.25 days; 1.5 and two weeks leave room for any cluster of holidays.
    first = as_of - timedelta(days=int(count * 1.5) + 15)
    return sessions_between(first, as_of - DAY)[-count:]


def week_sessions(as_of: date) -> list[date]:
    """Return the sessions, Monday to Friday, of the last week that ended before `as_of`."""
    monday = week_start(previous_session(as_of))
    sessions = sessions_between(monday, monday + timedelta(days=6))
    return sessions if sessions[-1] < as_of else week_sessions(monday)


def week_start(day: date) -> date:
    """Return the Monday of the week of `day`."""
    return day - timedelta(days=day.weekday())


def session_dates(milliseconds: npt.ArrayLike) -> npt.NDArray[np.datetime64]:
    """Return the New York dates of timestamps, whether they mark a session's start or its end.

    Parameters
    ----------
    milliseconds : array_like of int, shape (n,)
        Milliseconds since 1970-01-01 UTC.

    Returns
    -------
    numpy.ndarray of datetime64[D], shape (n,)
    """
    import numpy as np
    import pandas as pd

    moments = pd.DatetimeIndex(np.asarray(milliseconds, dtype="datetime64[ms]"), tz="UTC")
    local = moments.tz_convert(NEW_YORK).tz_localize(None)
    return np.asarray(local.to_numpy().astype("datetime64[D]"))


@lru_cache(maxsize=32)
def _sessions_of_decades(first: int, last: int) -> list[date]:
    """Return all sessions of some decades; 202 is that of 2020."""
    if first < last:
        return list(chain.from_iterable(_sessions_of_decades(decade, decade) for decade in range(first, last + 1)))
    days = range(date(first * 10, 1, 1).toordinal(), date(first * 10 + 9, 12, 31).toordinal() + 1)
    weekdays = (day for day in map(date.fromordinal, days) if day.weekday() < SATURDAY)
    return [day for day in weekdays if day not in _closed()]


@lru_cache(maxsize=1)
def _closed() -> frozenset[date]:
    """Return the weekdays on which the exchange is closed."""
    years = (line.partition(": ") for line in holidays.CLOSED.replace("\n ", " ").split("\n") if line)
    return frozenset(date.fromisoformat(f"{year}-{day}") for year, _, days in years for day in days.split())
