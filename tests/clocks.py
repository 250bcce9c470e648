"""Time for tests: it passes only when somebody waits, or when a test says so."""

from __future__ import annotations


class StillClock:
    """A clock that stands still between waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds since the test began."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.now += seconds
