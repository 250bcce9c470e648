"""The run lock: runs with a session in common follow one another, and others do not wait."""

from __future__ import annotations

from datetime import date

import pytest

from domain.errors import DataError
from storage.engine import open_engine
from storage.locks import run_lock

JANUARY, FEBRUARY = [date(2013, 1, day) for day in range(1, 32)], [date(2013, 2, day) for day in range(1, 29)]


def test_a_second_run_waits_and_then_fails_while_the_first_holds_the_lock(database_url: str) -> None:
    engine = open_engine(database_url)
    with run_lock(engine, 1):
        with pytest.raises(DataError, match="another run is still going on; try again later"):
            with run_lock(engine, 0.2):
                raise AssertionError("two runs at once")
    with run_lock(engine, 1):
        pass


def test_runs_of_other_sessions_hold_the_lock_at_the_same_time(postgresql_url: str) -> None:
    engine = open_engine(postgresql_url)
    with run_lock(engine, 1, JANUARY) as alone, run_lock(engine, 1, FEBRUARY) as alone_too:
        assert (alone, alone_too) == (False, False)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(JANUARY, JANUARY, id="the same sessions"),
        pytest.param(JANUARY, [*JANUARY[-1:], *FEBRUARY], id="a session in common"),
        pytest.param(JANUARY, [], id="all sessions, while one holds some"),
        pytest.param([], JANUARY, id="some sessions, while one holds all"),
        pytest.param(JANUARY, [date.fromordinal(735_000 + n) for n in range(261)], id="too many to hold one by one"),
    ],
)
def test_runs_with_a_session_in_common_follow_one_another(
    postgresql_url: str, first: list[date], second: list[date]
) -> None:
    engine = open_engine(postgresql_url)
    with run_lock(engine, 1, first):
        with pytest.raises(DataError, match="another run is still going on"), run_lock(engine, 0.2, second):
            raise AssertionError("two runs at once")
    with run_lock(engine, 1, second):
        pass


def test_on_sqlite_every_run_is_exclusive(sqlite_url: str) -> None:
    with run_lock(open_engine(sqlite_url), 1, JANUARY) as alone:
        assert alone
        with pytest.raises(DataError, match="another run"), run_lock(open_engine(sqlite_url), 0.2, FEBRUARY):
            raise AssertionError("two runs at once")
