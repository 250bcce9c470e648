"""The run lock: runs with a session in common follow one another, and others do not wait."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import Engine

import database
from domain.models import Counts
from storage.engine import transaction
from storage.locks import HeldSessions, close_abandoned, is_turn
from tests.support import runs, tables

JANUARY, FEBRUARY = (date(2013, 1, 2), date(2013, 1, 31)), (date(2013, 2, 1), date(2013, 2, 28))
BOTH = (JANUARY[0], FEBRUARY[1])
MEETING = (JANUARY[1], FEBRUARY[1])


def has_turn(engine: Engine, run_id: str) -> bool | None:
    with transaction(engine, write=False) as connection:
        return is_turn(connection, run_id)


def close(engine: Engine) -> None:
    with transaction(engine, write=False) as connection:
        close_abandoned(connection, datetime.now(UTC))


@pytest.mark.parametrize(
    ("first", "second", "side_by_side"),
    [
        pytest.param(JANUARY, FEBRUARY, True, id="other sessions"),
        pytest.param(JANUARY, JANUARY, False, id="the same sessions"),
        pytest.param(JANUARY, MEETING, False, id="a session in common"),
        pytest.param(FEBRUARY, BOTH, False, id="some of the sessions"),
        pytest.param(JANUARY, None, False, id="all sessions, while one holds some"),
        pytest.param(None, JANUARY, False, id="some sessions, while one holds all"),
        pytest.param(None, None, False, id="all sessions"),
    ],
)
def test_runs_with_a_session_in_common_follow_one_another(
    engine: Engine, first: HeldSessions | None, second: HeldSessions | None, side_by_side: bool
) -> None:
    one, other = runs.start(engine, first), runs.start(engine, second)
    assert (has_turn(engine, one), has_turn(engine, other)) == (True, side_by_side)
    runs.end(engine, one)
    assert has_turn(engine, other)


def test_a_run_that_waits_for_all_sessions_is_not_overtaken(engine: Engine) -> None:
    january, everything, february = runs.start(engine, JANUARY), runs.start(engine), runs.start(engine, FEBRUARY)
    assert [has_turn(engine, run) for run in (january, everything, february)] == [True, False, False]
    runs.end(engine, january)
    assert [has_turn(engine, run) for run in (everything, february)] == [True, False]


def test_a_run_that_holds_more_goes_behind_all_others(engine: Engine) -> None:
    """Otherwise it would be at work beside a later run, which began since they had nothing in common."""
    january, february = runs.start(engine, JANUARY), runs.start(engine, FEBRUARY)
    with transaction(engine) as connection:
        database.requeue_run(connection, january, held=None)
    assert [has_turn(engine, run) for run in (january, february)] == [False, True]


def test_a_lease_that_is_over_is_closed_and_cannot_be_renewed(engine: Engine) -> None:
    stopped, next_one = runs.start(engine), runs.start(engine)
    close(engine)
    assert has_turn(engine, next_one) is False, "both leases are valid"
    runs.let_leases_end(engine)
    with transaction(engine) as connection:
        assert database.update_run(connection, next_one, Counts()), "nobody has closed it: it is renewed"

    close(engine)

    assert tables.rows(engine, "SELECT status, error FROM job_runs ORDER BY place") == [
        ("abandoned", "it ended without recording how"),
        ("running", None),
    ]
    assert has_turn(engine, next_one)
    assert has_turn(engine, stopped) is None
    with transaction(engine) as connection:
        assert not database.update_run(connection, stopped, Counts())
