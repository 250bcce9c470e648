"""What a person sees in the terminal: progress, a job's result, and the state of the table.

What comes in: results as the handler returns them, and rows that the query helpers read. What goes out: lines. Nothing
here decides or changes anything.
"""

from __future__ import annotations

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
from rich.table import Table

from domain.models import ProgressFunction

PATIENCE = 1.0  # seconds before a progress bar appears
COLOURS = {"ok": "green", "sent": "green", "nothing_to_do": "cyan", "already_sent": "cyan", "partial": "yellow"}


@dataclass(frozen=True)
class TerminalContext:
    """What the handler gets instead of Lambda's context: no time limit, and somewhere to show progress."""

    progress: ProgressFunction


@contextmanager
def progress_bar(console: Console) -> Iterator[TerminalContext]:
    """A context whose progress is a bar, on a terminal and once a job takes more than a second."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    started = time.monotonic()
    task = bar.add_task("")

    def show(done: int, total: int, doing: str) -> None:
        bar.update(task, completed=done, total=total, description=doing)
        if time.monotonic() - started > PATIENCE:
            bar.start()

    try:
        yield TerminalContext(show)
    finally:
        bar.stop()


def show_result(console: Console, result: dict[str, Any]) -> None:
    """One line a job, its warnings, and for a report where it is and what it says."""
    status, sessions, rows = result["status"], result["sessions"], result["rows"]
    parts = []
    if sessions["count"]:
        ends = sessions["first"] if sessions["count"] == 1 else f"{sessions['first']} to {sessions['last']}"
        parts.append(f"{_counted(sessions['count'], 'session')}, {ends}")
    if changed := [f"{count:,} {name}" for name, count in rows.items() if count]:
        parts.append(f"rows: {', '.join(changed)}")
    if "calls" in result:
        parts.append(f"would make {_counted(result['calls'], 'call')}")
    else:
        parts.append(_counted(result["api_calls"], "API call"))
    parts.append(f"{result['elapsed_seconds']:.1f} s")
    colour = COLOURS.get(status, "default")
    console.print(f"[bold]{result['job_type']:<14}[/bold] [{colour}]{status:<14}[/{colour}] {' · '.join(parts)}")
    for line in result.get("plan", []):
        console.print(f"  would ask for {line}", markup=False)
    for warning in result["warnings"]:
        console.print(f"  warning: {warning}", style="yellow", markup=False)
    if "subject" in result:
        _show_report(console, result)


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _show_report(console: Console, result: dict[str, Any]) -> None:
    console.print(f"  {result['subject']}", style="bold", markup=False)
    if recipients := result.get("recipients"):
        console.print(f"  to {', '.join(recipients)}", markup=False)
    for place in result.get("files", []):
        if place.endswith(".html"):
            console.print(f"  open {place}", markup=False)
        elif result["status"] == "sent":
            text = message_from_bytes(Path(place).read_bytes(), policy=policy.default).get_body(("plain",))
            console.print(f"\n{text.get_content() if text else ''}", markup=False)


def show_status(console: Console, state: dict[str, Any]) -> None:
    """What is stored, covered and missing a symbol, what the next run would do, and the last runs."""
    console.print(f"{state['database']}, as of {state['as_of']}", markup=False)
    strip = state["strip"]
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name, side in (
        ("symbol", "left"),
        ("rows", "right"),
        ("first", "left"),
        ("last", "left"),
        ("missing", "right"),
    ):
        table.add_column(name, justify="right" if side == "right" else "left")
    table.add_column(f"{strip['first']} … {strip['last']}", no_wrap=True)
    for line in state["symbols"]:
        count = f"[red]{line['missing']}[/red]" if line["missing"] else "0"
        table.add_row(
            line["symbol"],
            f"{line['rows']:,}",
            line["first"] or "–",
            line["last"] or "–",
            count,
            _coloured(line["strip"]),
        )
    if state["symbols"]:
        console.print(table)
        console.print("  █ stored   · fetched, no bar   x missing", style="dim")
    else:
        console.print("Nothing is stored yet.")
    if state["more_symbols"]:
        console.print(f"and {state['more_symbols']:,} more symbols")
    following = state["next_run"]
    if following["plan"]:
        console.print(f"The next daily_update would make {_counted(following['calls'], 'call')}:")
        for call in following["plan"]:
            console.print(f"  {call}", markup=False)
    else:
        console.print("The next daily_update has nothing to do.")
    if state["runs"]:
        console.print(_runs_table(state["runs"]))


def _coloured(strip: str) -> str:
    return strip.replace("█", "[green]█[/green]").replace("x", "[red]x[/red]")


def _runs_table(runs: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("last runs (UTC)", "job", "as of", "status", "calls", "inserted", "updated", "error"):
        table.add_column(name, no_wrap=name != "error", overflow="fold")
    for run in runs:
        colour = "red" if run["status"] == "failed" else COLOURS.get(run["status"], "default")
        counts = [str(run[name]) for name in ("api_calls", "inserted", "updated")]
        status = f"[{colour}]{run['status']}[/{colour}]"
        table.add_row(
            run["started_at"][:19], run["job_type"], run["as_of"], status, *counts, escape(run["error"] or "")
        )
    return table
