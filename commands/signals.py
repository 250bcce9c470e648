"""Signals that stop a command: as KeyboardInterrupt, whichever it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from commands.output import console

STOPS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, service managers, a terminal that is closed; Windows lacks the last


@contextmanager
def interrupted_by_signals() -> Iterator[list[signal.Signals]]:
    """Turn the signals that stop a program into KeyboardInterrupt, and yield the list that holds those received.

    A signal that is ignored stays so, as under ``nohup``.
    """
    received: list[signal.Signals] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(signal.Signals(number))
        raise KeyboardInterrupt(received[-1].name)

    known = [signal.Signals[name] for name in STOPS if name in signal.Signals.__members__]
    before = {each: signal.getsignal(each) for each in known}
    for each, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(each, interrupt)
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """End the block quietly when a signal stops it: that is how these commands are meant to end."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("Stopped.")
