"""What the command line shows of a job: progress, its result, and the log on standard error."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from config import redact
from domain.clock import Waiting
from domain.models import JobResult, ProgressFunction
from entrypoints.wording import COLORS, plural

PROGRESS_DELAY = 1.0  # seconds before a progress bar appears


@dataclass(frozen=True)
class TerminalContext:
    """What the handler gets in place of Lambda's context: no time limit, and functions that show progress and waits."""

    progress: ProgressFunction
    waiting: Waiting


class _Formatter(logging.Formatter):
    """Lines without secrets, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def show_debug_lines() -> None:
    """Print all lines of the ``stock_tracker`` loggers on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    package = logging.getLogger("stock_tracker")
    package.handlers = [handler]
    package.setLevel(logging.DEBUG)


@contextmanager
def progress_bar(console: Console, *, quiet: bool = False) -> Iterator[TerminalContext]:
    """Show progress and waits as a bar, on a terminal and once a job has taken a second, unless log lines show it."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal or logging.getLogger("stock_tracker").isEnabledFor(logging.DEBUG),
    )
    started = time.monotonic()
    task = bar.add_task("")

    def update(**columns: Any) -> None:
        bar.update(task, **columns)
        if time.monotonic() - started > PROGRESS_DELAY:
            bar.start()

    def show(done: int, total: int, doing: str) -> None:
        update(completed=done, total=total, description=doing)

    def show_wait(reason: str, seconds: float) -> None:
        update(description=escape(f"waiting {seconds:.0f} s: {reason}"))

    try:
        yield TerminalContext(show, show_wait)
    finally:
        bar.stop()


def show_result(console: Console, result: JobResult) -> None:
    """Print one line per job, its plan and its warnings, and for a report where it is and what it says."""
    status, sessions, rows = result["status"], result["sessions"], result["rows"]
    parts = []
    if sessions["count"]:
        ends = sessions["first"] if sessions["count"] == 1 else f"{sessions['first']} to {sessions['last']}"
        parts.append(f"{plural(sessions['count'], 'session')}, {ends}")
    corrected = rows.get("corrected", 0)  # a part of those updated
    shown = {"updated": f" ({corrected:,} corrected)" if corrected else ""}
    if changed := [f"{n:,} {name}{shown.get(name, '')}" for name, n in rows.items() if n and name != "corrected"]:
        parts.append(f"rows: {', '.join(changed)}")
    if "calls" in result:
        parts.append(f"would make {plural(result['calls'], 'call')}")
    else:
        parts.append(plural(result["api_calls"], "API call"))
    parts.append(f"{result['elapsed_seconds']:.1f} s")
    color = COLORS.get(status, "default")
    console.print(f"[bold]{result['job_type']:<14}[/bold] [{color}]{status:<14}[/{color}] {' · '.join(parts)}")
    for line in result.get("plan", []):
        console.print(f"  would ask for {line}", markup=False)
    for line in _read_again_lines(result):
        console.print(f"  {line}", markup=False)
    for warning in result["warnings"]:
        console.print(f"  warning: {warning}", style="yellow", markup=False)
    if "site" in result:
        console.print(f"  published {result['site']}", markup=False)
    if "subject" in result:
        _show_report(console, result)


def _read_again_lines(result: JobResult) -> list[str]:
    """What a dry run would read again, and how old the oldest reading is."""
    lines = []
    if (again := result.get("read_again")) and again["count"]:
        ends = str(again["first"]) if again["count"] == 1 else f"{again['first']} to {again['last']}"
        lines.append(f"of this, read again: {plural(again['count'], 'session')}, {ends}")
    if oldest := result.get("oldest_reading"):
        lines.append(f"the oldest reading is from when {oldest} was the latest session")
    return lines


def _show_report(console: Console, result: JobResult) -> None:
    console.print(f"  {result['subject']}", style="bold", markup=False)
    if recipients := result.get("recipients"):
        console.print(f"  to {', '.join(recipients)}", markup=False)
    for path in result.get("files", []):
        if path.endswith(".html"):
            console.print(f"  open {path}", markup=False)
        elif result["status"] == "sent":
            text = message_from_bytes(Path(path).read_bytes(), policy=policy.default).get_body(("plain",))
            console.print(f"\n{text.get_content() if text else ''}", markup=False)
