"""What commands write to: standard output, errors of one line, and the log on standard error."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import sys
import textwrap
import traceback
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.text import Text

STANDARD_OUTPUT = "standard output"
HANGING = "  "  # how the second line of a wrapped one is indented


class _StandardOutput(Console):
    """Standard output, on which a terminal wraps at words; it names itself in its errors, as a file does."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Rich does, and wrap a line of text on a terminal. Elsewhere a line stays one."""
        if self.is_terminal and len(objects) == 1 and isinstance(objects[0], str) and "\n" not in objects[0]:
            objects = (self._wrapped(objects[0], markup=options.pop("markup", True)),)
        try:
            super().print(*objects, **options)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from None

    def _wrapped(self, line: str, *, markup: bool) -> Text:
        text = self.render_str(line, markup=markup, highlight=False)
        indent = line[: len(line) - len(line.lstrip())] + HANGING
        longest = max(map(len, text.plain.split()), default=0)  # a path or an address stays whole
        lines = text.wrap(self, max(self.width - len(HANGING), longest))
        return Text(f"\n{indent}").join(lines)


console = _StandardOutput(highlight=False, soft_wrap=True)


def be_quiet(quiet: bool) -> None:
    """Print nothing but errors and what a program reads, or everything again."""
    console.quiet = quiet
    if quiet:
        logging.getLogger("stock_tracker").setLevel(logging.ERROR)


def apply_log_level() -> None:
    """Show debug lines if ``LOG_LEVEL`` asks for them, and ``--quiet`` does not forbid it."""
    from config import settings

    if settings().log_level == "DEBUG" and not console.quiet:
        from entrypoints.console import show_debug_lines

        show_debug_lines()


def print_error(error: Exception | str, kind: str = "error", *, as_json: bool = False) -> None:
    """Print one line without secrets on standard error, which a terminal wraps at words.

    A character that a terminal does not show is escaped.

    Parameters
    ----------
    error : Exception or str
    kind : str
        What the line begins with.
    as_json : bool
        Whether to print ``{"error": …}`` on standard output as well.
    """
    from config import redact

    text = redact(str(error))
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    line = f"{kind}: {''.join(shown)}"
    if sys.stderr and sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, subsequent_indent=HANGING, break_long_words=False, break_on_hyphens=False)
    with suppress(OSError):  # standard error may be full or closed, and the exit status still tells
        print(line, file=sys.stderr)
    if as_json:
        with suppress(OSError):  # standard output may be what the error is about
            print(json.dumps({"error": text if kind == "error" else f"{kind} {text}"}), flush=True)


def print_note(note: Exception | str) -> None:
    """Print one line on standard error that is no error, unless ``--quiet`` is set."""
    if not console.quiet:
        print_error(note, "note")


def print_traceback(error: Exception) -> None:
    """Print an error's traceback without secrets on standard error."""
    from config import redact

    with suppress(OSError):
        print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr)


def file_error_message(error: OSError) -> str | None:
    """Say why a file cannot be used; None if a reader has gone, as in ``main.py status | head -1``: that is no news."""
    if error.errno == errno.EPIPE:
        return None
    place = f"{error.filename} cannot be used: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def flush_output() -> OSError | None:
    """Flush standard output; return the error if that fails, and drop what could not be written."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return OSError(error.errno, error.strerror, STANDARD_OUTPUT)
    return None
