"""Sessions, weeks and timestamps of the New York Stock Exchange."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import (
    FIRST_YEAR,
    LAST_YEAR,
    NEW_YORK,
    last_sessions,
    previous_session,
    session_dates,
    sessions_between,
    today,
    week_sessions,
    week_start,
)
from tests.support import oracle

DAY = timedelta(days=1)
dates = st.dates(date(2000, 1, 1), date(2029, 12, 31))


def day(text):
    return date.fromisoformat(text)


def days(text):
    return [day(part) for part in text.split()]


def milliseconds(text):
    return int(datetime.fromisoformat(text).timestamp()) * 1000


def test_the_sessions_are_those_of_the_recorded_prices():
    recorded = sorted({bar.session for bar in oracle.recorded_bars()})
    assert sessions_between(recorded[0], recorded[-1]) == recorded


@pytest.mark.parametrize(
    ("as_of", "session"),
    [
        ("2013-03-01", "2013-02-28"),  # Friday
        ("2013-03-02", "2013-03-01"),  # Saturday
        ("2013-03-03", "2013-03-01"),  # Sunday
        ("2013-03-04", "2013-03-01"),  # Monday
        ("2013-03-05", "2013-03-04"),
        ("2013-02-19", "2013-02-15"),  # after Presidents' Day
        ("2013-04-01", "2013-03-28"),  # Easter Monday is a session, Good Friday is not
        ("2012-10-29", "2012-10-26"),  # Hurricane Sandy
        ("2012-10-30", "2012-10-26"),
        ("2012-10-31", "2012-10-26"),
        ("2012-11-01", "2012-10-31"),
        ("2001-09-17", "2001-09-10"),
        ("2025-01-10", "2025-01-08"),  # a day of mourning
        ("2012-11-24", "2012-11-23"),  # an early close is a session
        ("2010-01-01", "2009-12-31"),  # a decade ends
        ("2020-01-02", "2019-12-31"),
        ("2022-01-03", "2021-12-31"),  # New Year on a Saturday is not made up for
    ],
)
def test_the_previous_session_is_the_last_one_strictly_before(as_of, session):
    assert previous_session(day(as_of)) == day(session)


@pytest.mark.parametrize("closed", ["2012-10-29", "2012-10-30", "2012-12-25", "2013-01-01", "2013-05-27", "2022-06-20"])
def test_a_closure_is_no_session(closed):
    assert sessions_between(day(closed), day(closed)) == []


def test_juneteenth_was_a_session_until_it_became_a_holiday():
    assert sessions_between(day("2020-06-19"), day("2020-06-19"))
    assert not sessions_between(day("2023-06-19"), day("2023-06-19"))


def test_the_week_of_hurricane_sandy_had_three_sessions():
    assert sessions_between(day("2012-10-29"), day("2012-11-02")) == days("2012-10-31 2012-11-01 2012-11-02")


def test_both_ends_are_included():
    assert sessions_between(day("2013-02-28"), day("2013-03-01")) == days("2013-02-28 2013-03-01")
    assert sessions_between(day("2013-03-01"), day("2013-03-01")) == days("2013-03-01")


def test_nothing_lies_between_an_end_and_an_earlier_end():
    assert sessions_between(day("2013-03-01"), day("2013-02-28")) == []
    assert sessions_between(day("2013-03-02"), day("2013-03-03")) == []


def test_decades_join_without_a_gap_or_a_repetition():
    assert sessions_between(day("2009-12-29"), day("2010-01-05")) == days(
        "2009-12-29 2009-12-30 2009-12-31 2010-01-04 2010-01-05"
    )
    whole = sessions_between(day("1989-12-01"), day("2030-02-01"))
    assert whole == sorted(set(whole))
    assert len(sessions_between(day("2000-01-01"), day("2009-12-31"))) == 2515


def test_every_year_that_a_payload_may_name_is_known():
    for year in (FIRST_YEAR, LAST_YEAR):
        assert 248 <= len(sessions_between(date(year, 1, 1), date(year, 12, 31))) <= 254
    assert previous_session(date(FIRST_YEAR, 1, 1)) == day("1989-12-29")


def test_a_session_is_a_plain_date():
    assert {type(session) for session in sessions_between(day("2013-02-01"), day("2013-03-01"))} == {date}


def test_the_last_seventy_sessions_of_the_demo():
    sessions = last_sessions(70, day("2013-03-01"))
    assert len(sessions) == 70
    assert (sessions[0], sessions[-1]) == (day("2012-11-16"), day("2013-02-28"))


@pytest.mark.parametrize("count", [1, 2, 5, 10_000])
@pytest.mark.parametrize("as_of", ["2001-09-17", "2012-11-01", "2013-03-02", "2026-01-02"])
def test_the_last_sessions_are_as_many_as_asked_for(as_of, count):
    sessions = last_sessions(count, day(as_of))
    assert len(sessions) == count
    assert sessions[-1] == previous_session(day(as_of))


def test_as_many_sessions_as_a_payload_may_name_before_the_first_day_it_may_name():
    assert len(last_sessions(10_000, date(FIRST_YEAR, 1, 1))) == 10_000


@given(as_of=dates, count=st.integers(1, 300))
def test_the_last_sessions_are_all_sessions_from_the_first_of_them(as_of, count):
    sessions = last_sessions(count, as_of)
    assert len(sessions) == count
    assert sessions == sessions_between(sessions[0], as_of - DAY)


@given(as_of=dates)
def test_the_previous_session_is_one_and_none_comes_after_it(as_of):
    session = previous_session(as_of)
    assert sessions_between(session, as_of - DAY) == [session]


@pytest.mark.parametrize(
    ("as_of", "sessions"),
    [
        ("2013-03-02", "2013-02-25 2013-02-26 2013-02-27 2013-02-28 2013-03-01"),  # the Saturday of the report
        ("2013-03-03", "2013-02-25 2013-02-26 2013-02-27 2013-02-28 2013-03-01"),
        ("2013-03-04", "2013-02-25 2013-02-26 2013-02-27 2013-02-28 2013-03-01"),  # Monday: the last week
        ("2013-03-05", "2013-02-25 2013-02-26 2013-02-27 2013-02-28 2013-03-01"),  # Tuesday: the new one is running
        ("2013-03-08", "2013-02-25 2013-02-26 2013-02-27 2013-02-28 2013-03-01"),  # Friday: its session is to come
        ("2013-03-29", "2013-03-25 2013-03-26 2013-03-27 2013-03-28"),  # Good Friday: the week has ended
        ("2013-02-23", "2013-02-19 2013-02-20 2013-02-21 2013-02-22"),  # Presidents' Day on Monday
        ("2013-03-30", "2013-03-25 2013-03-26 2013-03-27 2013-03-28"),  # Good Friday
        ("2012-11-03", "2012-10-31 2012-11-01 2012-11-02"),  # Hurricane Sandy
        ("2012-10-31", "2012-10-22 2012-10-23 2012-10-24 2012-10-25 2012-10-26"),
        ("2012-11-24", "2012-11-19 2012-11-20 2012-11-21 2012-11-23"),  # Thanksgiving
        ("2013-01-05", "2012-12-31 2013-01-02 2013-01-03 2013-01-04"),  # a year ends within
        ("2001-09-15", "2001-09-10"),  # a week of one session
        ("2001-09-22", "2001-09-17 2001-09-18 2001-09-19 2001-09-20 2001-09-21"),
        ("2020-01-04", "2019-12-30 2019-12-31 2020-01-02 2020-01-03"),  # a decade ends within
    ],
)
def test_the_week_is_the_last_one_that_has_ended(as_of, sessions):
    assert week_sessions(day(as_of)) == days(sessions)


@given(as_of=dates)
def test_a_week_has_one_to_five_sessions_from_its_monday_on(as_of):
    week = week_sessions(as_of)
    assert 1 <= len(week) <= 5
    monday = week_start(week[0])
    assert monday.weekday() == 0
    assert week == sessions_between(monday, monday + 6 * DAY)
    assert week[-1] < as_of


@given(as_of=dates)
def test_no_week_that_has_ended_comes_after_the_week(as_of):
    monday = week_start(week_sessions(as_of)[0]) + 7 * DAY
    assert sessions_between(monday, monday + 6 * DAY)[-1] >= as_of


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2013-03-02T04:59:59", "2013-03-01"),  # EST, five hours behind
        ("2013-03-02T05:00:00", "2013-03-02"),
        ("2013-03-10T04:59:59", "2013-03-09"),  # the night in which clocks go forward
        ("2013-03-11T03:59:59", "2013-03-10"),  # EDT, four hours behind
        ("2013-03-11T04:00:00", "2013-03-11"),
        ("2013-11-03T03:59:59", "2013-11-02"),  # the night in which clocks go back
        ("2013-11-04T04:59:59", "2013-11-03"),
        ("2013-11-04T05:00:00", "2013-11-04"),
        ("2013-01-01T00:00:00", "2012-12-31"),
    ],
)
def test_today_is_the_date_in_new_york(now, expected):
    assert today(datetime.fromisoformat(now).replace(tzinfo=UTC)) == day(expected)


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (1112331600000, "2005-04-01"),  # the start of a session, EST
        (1112587200000, "2005-04-04"),  # the start of a session, EDT
        (1602705600000, "2020-10-14"),  # the end of a session
        (milliseconds("2012-11-23T13:00-05:00"), "2012-11-23"),  # the end of a short one
        (milliseconds("2013-03-01T23:59:59-05:00"), "2013-03-01"),
        (milliseconds("2013-03-02T00:00:00-05:00"), "2013-03-02"),
        (0, "1969-12-31"),
    ],
)
def test_a_timestamp_belongs_to_its_date_in_new_york(stamp, expected):
    assert session_dates([stamp]).tolist() == [day(expected)]


def test_start_and_end_of_every_session_are_the_same_session():
    sessions = sessions_between(day("2004-01-01"), day("2007-12-31"))  # the rule of daylight saving changed within
    for hour in (0, 16):
        starts = [
            int(datetime(session.year, session.month, session.day, hour, tzinfo=NEW_YORK).timestamp()) * 1000
            for session in sessions
        ]
        assert session_dates(starts).tolist() == sessions


def test_no_timestamps_are_no_dates():
    result = session_dates(np.array([], dtype="int64"))
    assert result.shape == (0,)
    assert result.dtype == np.dtype("datetime64[D]")
