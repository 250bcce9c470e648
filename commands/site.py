"""The market page, by hand."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.app import PROGRAM, Invalid, command
from commands.output import apply_log_level, console, print_note
from commands.signals import until_interrupted

if TYPE_CHECKING:
    from pipeline.site import Publication
    from web.target import Target

MARKET = "market"  # the folder in the outbox


@command("site", "site --open", "site --output public")
def site(
    open_page: Annotated[
        bool, typer.Option("--open", help="Serve the page from this machine and open it, until interrupted.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where to put it, or s3://bucket/prefix; default SITE, or outbox/market."),
    ] = None,
) -> None:
    """Publish the market page from what is stored; for up to 20 symbols also as the one file outbox/market.html."""
    from config import settings
    from web.server import SiteServer
    from web.target import FolderTarget, open_target

    apply_log_level()
    place = _checked(output) if output is not None else settings().site or str(settings().outbox / MARKET)
    if open_page and place.startswith("s3://"):
        raise Invalid("--open", place, "with a folder: name one with --output")
    target = open_target(place)
    publication = publish_page(target)
    console.print(f"{target}: {publication.symbols:,} symbols, {len(publication.written)} files written", markup=False)
    if publication.single:
        console.print(f"open {_single_file()}", markup=False)
    if open_page and isinstance(target, FolderTarget):
        with SiteServer(target.folder) as server, until_interrupted():
            console.print(f"open {server.url} (Ctrl-C stops the server)", markup=False)
            if not webbrowser.open(server.url):
                print_note("no browser was found")
            while True:
                time.sleep(1)


def _checked(output: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from config import Site

    try:
        return TypeAdapter(Site).validate_python(output)
    except ValidationError:
        raise Invalid("--output", output, "a folder, s3://bucket or s3://bucket/prefix") from None


def _single_file() -> Path:
    from config import settings

    return settings().outbox / "market.html"


def publish_page(target: Target) -> Publication:
    """Publish what is stored, as of the date of a database of recorded prices, else of today; also as one file.

    Raises
    ------
    StockTrackerError
        As :func:`pipeline.site.publish_site`, or if the outbox cannot be written.
    """
    from domain.calendar import today
    from entrypoints.payload import parse_payload
    from entrypoints.status import read_demo_event
    from lambda_main import run_context
    from pipeline.site import publish_site
    from report.outbox import write_page

    context = run_context(None)
    event = {**read_demo_event(context), "job_type": "daily_update", "dry_run": True}
    request = parse_payload(event, context.settings, today(context.now()))
    publication = publish_site(context, request.symbols, request.as_of, target)
    if publication.single:
        write_page(_single_file(), publication.single.decode())
    return publication


def show_demo_page() -> None:
    """Publish the page into the outbox after a first run, and say how to open it, or why there is none."""
    from config import settings
    from domain.errors import StockTrackerError
    from web.target import open_target

    try:
        publication = publish_page(open_target(str(settings().outbox / MARKET)))
    except StockTrackerError as error:
        print_note(error)
        return
    if publication.single:
        console.print(f"  open {_single_file()}", markup=False)
    else:
        console.print(f"  {PROGRAM} site --open", markup=False)
