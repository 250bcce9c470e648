"""What commands write to: standard output, errors of one line, and the log on standard error."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Any

from rich.console import Console

STANDARD_OUTPUT = "standard output"


class _StandardOutput(Console):
    """Standard output that names itself in its errors, as a file does."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Rich does."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from None


console = _StandardOutput(highlight=False, soft_wrap=True)


def apply_log_level() -> None:
    """Show debug lines if ``LOG_LEVEL`` asks for them."""
    from config import settings

    if settings().log_level == "DEBUG":
        from entrypoints.console import show_debug_lines

        show_debug_lines()


def print_error(error: Exception | str, kind: str = "error") -> None:
    """Print one line without secrets on standard error; a character that a terminal does not show is escaped."""
    from config import redact

    text = redact(str(error))
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    with suppress(OSError):  # standard error may be full or closed, and the exit status still tells
        print(f"{kind}: {''.join(shown)}", file=sys.stderr)


def print_file_error(error: OSError) -> None:
    """Print why a file cannot be used; a reader that has gone, as in ``main.py status | head -1``, is no news."""
    if error.errno != errno.EPIPE:
        place = f"{error.filename} cannot be used: " if error.filename else ""
        print_error(f"{place}{error.strerror or error}")


def flush_output() -> OSError | None:
    """Flush standard output; return the error if that fails, and drop what could not be written."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return OSError(error.errno, error.strerror, STANDARD_OUTPUT)
    return None
