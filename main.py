"""The command line: what runs when a person types ``python main.py``.

Whatever goes wrong is one line on standard error. The exit status is 0 if the command did its work, 1 after an error or
if nobody reads the output, 2 for invalid arguments (Typer shows these in a box), and 128 plus the signal's number if a
signal stopped it: 130 after Ctrl-C, 143 after SIGTERM. The commands are in :mod:`commands`.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports ends the program without a traceback

import io
import os
import sys

from commands.app import app
from commands.output import flush_output, print_error, print_file_error
from commands.signals import interrupted_by_signals
from domain.errors import StockTrackerError

SIGNALED = 128  # plus the signal's number is the exit status


def main() -> int:
    """Run the command line.

    Returns
    -------
    int
        The exit status, as this module's documentation lists them.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "…" shows "?"
    with interrupted_by_signals() as received:
        status = _run_command()
        if (unwritten := flush_output()) and status == 0:
            print_file_error(unwritten)
            status = 1
    if status == SIGNALED + signal.SIGINT and received:  # as Typer exits after any KeyboardInterrupt
        print_error(f"by {received[0].name}; what was stored stays, and the next run goes on from there", "interrupted")
        status = SIGNALED + received[0]
    return status


def _run_command() -> int:
    debug = "--debug" in sys.argv
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except StockTrackerError as error:
        if debug:
            raise
        print_error(error)
    except OSError as error:  # of a file or standard output: services raise errors of ours
        if debug:
            raise
        print_file_error(flush_output() or error)
    return 1


if __name__ == "__main__":
    exit_status = main()
    if exit_status > SIGNALED:
        os._exit(exit_status)  # without waiting for a thread whose answer is late
    sys.exit(exit_status)
