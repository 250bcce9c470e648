"""The checks of the set-up on a terminal, also those of the function's answer to ``make doctor``."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from domain.text import clean_text

if TYPE_CHECKING:
    from entrypoints.checks import Check

COLORS = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}
STATUS, NAME = 9, 11  # columns
LONGEST_ERROR = 1_000  # characters


def show_check(console: Console, check: Check) -> None:
    """Print a check and its cure. A terminal wraps at words; elsewhere each is one line."""
    is_skipped = check["status"] == "skipped"
    message = f"{check['message']}; {check['cure']}" if is_skipped else check["message"]
    line = Text.assemble(
        (f"{check['status']:<{STATUS}}", COLORS[check["status"]]),
        (f"{check['name']:<{NAME}}", "bold"),
        (_wrapped(console, message), "dim" if is_skipped else ""),
    )
    console.print(line)
    if check["cure"] and not is_skipped:
        console.print(Text.assemble(" " * (STATUS + NAME), _wrapped(console, f"cure: {check['cure']}")))


def show_summary(console: Console, checks: Sequence[Check]) -> None:
    """Print how many checks failed."""
    counts = {status: sum(check["status"] == status for check in checks) for status in ("failed", "warning")}
    if counts["failed"]:
        console.print(Text(f"{counts['failed']} of {len(checks)} checks failed.", COLORS["failed"]))
    elif counts["warning"]:
        console.print(Text(f"Nothing failed; {counts['warning']} of {len(checks)} checks warn.", COLORS["warning"]))
    else:
        console.print(Text("The set-up is in order.", COLORS["ok"]))


def _wrapped(console: Console, text: str) -> str:
    indent = STATUS + NAME
    if not console.is_terminal or console.width < 2 * indent:
        return text
    lines = textwrap.wrap(text, console.width - indent, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def show_answer(console: Console, answer: str, others: Sequence[Check] = ()) -> int:
    """Print what the function answered as text, and other checks, and return the exit status."""
    try:
        found: Any = json.JSONDecoder().raw_decode(answer, answer.index("{"))[0]
    except ValueError:
        print("error: the function gave no answer: is the stack deployed? (make deploy)", file=sys.stderr)
        return 1
    if "checks" not in found:
        said = clean_text(found.get("errorMessage") or answer, LONGEST_ERROR)
        print(f"error: the function failed: {said}", file=sys.stderr)
        return 1
    checks = [*found["checks"], *others]
    for check in checks:
        show_check(console, check)
    show_summary(console, checks)
    return 1 if any(check["status"] == "failed" for check in checks) else 0
