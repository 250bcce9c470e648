"""The table as a file."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from commands.app import command
from commands.options import read_symbols
from commands.output import apply_log_level, console


@command(
    "export",
    "export --output prices.parquet",
    "export --output - --symbols IBM --known-at 2026-03-01T09:00:00Z",
    "export --output ibm.jsonl --symbols IBM --start 2026-01-02",
)
def export(
    output: Annotated[str, typer.Option(metavar="FILE", help="The file to write; '-' is standard output.")],
    symbols: Annotated[
        str | None, typer.Option(metavar="SYMBOLS", help="Comma-separated symbols, or @file; default all.")
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="DATE", help="First session; default the first one.")] = None,
    end: Annotated[str | None, typer.Option(metavar="DATE", help="Last session; default the last one.")] = None,
    known_at: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="The table as it was known then: 2026-03-01T09:00:00Z.")
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="csv, jsonl, parquet or arrow; default by the file's ending, or csv.",
        ),
    ] = None,
    decimal: Annotated[
        bool, typer.Option("--decimal", help="Exact decimals instead of doubles, in Parquet and Arrow.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists, without asking.")] = False,
) -> None:
    """Write the table to a file, as it is or as it was known at a moment."""
    import pyarrow as pa

    from config import settings
    from domain.errors import PayloadError
    from entrypoints.console import progress_bar
    from entrypoints.export import STANDARD_OUTPUT, choose_format, export_table, is_taken, parse_selection
    from entrypoints.wording import plural
    from storage.engine import open_engine

    pa.set_memory_pool(pa.mimalloc_memory_pool())  # malloc would be left with 40 MB of freed fragments
    apply_log_level()
    selection = parse_selection(("*",) if symbols is None else read_symbols(symbols), start, end, known_at)
    chosen = choose_format(output, file_format)
    if is_taken(output) and not force:
        if not sys.stdin.isatty():
            raise PayloadError(f"--output is {output!r}, which exists: add --force to replace it")
        typer.confirm(f"Replace {output}?", abort=True)
    engine = open_engine(settings().database_url.get_secret_value())
    to_file = output != STANDARD_OUTPUT
    with progress_bar(console, quiet=not to_file) as context:
        rows = export_table(
            engine, selection, output=output, file_format=chosen, decimal=decimal, progress=context.progress
        )
    if to_file:
        console.print(f"{output}: {plural(rows, 'row')}", markup=False)
