"""The state of the table on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from entrypoints.status import MISSING, STORED, BarChange, Strips, SymbolState, TableState
from entrypoints.wording import COLORS, plural

SHOWN_SYMBOLS = 30
SHOWN_NAMES = 8  # of other symbols, and of spans
LONGEST_STRIP = 70
COLUMNS = ("symbol", "rows", "first", "last", "missing", "again")
NUMBERS = ("rows", "missing", "again")
DROPPED = ("first", "rows", "last")  # columns in the order in which they give way
GAP = 2  # between columns


def strip_width(console: Console, symbols: Sequence[SymbolState]) -> int:
    """Return how many sessions of each symbol there is room for beside the columns."""
    used = _width(_columns(symbols[:SHOWN_SYMBOLS], console.width))
    return min(console.width - used, LONGEST_STRIP)


def show_status(console: Console, state: TableState, strips: Strips) -> None:
    """Print the state of the table."""
    console.print(f"{state['database']}, as of {state['as_of']}", markup=False)
    for note in state["notes"]:
        console.print(f"note: {note}", markup=False)
    stored = state["stored"]
    if stored["rows"]:
        console.print(f"Stored: {stored['rows']:,} rows, {stored['first']} to {stored['last']}.")
    else:
        console.print("Nothing is stored yet.")
    _show_completeness(console, state)
    console.print(_symbols_table(state["symbols"][:SHOWN_SYMBOLS], strips, console.width))
    if (more := len(state["symbols"]) - SHOWN_SYMBOLS) > 0:
        console.print(f"and {more:,} more symbols with no more missing than these")
    if others := state["other_symbols"]:
        console.print(f"Also stored: {_listed(others)}.", markup=False)
    show_next_update(console, state["calls"], state["plan"])
    _show_details(console, state)
    if state["runs"]:
        console.print("Last runs (UTC):")
        for run in state["runs"]:
            _show_run(console, run)


def _show_completeness(console: Console, state: TableState) -> None:
    tracked = state["tracked"]
    if state["complete"]:
        console.print(f"[green]Complete[/green]: read from {tracked['first']} to {tracked['last']}.")
    else:
        console.print(
            f"[red]Missing[/red]: {plural(state['missing'], 'session')}, counted per symbol, of those from"
            f" {tracked['first']} to {tracked['last']}."
        )
    if state["read_again"]:
        console.print(f"To be read again: {plural(state['read_again'], 'session')}, counted per symbol.")
    if oldest := state["oldest_reading"]:
        console.print(f"The oldest reading is from when {oldest} was the latest session.")


def _cells(symbol: SymbolState) -> tuple[str, ...]:
    return (
        symbol["symbol"],
        f"{symbol['rows']:,}",
        symbol["first"] or "–",
        symbol["last"] or "–",
        f"{symbol['missing']:,}",
        f"{symbol['read_again']:,}",
    )


def _columns(symbols: Sequence[SymbolState], width: int) -> dict[str, list[str]]:
    """The cells of the columns that there is room for."""
    rows = [_cells(symbol) for symbol in symbols]
    return fitting_columns({name: [row[n] for row in rows] for n, name in enumerate(COLUMNS)}, DROPPED, width)


def fitting_columns(columns: Mapping[str, list[str]], dropped: Sequence[str], width: int) -> dict[str, list[str]]:
    """The columns of a table that there is room for; those of `dropped` give way, in this order."""
    fitting = dict(columns)
    for name in dropped:
        if _width(fitting) - GAP > width:
            del fitting[name]
    return fitting


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    return sum(max(map(len, [name, *cells])) + GAP for name, cells in columns.items())


def _symbols_table(symbols: Sequence[SymbolState], strips: Strips, width: int) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, GAP, 0, 0))
    columns = _columns(symbols, width)
    for name in columns:
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True)
    if strips.sessions:
        table.add_column(f"last {len(strips.sessions)} to {strips.sessions[-1]}", no_wrap=True)
    for n, symbol in enumerate(symbols):
        cells = {name: columns[name][n] for name in columns}
        if symbol["missing"]:
            cells["missing"] = f"[red]{cells['missing']}[/red]"
        if strips.sessions:
            cells["strip"] = _colored(strips.by_symbol.get(symbol["symbol"], ""))
        table.add_row(*cells.values())
    if strips.sessions:
        table.caption = "█ stored  · read, no bar  x missing"
        table.caption_justify = "left"
    return table


def _colored(strip: str) -> str:
    return strip.replace(STORED, f"[green]{STORED}[/green]").replace(MISSING, f"[red]{MISSING}[/red]")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return f"{', '.join(names[:SHOWN_NAMES])}{f' and {more:,} more' if more > 0 else ''}"


def show_next_update(console: Console, calls: int, plan: Sequence[str]) -> None:
    """Print what the next daily update would ask for."""
    if not calls:
        console.print("The next daily_update has nothing to read.")
        return
    console.print(f"The next daily_update would make {plural(calls, 'call')}:")
    for call in plan:
        console.print(f"  {call}", markup=False)


def _show_details(console: Console, state: TableState) -> None:
    if state["changes"]:
        console.print("Last changes of stored prices:")
        for change in state["changes"]:
            console.print(f"  {change_line(change)}", markup=False)
    if state["rejected"]:
        count = sum(symbol["rejected"] for symbol in state["symbols"])
        console.print(f"Rejected, and kept in rejected_bars: {plural(count, 'record')}. The last ones:")
        for bar in state["rejected"]:
            console.print(f"  {bar['symbol']} {bar['session']}: {bar['reason']}", markup=False)


def change_line(change: BarChange) -> str:
    """One change: ``IBM 2013-02-26 corrected as of 2013-02-28: close 199.14 → 199.5``."""
    old, new, earlier = change["old"], change["new"], change["bars"] - 1
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if earlier or not (old and new):
        names = ["close"]
    values = (f"{name} {_number(old.get(name))} → {_number(new.get(name))}" for name in names)
    others = f" with {plural(earlier, 'earlier bar')}" if earlier else ""
    day = f"as of {change['as_of']}"
    return f"{change['symbol']} {change['session']} {change['cause']}{others} {day}: {', '.join(values)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def _show_run(console: Console, run: Mapping[str, Any]) -> None:
    """Print one line per run, and its whole error below."""
    color = COLORS.get(run["status"], "default")
    counts = ", ".join(f"{run[name]:,} {name}" for name in ("inserted", "updated") if run[name])
    details = "; ".join(part for part in (plural(run["api_calls"], "call"), counts) if part)
    console.print(
        f"  {run['started_at'][:19]}  {run['job_type']:<13} as of {run['as_of']}  [{color}]{run['status']}[/{color}]:"
        f" {details}"
    )
    if run["error"]:
        console.print(f"    {run['error']}", markup=False)
