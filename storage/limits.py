"""How long a transaction waits: for a connection, for locks, for each statement, and for a silent server."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from domain.clock import Deadline

CONNECT_SECONDS = 10.0  # to connect and to log in
ALIVE_SECONDS = 5.0  # a connection that was used before and is silent for longer is replaced
LOCK_SECONDS = 60.0  # without a deadline, for a lock that another session holds
STATEMENT_SECONDS = 600.0  # without a deadline, for any one statement
LEAST_SECONDS = 1.0  # after the deadline's end, to record how the run ended: part of what the deadline keeps back
GRACE_SECONDS = 0.25  # a lock's limit ends first, then the statement's, then the wait for a silent server
IDLE_SECONDS = 60.0  # after which the server ends the transaction of a process that died silently


class Limits:
    """The limits of one transaction that begins now.

    Attributes
    ----------
    is_deadline : bool
        Whether the limits are those of a deadline, rather than those for a run without one.
    lock, statement : float
        Seconds to wait for a lock, and for one statement.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        left = deadline.remaining if deadline else math.inf
        self.is_deadline = not math.isinf(left)
        self.lock = max(left, LEAST_SECONDS) if self.is_deadline else LOCK_SECONDS
        self.statement = self.lock + GRACE_SECONDS if self.is_deadline else STATEMENT_SECONDS
        self._end = time.monotonic() + self.statement if self.is_deadline else math.inf

    @property
    def connect(self) -> float:
        """Seconds to connect, and to log in."""
        return min(CONNECT_SECONDS, self.silence)

    @property
    def silence(self) -> float:
        """Seconds from now in which the server must answer: no statement of a transaction outlives its deadline."""
        return max(min(self.statement, self._end - time.monotonic()), 0) + GRACE_SECONDS
