"""How long a transaction waits: for a connection, for locks, for each statement, and in all."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from domain.clock import Deadline

CONNECT_SECONDS = 10.0  # to connect and to log in
ALIVE_SECONDS = 5.0  # a connection that was used before and is silent for longer is replaced
LOCK_SECONDS = 60.0  # without a deadline, for a lock that another session holds
STATEMENT_SECONDS = 600.0  # for any one statement, and for the answer to it
LEAST_SECONDS = 0.5  # for each of the few transactions after the deadline, in the time that it keeps back
GRACE_SECONDS = 0.25  # a lock's limit ends first, then the statement's, then the wait for an answer
IDLE_SECONDS = 60.0  # after which the server ends the transaction of a process that died silently


class Limits:
    """The limits of one transaction that begins now.

    Attributes
    ----------
    is_deadline : bool
        Whether the limits are those of a deadline, rather than those for a run without one.
    lock : float
        Seconds to wait for a lock.
    end : float
        When the transaction ends, by the monotonic clock, whatever the server does; infinite without a deadline.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        left = deadline.remaining if deadline else math.inf
        self.is_deadline = not math.isinf(left)
        left = max(left, LEAST_SECONDS)
        self.lock = min(left, STATEMENT_SECONDS) if self.is_deadline else LOCK_SECONDS
        self._statement_end = time.monotonic() + left + GRACE_SECONDS
        self.end = self._statement_end + GRACE_SECONDS
        self._told = math.inf

    def statement(self) -> float:
        """Return the seconds for a statement that begins now, for the server to be told."""
        self._told = self._statement
        return self._told

    def news(self) -> str | None:
        """Return the statement that tells the server what is left, if it was told at least a tenth more."""
        if self._statement >= 0.9 * self._told:
            return None
        return f"SET LOCAL statement_timeout = {self.statement() * 1000:.0f}"

    @property
    def _statement(self) -> float:
        left = min(self._statement_end - time.monotonic(), STATEMENT_SECONDS + GRACE_SECONDS)
        return max(left, 0.001)  # to the server 0 is no limit

    @property
    def connect_end(self) -> float:
        """When a connection that begins now must be made and logged in."""
        return min(time.monotonic() + CONNECT_SECONDS, self.end)

    @property
    def alive_end(self) -> float:
        """When a connection that was used before must have answered, which leaves time to replace it."""
        now = time.monotonic()
        return now + min(ALIVE_SECONDS, (self.end - now) / 2)
