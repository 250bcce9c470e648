"""The command line: what runs when a person types ``python main.py``, or ``stock-tracker`` once it is installed.

Whatever goes wrong is one line on standard error; with ``--json`` it is also an object on standard output. The exit
status is 0 if the command did its work, 1 after an error or if nobody reads the output, 2 for arguments that are not
valid, and 128 plus the signal's number if a signal stopped it: 130 after Ctrl-C, 143 after SIGTERM. The commands are in
:mod:`commands`.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys

SIGNALED = 128  # plus the signal's number is the exit status
# New objects before a search for garbage. Imports make 100,000, none of them garbage: to search them again and again
# takes a part of the time of a short command.
COLLECT_AFTER = 200_000


def program() -> None:
    """Run the command line as the program of this process, and end it."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports ends the program without a traceback
    gc.set_threshold(COLLECT_AFTER)
    try:
        status = main()
    except ModuleNotFoundError as error:
        advice = "type .venv/bin/python in place of python, or first: source .venv/bin/activate"
        sys.exit(f"error: the package {error.name!r} is not installed for {sys.executable}: {advice}")
    if status:
        os._exit(status)  # without waiting for a thread whose answer is late


def main() -> int:
    """Run the command line.

    Returns
    -------
    int
        The exit status, as this module's documentation lists them.
    """
    # Imported here, so that program() has a say in how an interrupt ends the imports.
    from commands.output import flush_output, print_error
    from commands.signals import interrupted_by_signals

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "…" shows "?"
    with interrupted_by_signals() as received:
        status = _run_command()
        if (unwritten := flush_output()) and status == 0:
            status = _fail(unwritten)
    if status == SIGNALED + signal.SIGINT and received:  # as Typer ends after any KeyboardInterrupt
        said = f"by {received[0].name}; what was stored stays, and the next run goes on from there"
        print_error(said, "interrupted", as_json=_wants_json())
        status = SIGNALED + received[0]
    return status


def _run_command() -> int:
    import typer

    from commands.app import PROGRAM, app, usage_message
    from commands.output import flush_output
    from domain.errors import StockTrackerError

    try:
        status = app(standalone_mode=False, prog_name=PROGRAM)
    except SystemExit as end:
        status = end.code
    except typer.TyperException as error:
        return _fail(usage_message(error), status=error.exit_code)
    except typer.Abort:
        return _fail("nothing was done, as you answered no")
    except StockTrackerError as error:
        return _fail(error)
    except OSError as error:  # of a file or standard output: services raise errors of ours
        return _fail(flush_output() or error)
    return status if isinstance(status, int) else 0


def _fail(error: Exception | str, status: int = 1) -> int:
    """Say what went wrong, on standard output as well if a program reads it, and return the exit status."""
    from commands.output import file_error_message, print_error, print_traceback

    if "--debug" in _words() and isinstance(error, Exception):
        print_traceback(error)
    message = file_error_message(error) if isinstance(error, OSError) else error
    if message:
        print_error(message, as_json=_wants_json())
    return status


def _words() -> list[str]:
    """The arguments in which flags count; Typer may have failed to parse them."""
    from commands.app import words_of

    return list(words_of(sys.argv[1:]))


def _wants_json() -> bool:
    """Whether the result is JSON, and so is a failure: with ``--json``, and always that of ``invoke``."""
    words = _words()
    return "--json" in words or next((word for word in words if not word.startswith("-")), "") == "invoke"


if __name__ == "__main__":
    program()
