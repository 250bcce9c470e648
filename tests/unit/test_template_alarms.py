"""The alarms on missing runs and stale prices, evaluated as CloudWatch does, over years of trading sessions.

The definitions come from the template. A period is an hour, and a run's metrics count in the hour in which it
ended. Freshness is counted in sessions of the exchange's calendar.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from domain.calendar import previous_session, sessions_between
from tests.support.template import resources

ALARMS = resources("AWS::CloudWatch::Alarm")
SILENCE, STALE = ALARMS["SilenceAlarm"], ALARMS["StaleAlarm"]
BEGIN, END = datetime(2001, 1, 2, tzinfo=UTC), datetime(2026, 10, 31, tzinfo=UTC)
HOUR = timedelta(hours=1)
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "LessThanThreshold": operator.lt,
    "GreaterThanOrEqualToThreshold": operator.ge,
}
STATISTICS: dict[str, Callable[[Iterable[float]], float]] = {"Sum": sum, "Minimum": min}


@dataclass(frozen=True)
class DailyUpdate:
    """A successful run: when it ended, and how many sessions the prices were behind."""

    ended: datetime
    behind: int = 0

    def values(self) -> dict[str, float]:
        """Its CloudWatch metrics."""
        return {"RunSucceeded": 1, "FreshnessSessions": self.behind}


@dataclass
class Simulation:
    """An evaluation of an alarm, and the hours in which it is on."""

    alarm: dict[str, Any]
    runs: list[DailyUpdate]
    begin: datetime = BEGIN
    end: datetime = END
    on: list[datetime] = field(init=False)

    def __post_init__(self) -> None:
        hours = int((self.end - self.begin) / HOUR)
        values: dict[int, list[float]] = {}
        for run in self.runs:
            values.setdefault(int((run.ended - self.begin) / HOUR), []).append(run.values()[self.alarm["MetricName"]])
        breaching = np.full(hours, {"breaching": True, "notBreaching": False}[self.alarm["TreatMissingData"]])
        for hour, found in values.items():
            value = STATISTICS[self.alarm["Statistic"]](found)
            breaching[hour] = COMPARISONS[self.alarm["ComparisonOperator"]](value, self.alarm["Threshold"])
        assert self.alarm["Period"] == HOUR.total_seconds()
        window, needed = self.alarm["EvaluationPeriods"], self.alarm.get("DatapointsToAlarm")
        within = np.convolve(breaching, np.ones(window, dtype=int))[:hours]
        # An alarm changes once the hour has passed, and never before the first window is full.
        self.on = [
            self.begin + (i + 1) * HOUR for i in np.flatnonzero(within >= (needed or window)).tolist() if i >= window
        ]


def scheduled() -> list[datetime]:
    """When the rule fires: from Tuesday to Saturday at 13:00 UTC, also on holidays."""
    days = (BEGIN + timedelta(days=n, hours=13) for n in range((END - BEGIN).days))
    return [day for day in days if day.weekday() in (1, 2, 3, 4, 5)]


FIRED = scheduled()


def behind(run: datetime, loaded: datetime) -> int:
    """The sessions that a run lacks if none was published since an earlier run."""
    last, latest = previous_session(loaded.date()), previous_session(run.date())
    return len(sessions_between(last, latest)) - 1


def closures() -> dict[int, int]:
    """The number of closures of the exchange by their length in days."""
    sessions = sessions_between(BEGIN.date(), END.date())
    gaps = [(after - before).days - 1 for before, after in zip(sessions, sessions[1:], strict=False)]
    return {days: gaps.count(days) for days in set(gaps)}


def test_both_stay_quiet_through_every_holiday_and_long_weekend_of_25_years() -> None:
    assert {2, 3, 4} <= set(closures())
    runs = [DailyUpdate(fired, behind(fired, fired)) for fired in FIRED]
    assert Simulation(SILENCE, runs).on == []
    assert Simulation(STALE, runs).on == []


def test_both_stay_quiet_when_runs_are_up_to_three_hours_late() -> None:
    late = np.random.default_rng(7).uniform(0, 3, len(FIRED))
    runs = [DailyUpdate(fired + timedelta(hours=float(hours))) for fired, hours in zip(FIRED, late, strict=True)]
    assert Simulation(SILENCE, runs).on == []
    assert Simulation(STALE, runs).on == []


@pytest.mark.parametrize("alarm", [SILENCE, STALE], ids=["silence", "stale"])
@pytest.mark.parametrize("missed", [3, 4, 5, 10])
def test_it_goes_off_after_missed_days_and_ends_with_the_next_run(alarm: dict[str, Any], missed: int) -> None:
    """For every start of the missed runs within a year."""
    for first in range(5_000, 5_000 + 52 * 5):
        before, after = FIRED[first - 6 : first], FIRED[first + missed : first + missed + 6]
        runs = [DailyUpdate(fired) for fired in before + after]
        on = Simulation(alarm, runs, before[0].replace(hour=0), after[-1].replace(hour=23)).on
        assert on, f"no alarm for {missed} missed runs after {before[-1]}"
        assert before[-1] + timedelta(hours=76) <= on[0] <= before[-1] + timedelta(hours=77)
        assert after[0] <= on[-1] <= after[0] + HOUR


@pytest.mark.parametrize("day", range(1, 6))
def test_one_missed_day_raises_an_alarm_only_beside_a_weekend(day: int) -> None:
    first = next(n for n, fired in enumerate(FIRED[5_000:], 5_000) if fired.weekday() == day)
    runs = [DailyUpdate(fired) for fired in (*FIRED[:first], *FIRED[first + 1 :])]
    raised = bool(Simulation(SILENCE, runs).on)
    assert raised == (FIRED[first + 1] - FIRED[first - 1] > timedelta(hours=76))
    assert raised == (day in (1, 5))


def test_prices_that_stop_raise_an_alarm_although_runs_succeed() -> None:
    stopped = next(n for n, fired in enumerate(FIRED[5_000:], 5_000) if fired.weekday() == 2)
    runs = [DailyUpdate(fired) for fired in FIRED[:stopped]]
    runs += [DailyUpdate(fired, behind(fired, FIRED[stopped - 1])) for fired in FIRED[stopped : stopped + 10]]
    runs += [DailyUpdate(fired) for fired in FIRED[stopped + 10 :]]

    assert Simulation(SILENCE, runs).on == []
    on = Simulation(STALE, runs).on
    assert on[0] <= FIRED[stopped - 1] + timedelta(hours=77)
    assert on[-1] <= FIRED[stopped + 10] + HOUR


def test_prices_that_are_late_by_one_session_once_raise_no_alarm() -> None:
    late = next(n for n, fired in enumerate(FIRED[5_000:], 5_000) if fired.weekday() == 3)
    runs = [DailyUpdate(fired, behind=int(n == late)) for n, fired in enumerate(FIRED)]
    assert Simulation(STALE, runs).on == []


def test_a_rule_that_never_fires_raises_both_alarms() -> None:
    for alarm in (SILENCE, STALE):
        assert Simulation(alarm, []).on[0] == BEGIN + timedelta(hours=77)
