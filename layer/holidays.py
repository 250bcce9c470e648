"""The text of ``domain/holidays.py``: the days on which the exchange is closed, by exchange-calendars."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import groupby
from textwrap import fill

FIRST_YEAR, LAST_YEAR = 1900, 2099  # the years of rows that a run takes over
WIDTH = 120  # of a line

MODULE = '''\
"""The weekdays on which the New York Stock Exchange is closed, by year: XNYS of exchange-calendars.

`make calendar` writes this file. The library itself takes half a second to import, and 0.1 s per decade. Every
command and every cold start would wait for it.
"""

VERSION = "{version}"  # of exchange-calendars
FIRST_YEAR, LAST_YEAR = {first}, {last}
CLOSED = """
{lines}
"""
'''


def closed_weekdays() -> list[date]:
    """Return the weekdays without a session, by the library that is installed, ascending."""
    from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar

    first, last = date(FIRST_YEAR, 1, 1), date(LAST_YEAR, 12, 31)
    sessions = set(XNYSExchangeCalendar(start=str(first), end=str(last)).sessions.date)
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return [day for day in days if day.weekday() < 5 and day not in sessions]  # 5 is Saturday


def holidays_module() -> str:
    """Return the source of the module."""
    from exchange_calendars import __version__

    by_year = groupby(closed_weekdays(), key=lambda day: day.year)
    years = (f"{year}: {' '.join(f'{day:%m-%d}' for day in days)}" for year, days in by_year)
    lines = "\n".join(fill(year, WIDTH, subsequent_indent=" ") for year in years)
    return MODULE.format(version=__version__, first=FIRST_YEAR, last=LAST_YEAR, lines=lines)
