"""A clock for tests: time passes only during sleeps, or when a test sets it."""

from __future__ import annotations


class FrozenClock:
    """A clock that stands still between sleeps and records them."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """The current time in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Record the sleep and move time forward, without waiting."""
        self.slept.append(seconds)
        self.now += seconds


class TickingClock:
    """A clock that moves on by a second at each reading, and sleeps without waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """The current time in seconds."""
        self.now += 1
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move time forward, without waiting."""
        self.now += seconds
