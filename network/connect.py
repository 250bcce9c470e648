"""Connect to a host within a time that includes the look-up of its name and the attempts at all of its addresses."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import TypeVar

SHORTEST_WAIT = 0.001  # seconds; a timeout of 0 would mean not to wait at all

Result = TypeVar("Result")


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first address of a host that answers; each has its share of the time left.

    Raises
    ------
    TimeoutError
        If the time is up.
    OSError
        If the name has no address, or no address accepts the connection.
    UnicodeError
        If the name cannot be one.
    """
    end = time.monotonic() + seconds
    found = within(seconds, partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
    for left in range(len(found), 0, -1):
        share = max((end - time.monotonic()) / left, SHORTEST_WAIT)
        *_, address = found[-left]
        try:
            return socket.create_connection((str(address[0]), port), timeout=share)
        except OSError:
            if left == 1:
                raise
    raise OSError("its name has no address")


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call a function that knows no timeout, such as a look-up, and raise a TimeoutError if it takes longer.

    Its thread then ends by itself, and does not keep the process from ending.
    """
    outcome: Future[Result] = Future()

    def call() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised below, where the caller waits
            outcome.set_exception(error)

    Thread(target=call, name="within", daemon=True).start()
    return outcome.result(max(seconds, SHORTEST_WAIT))
