"""Deadlines and the clocks they use."""

import math

import pytest

from domain.clock import Deadline, SystemClock
from domain.errors import TimeUpError
from tests.support.clocks import FrozenClock


def test_a_deadline_counts_down_to_its_reserve():
    clock = FrozenClock(1000.0)
    deadline = Deadline(300, clock)
    assert deadline.remaining == 295
    clock.now += 100
    assert deadline.remaining == 195
    clock.now += 200
    assert deadline.remaining == -5


def test_the_reserve_can_be_chosen():
    assert Deadline(300, FrozenClock(1000.0), reserve=0).remaining == 300


def test_without_seconds_there_is_no_deadline():
    clock = FrozenClock(1000.0)
    deadline = Deadline(None, clock)
    assert deadline.remaining == math.inf
    deadline.sleep(1e9, "patience")
    assert clock.slept == [1e9]


def test_a_sleep_that_fits_is_slept():
    clock = FrozenClock(1000.0)
    deadline = Deadline(20, clock)
    deadline.sleep(15, "the limit")
    assert clock.slept == [15]
    assert deadline.remaining == 0


def test_a_step_can_have_an_earlier_deadline():
    clock = FrozenClock(1000.0)
    assert Deadline(20, clock).earlier(10).remaining == 5
    assert Deadline(None, clock).earlier(10).remaining == math.inf


def test_what_happens_while_waiting_happens_every_second_and_for_earlier_deadlines_too():
    clock, waits = FrozenClock(1000.0), []
    deadline = Deadline(20, clock)
    earlier = deadline.earlier(1)
    deadline.on_wait.append(lambda reason, seconds: waits.append((reason, seconds)))
    earlier.sleep(2.5, "the limit")
    assert waits == [("the limit", 2.5), ("the limit", 1.5), ("the limit", 0.5)]
    assert clock.slept == [1, 1, 0.5]


def test_a_sleep_past_the_deadline_is_refused_at_once():
    clock = FrozenClock(1000.0)
    deadline = Deadline(20, clock)
    with pytest.raises(TimeUpError, match=r"^the limit needs 60 s, and 15 s are left$"):
        deadline.sleep(60, "the limit")
    assert clock.slept == []


def test_after_the_deadline_zero_seconds_are_left():
    clock = FrozenClock(1000.0)
    deadline = Deadline(20, clock)
    clock.now += 100
    with pytest.raises(TimeUpError, match="0 s are left"):
        deadline.sleep(1, "the limit")


@pytest.mark.parametrize("seconds", [0, -1, -1000])
def test_zero_or_fewer_seconds_are_no_sleep(seconds):
    clock = FrozenClock(1000.0)
    Deadline(20, clock).sleep(seconds, "nothing")
    assert clock.slept == []


def test_the_system_clock_is_the_computers_own(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("time.monotonic", lambda: 42.0)
    monkeypatch.setattr("time.sleep", slept.append)
    SystemClock().sleep(0.5)
    assert SystemClock().monotonic() == 42.0
    assert slept == [0.5]


def test_a_wait_is_one_line_of_the_log(caplog):
    caplog.set_level("INFO", logger="stock_tracker")
    deadline = Deadline(None, FrozenClock())
    deadline.on_wait.append(lambda *_: None)
    deadline.sleep(42, "the limit")
    deadline.sleep(0.5, "a pause that nobody notices")
    assert caplog.messages == ["waiting 42 s: the limit"]
