"""Time for tests: it passes only when somebody waits, or when a test says so."""

from __future__ import annotations


class StillClock:
    """A clock that stands still between waits, and remembers these."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Seconds since the test began."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.slept.append(seconds)
        self.now += seconds
