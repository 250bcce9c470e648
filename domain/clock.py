"""Time as a value: a clock that can be replaced, and the deadline of an invocation.

Everything that waits takes one of these, so that tests run a hundred minutes of pacing in a millisecond.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from domain.errors import TimeUpError

logger = logging.getLogger(f"stock_tracker.{__name__}")

Waiting = Callable[[str, float], None]
"""Called every second of a wait with its reason and the seconds still to wait."""


class Clock(Protocol):
    """A source of time and a way to wait."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True)
class SystemClock:
    """The computer's own clock; all instances are equal."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class Deadline:
    """The moment by which an invocation must have ended.

    Parameters
    ----------
    seconds : float or None
        Time left from now; None for no limit (a terminal).
    clock : Clock
        Measures and waits.
    reserve : float
        Seconds kept back to commit and to answer.

    Attributes
    ----------
    on_wait : list of callable
        What happens while a step waits, such as showing it; earlier deadlines made of this one share the list.
    """

    def __init__(self, seconds: float | None, clock: Clock, *, reserve: float = 5.0) -> None:
        self.clock = clock
        self.on_wait: list[Waiting] = []
        self._end = math.inf if seconds is None else clock.monotonic() + seconds - reserve

    @property
    def remaining(self) -> float:
        """Seconds left, infinite without a limit, negative when over."""
        return self._end - self.clock.monotonic()

    def earlier(self, seconds: float) -> Deadline:
        """Return the deadline of a step that leaves so many seconds to the steps after it."""
        limit = None if math.isinf(self._end) else self.remaining - seconds
        deadline = Deadline(limit, self.clock, reserve=0)
        deadline.on_wait = self.on_wait
        return deadline

    def sleep(self, seconds: float, reason: str) -> None:
        """Wait, unless the wait would reach past the deadline; a wait of a second or more is one line of the log.

        Raises
        ------
        TimeUpError
            Instead of waiting; nothing is lost, since the next run goes on from what is committed.
        """
        if seconds > self.remaining:
            raise TimeUpError(f"{reason} needs {seconds:.0f} s, and {max(self.remaining, 0):.0f} s are left")
        if seconds >= 1:
            logger.info("waiting %.0f s: %s", seconds, reason)
        while seconds > 0:
            for call in self.on_wait:
                call(reason, seconds)
            step = min(seconds, 1.0) if self.on_wait else seconds
            self.clock.sleep(step)
            seconds -= step
