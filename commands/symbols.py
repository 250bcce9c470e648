"""The list of symbols, and the rows of one that is to be forgotten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from commands.app import Invalid, command
from commands.options import AsJson
from commands.output import apply_log_level, console, print_note
from domain.errors import PayloadError

if TYPE_CHECKING:
    from entrypoints.symbol_list import SymbolList

Action = Annotated[Literal["list", "add", "remove"], typer.Argument(help="What to do.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[SYMBOL]...", help="The symbols to add or remove.")]


@command("symbols", "symbols", "symbols add AMD", "symbols remove QUBT")
def symbols(action: Action = "list", names: Names = None, as_json: AsJson = False) -> None:
    """List the configured symbols, add some, or remove some; their stored rows stay."""
    from entrypoints.status_view import show_next_update
    from entrypoints.symbol_list import change_list, read_list

    if bool(names) != (action != "list"):
        raise Invalid("SYMBOL", " ".join(names or ()), f"{'none' if action == 'list' else 'at least one'} for {action}")
    apply_log_level()
    before = read_list()
    after = before
    if action == "add":
        after = change_list(add=names or ())
    elif action == "remove":
        after = change_list(remove=names or ())
    plan = _next_update(after)
    if as_json:
        print(json.dumps({"symbols": after.symbols, "place": after.place, "next_update": plan}))
        return
    for symbol in after.symbols:
        console.print(symbol, markup=False)
    unchanged = before.symbols == after.symbols
    console.print(f"{'from' if unchanged else 'written to'} {after.place}", markup=False)
    if known := [symbol for symbol in names or () if action == "add" and symbol in before.symbols]:
        console.print(f"{', '.join(known)} {'was' if len(known) == 1 else 'were'} among them before.", markup=False)
    removed = [symbol for symbol in before.symbols if symbol not in after.symbols]
    if removed and (stored := _stored(removed)):
        console.print(f"The stored rows of {', '.join(stored)} stay, until you forget them.", markup=False)
    if plan:
        show_next_update(console, plan["calls"], plan["plan"])
    else:
        print_note("the database holds recorded prices: live prices of these symbols need another one")


def _stored(symbols: Sequence[str]) -> list[str]:
    """Those of the symbols that have rows."""
    import utils
    from lambda_main import run_context

    with utils.reading(run_context(None).engine) as connection:
        return list(utils.read_stored(connection, symbols)) if connection else []


def _next_update(now: SymbolList) -> dict[str, Any] | None:
    """What the next daily update would ask for; None if the database is of the demo."""
    from domain.calendar import today
    from domain.models import Request
    from entrypoints.status import read_demo_event
    from lambda_main import run_context
    from pipeline.plan import plan_update, shown_calls

    context = run_context(None)
    if read_demo_event(context):
        return None
    plan = plan_update(Request("daily_update", now.symbols, today(context.now()), dry_run=True), context)
    lines, calls = shown_calls(plan.calls)
    return {"calls": calls, "plan": lines}


@command("forget", "forget QUBT")
def forget(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="A stored symbol, such as QUBT.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove all rows of a symbol, after asking; a CSV file in the working directory keeps its prices."""
    from domain.calendar import today
    from lambda_main import run_context
    from pipeline.forget import count_rows, forget_symbol

    apply_log_level()
    context = run_context(None)
    if symbol in context.settings.symbols:
        raise PayloadError(f"{symbol!r} is a configured symbol, and the next run would load it again: remove it first")
    rows = count_rows(context.engine, symbol)
    backup = Path(f"{symbol.replace('/', '-')}-{today(context.now())}.csv").absolute()
    if not yes and not typer.confirm(f"Remove {rows:,} rows of {symbol}, and keep them in {backup}?"):
        raise typer.Exit(1)
    rows = forget_symbol(context.engine, symbol, backup)
    console.print(f"{rows:,} rows of {symbol} are removed; {backup} keeps them", markup=False)
