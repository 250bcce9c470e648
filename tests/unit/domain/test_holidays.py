"""The table of holidays against the library that it is made from."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import exchange_calendars
import pytest
from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar
from packaging.version import Version

from domain import holidays
from domain.calendar import count_sessions, sessions_between
from domain.errors import DataError
from layer.build import build
from layer.holidays import holidays_module

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _same_version():
    if Version(exchange_calendars.__version__) < Version(holidays.VERSION):
        pytest.skip(f"the table is by exchange-calendars {holidays.VERSION}, which is newer than the installed one")


def test_the_table_is_what_the_library_says():
    written = (ROOT / "domain" / "holidays.py").read_text(encoding="utf-8")
    assert written == holidays_module(), "run `make calendar`"


@pytest.mark.parametrize("decade", range(holidays.FIRST_YEAR, holidays.LAST_YEAR, 10))
def test_all_sessions_are_the_librarys(decade):
    first, last = date(decade, 1, 1), date(decade + 9, 12, 31)
    calendar = XNYSExchangeCalendar(start=str(first), end=str(last))
    assert sessions_between(first, last) == list(calendar.sessions.date)


def test_make_calendar_writes_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr("layer.build.ROOT", tmp_path)
    (tmp_path / "domain").mkdir()
    assert build("calendar", "x86_64", tmp_path) == "domain/holidays.py: written"
    assert (tmp_path / "domain" / "holidays.py").read_text(encoding="utf-8") == holidays_module()


@pytest.mark.parametrize(("first", "last"), [("1899-12-29", "1900-01-05"), ("2099-12-29", "2100-01-05")])
def test_years_beyond_the_table_are_an_error_of_one_line(first, last):
    says = r"^the sessions of (1899|2100)-\S+ are unknown: the calendar knows the years 1900 to 2099$"
    with pytest.raises(DataError, match=says):
        count_sessions(date.fromisoformat(first), date.fromisoformat(last))


def test_the_calendar_needs_no_library():
    program = """
import sys
from datetime import date
from domain.calendar import last_sessions
assert len(last_sessions(10_000, date(2026, 1, 2))) == 10_000
print([name for name in ("numpy", "pandas", "exchange_calendars") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
