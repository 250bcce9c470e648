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


def test_a_terminal_has_no_deadline():
    clock = FrozenClock(1000.0)
    deadline = Deadline(None, clock)
    assert deadline.remaining == math.inf
    deadline.sleep(1e9, "patience")
    assert clock.slept == [1e9]


def test_a_wait_that_fits_is_waited():
    clock = FrozenClock(1000.0)
    deadline = Deadline(20, clock)
    deadline.sleep(15, "the limit")
    assert clock.slept == [15]
    assert deadline.remaining == 0


def test_a_step_before_others_has_an_earlier_deadline():
    clock = FrozenClock(1000.0)
    assert Deadline(20, clock).earlier(10).remaining == 5
    assert Deadline(None, clock).earlier(10).remaining == math.inf


def test_a_wait_past_the_deadline_is_refused_at_once():
    clock = FrozenClock(1000.0)
    deadline = Deadline(20, clock)
    with pytest.raises(TimeUpError, match=r"^the limit needs 60 s, and 15 s are left$"):
        deadline.sleep(60, "the limit")
    assert clock.slept == []


def test_when_time_is_over_no_seconds_are_left_rather_than_fewer():
    clock = FrozenClock(1000.0)
    deadline = Deadline(20, clock)
    clock.now += 100
    with pytest.raises(TimeUpError, match="0 s are left"):
        deadline.sleep(1, "the limit")


@pytest.mark.parametrize("seconds", [0, -1, -1000])
def test_no_wait_is_no_sleep(seconds):
    clock = FrozenClock(1000.0)
    Deadline(20, clock).sleep(seconds, "nothing")
    assert clock.slept == []


def test_the_system_clock_goes_forward_by_what_is_slept():
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01
