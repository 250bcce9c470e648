"""The table as a file."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.app import command
from commands.options import read_symbols
from commands.output import apply_log_level, console


@command(
    "export",
    "export --output prices.csv",
    "export --output - --symbols IBM --known-at 2026-03-01T09:00:00Z",
)
def export(
    output: Annotated[str, typer.Option(metavar="FILE", help="The file to write; '-' is standard output.")],
    symbols: Annotated[
        str | None, typer.Option(metavar="SYMBOLS", help="Comma-separated symbols, or @file; default all.")
    ] = None,
    known_at: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="The table as it was known then: 2026-03-01T09:00:00Z.")
    ] = None,
    file_format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="The file's format: csv.")] = "csv",
) -> None:
    """Write the table to a file, as it is or as it was known at a moment."""
    from config import settings
    from entrypoints.export import STANDARD_OUTPUT, export_table
    from storage.engine import open_engine

    apply_log_level()
    engine = open_engine(settings().database_url.get_secret_value())
    chosen = ("*",) if symbols is None else read_symbols(symbols)
    rows = export_table(engine, file_format=file_format, output=output, symbols=chosen, known_at=known_at)
    if output != STANDARD_OUTPUT:
        console.print(f"{output}: {rows} rows")
