"""The command line and the local scheduler.

A command builds an event, calls :func:`lambda_main.handler` as AWS does, and shows the result as text or as JSON. Most
imports wait for the command that needs them.

Whatever goes wrong is one line on standard error. The exit status is 0 if the command did its work, 1 after an error or
if nobody reads the output, 2 for invalid arguments (Typer shows these in a box), and 128 plus the signal's number if a
signal stopped it: 130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports ends the program without a traceback

import errno
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from domain.errors import PayloadError, StockTrackerError

if TYPE_CHECKING:
    from domain.models import JobType

SANDBOX_TODAY = date(2013, 3, 2)
SANDBOX_SYMBOLS = "AAPL,FB,GOOG,IBM,MSFT"
MISBEHAVIORS = (  # of sandbox.misbehavior, which is imported only when it is needed
    "stall:MORNINGS, late:SYMBOL:MORNINGS, short:SYMBOL[:MORNINGS], half:SYMBOL[:MORNINGS], "
    "garble:SYMBOL:DATE[:MORNINGS], correct:SYMBOL:DATE, withdraw:SYMBOL:DATE, restate:SYMBOL:RATIO[:DAYS], "
    "wrong-ticker:SYMBOL:OTHER[:MORNINGS], rename:SYMBOL:NEW, reach:DATE, bad-splits"
)
STANDARD_OUTPUT = "standard output"
STOPS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, service managers, a terminal that is closed; Windows lacks the last
SIGNALED = 128  # plus the signal's number is the exit status
SCHEDULE_NOTE = "daily_update at 13:00 UTC, Tuesday to Saturday; weekly_report at 16:00 UTC on Saturday"


class _StandardOutput(Console):
    """Standard output that names itself in its errors, as a file does."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Rich does."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from None


class _Group(TyperGroup):
    """Accept the options of the whole program after the command as well."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = [argument for argument in args if argument in ("--verbose", "--debug")]
        return super().parse_args(ctx, [*flags, *(argument for argument in args if argument not in flags)])


app = typer.Typer(
    cls=_Group,
    help="Keep a table of daily stock prices complete and correct, and mail a weekly report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = _StandardOutput(highlight=False, soft_wrap=True)

Symbols = Annotated[str | None, typer.Option(help="Comma-separated symbols, @file, or '*' for the whole US market.")]
AsOf = Annotated[str | None, typer.Option(metavar="DATE", help="The date to take for today in New York.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan; fetch, write and send nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Fetch again what is covered; send again a report already sent.")]
Misbehave = Annotated[
    list[str] | None,
    typer.Option(metavar="KIND", help=f"What the sandbox does wrong, any number of: {MISBEHAVIORS}."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the raw result.")]
Sandbox = Annotated[bool, typer.Option("--sandbox", help="Use recorded prices, as of 2013-03-02; needs no key.")]


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show each step on standard error.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Keep a table of daily stock prices complete and correct, and mail a weekly report."""
    del debug  # main() looks for it in the arguments: an error may precede this function
    if verbose:
        from entrypoints.console import show_debug_lines

        show_debug_lines()


@app.command("initialize")
def initialize(
    symbols: Symbols = None,
    as_of: AsOf = None,
    sessions: Annotated[int | None, typer.Option(help="How many trading sessions back; default 70.")] = None,
    start: Annotated[str | None, typer.Option(metavar="DATE", help="First session, instead of --sessions.")] = None,
    end: Annotated[str | None, typer.Option(metavar="DATE", help="Last session; default the previous one.")] = None,
    dry_run: DryRun = False,
    force: Force = False,
    sandbox: Sandbox = False,
    misbehave: Misbehave = None,
    as_json: AsJson = False,
) -> None:
    """Load the last trading sessions of every symbol."""
    event = _event("initialize", symbols, as_of, dry_run, force, sessions=sessions, start=start, end=end)
    _invoke(event, sandbox=sandbox, misbehave=misbehave, as_json=as_json)


@app.command("daily_update")
def daily_update(
    symbols: Symbols = None,
    as_of: AsOf = None,
    dry_run: DryRun = False,
    force: Force = False,
    sandbox: Sandbox = False,
    misbehave: Misbehave = None,
    as_json: AsJson = False,
) -> None:
    """Load the previous trading session, and earlier ones that are missing."""
    _invoke(
        _event("daily_update", symbols, as_of, dry_run, force), sandbox=sandbox, misbehave=misbehave, as_json=as_json
    )


@app.command("weekly_report")
def weekly_report(
    symbols: Symbols = None,
    as_of: AsOf = None,
    dry_run: DryRun = False,
    force: Force = False,
    sandbox: Sandbox = False,
    misbehave: Misbehave = None,
    as_json: AsJson = False,
) -> None:
    """Mail the last week's performance with candlestick charts."""
    _invoke(
        _event("weekly_report", symbols, as_of, dry_run, force), sandbox=sandbox, misbehave=misbehave, as_json=as_json
    )


@app.command("invoke")
def invoke(
    payload: Annotated[str, typer.Argument(help='The event, such as \'{"job_type": "daily_update"}\'.')],
    sandbox: Sandbox = False,
) -> None:
    """Call the handler with an event, as AWS does, and print the result as JSON."""
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        raise typer.BadParameter(f"{payload[:80]!r} is not JSON", param_hint="PAYLOAD") from None
    _invoke(event, sandbox=sandbox, as_json=True)


@app.command("run")
def run(as_json: AsJson = False) -> None:
    """Run the three jobs in order; without POLYGON_API_KEY, on recorded prices as of 2013-03-02."""
    from config import settings

    before: dict[str, Any] = {}
    now: dict[str, Any] = {}
    with ExitStack() as stack:
        if not settings().polygon_api_key.get_secret_value():
            before = {"symbols": SANDBOX_SYMBOLS, "as_of": "2013-03-01"}  # leaves a session for the update
            now = {"symbols": SANDBOX_SYMBOLS, "as_of": str(SANDBOX_TODAY)}
            stack.enter_context(_sandbox(charts=True))
            if not as_json:
                console.print("No POLYGON_API_KEY is set: using recorded real prices, as of Saturday 2013-03-02.")
        _invoke({"job_type": "initialize", **before}, as_json=as_json)
        _invoke({"job_type": "daily_update", **now}, as_json=as_json)
        _invoke({"job_type": "weekly_report", **now}, as_json=as_json)


@app.command("sandbox")
def sandbox_server(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 picks a free one.", min=0, max=65_535)] = 0,
    today_is: Annotated[str, typer.Option("--today", metavar="DATE", help="The server's date.")] = str(SANDBOX_TODAY),
    calls_per_minute: Annotated[int, typer.Option(min=0, help="Answer 429 above this rate; 0 is unlimited.")] = 0,
    misbehave: Misbehave = None,
) -> None:
    """Serve recorded prices in Polygon's wire format, and charts in QuickChart's, until interrupted."""
    try:
        day = date.fromisoformat(today_is)
    except ValueError:
        raise typer.BadParameter(f"{today_is!r} is not an ISO date", param_hint="--today") from None
    server = _sandbox(charts=True, port=port, day=day, calls_per_minute=calls_per_minute, misbehave=misbehave)
    with server as variables, _until_interrupted():
        console.print(f"# Recorded prices of {SANDBOX_SYMBOLS} as of {day}. Use them with these settings:")
        for name, value in variables.items():
            console.print(f"{name}={value}")
        console.print("# Ctrl-C stops the server.")
        while True:
            time.sleep(1)


@app.command("schedule")
def schedule_jobs(
    once: Annotated[bool, typer.Option("--once", help="Show what is scheduled, and exit.")] = False,
) -> None:
    """Run the jobs at their cron times on this machine, until interrupted."""
    import schedule

    for day in ("tuesday", "wednesday", "thursday", "friday", "saturday"):
        getattr(schedule.every(), day).at("13:00", "UTC").do(_run_scheduled, "daily_update")
    schedule.every().saturday.at("16:00", "UTC").do(_run_scheduled, "weekly_report")
    console.print(f"Scheduled: {SCHEDULE_NOTE}.")
    for job in sorted(schedule.get_jobs()):
        if job.job_func:
            console.print(f"  next {job.next_run:%a %Y-%m-%d %H:%M} local time: {job.job_func.args[0]}")
    if once:
        return
    with _until_interrupted():
        while True:
            schedule.run_pending()
            time.sleep(1)


@app.command("status")
def status(symbols: Symbols = None, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Show what is stored, covered and missing, and the last runs."""
    from domain.calendar import today
    from entrypoints.console import show_status
    from entrypoints.payload import parse_payload
    from entrypoints.status import read_status
    from lambda_main import run_context

    _apply_log_level()
    context = run_context(None)
    event = _event("daily_update", symbols, as_of, dry_run=True, force=False)
    request = parse_payload(event, context.settings, today(context.now()))
    width = max(min(console.width - 60, 70), 10)
    state = read_status(context, request.symbols, request.as_of, strip=width)
    if as_json:
        print(json.dumps(state))
    else:
        show_status(console, state)


@app.command("export")
def export(
    output: Annotated[str, typer.Option(metavar="FILE", help="The file to write; '-' is standard output.")],
    symbols: Annotated[str | None, typer.Option(help="Comma-separated symbols, or @file; default all.")] = None,
    known_at: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="The table as it was known then: 2026-03-01T09:00:00Z.")
    ] = None,
    file_format: Annotated[str, typer.Option("--format", help="The file's format: csv.")] = "csv",
) -> None:
    """Write the table to a file, as it is or as it was known at a moment."""
    from config import settings
    from entrypoints.export import STANDARD_OUTPUT, export_table
    from storage.engine import open_engine

    _apply_log_level()
    engine = open_engine(settings().database_url.get_secret_value())
    chosen = ("*",) if symbols is None else _read_symbols(symbols)
    rows = export_table(engine, file_format=file_format, output=output, symbols=chosen, known_at=known_at)
    if output != STANDARD_OUTPUT:
        console.print(f"{output}: {rows} rows")


def _event(
    job_type: JobType, symbols: str | None, as_of: str | None, dry_run: bool, force: bool, **more: Any
) -> dict[str, Any]:
    """Build the event for these options; an option that was not given is left out."""
    if symbols and symbols.startswith("@"):
        symbols = ",".join(_read_symbols(symbols))
    options = {"symbols": symbols, "as_of": as_of, "dry_run": dry_run or None, "force": force or None, **more}
    return {"job_type": job_type, **{key: value for key, value in options.items() if value is not None}}


def _read_symbols(name: str) -> tuple[str, ...]:
    from config import parse_symbols

    try:
        return parse_symbols(name, files=True)
    except ValueError as error:
        raise PayloadError(f"--symbols is {name!r}: {error}") from None


def _invoke(
    event: Any, *, sandbox: bool = False, misbehave: Sequence[str] | None = None, as_json: bool = False
) -> None:
    from entrypoints.console import progress_bar, show_result

    _apply_log_level()
    if misbehave and not sandbox:
        raise PayloadError("--misbehave is for the sandbox: add --sandbox")
    with ExitStack() as stack:
        if sandbox and isinstance(event, dict):
            event = {"symbols": SANDBOX_SYMBOLS, "as_of": str(SANDBOX_TODAY), **event}
            charts = event.get("job_type") == "weekly_report"
            stack.enter_context(_sandbox(charts=charts, misbehave=misbehave))
        with progress_bar(console, quiet=as_json) as context:
            from lambda_main import handler

            result = handler(event, context)
    if as_json:
        print(json.dumps(result))
    else:
        show_result(console, result)


def _apply_log_level() -> None:
    from config import settings

    if settings().log_level == "DEBUG":
        from entrypoints.console import show_debug_lines

        show_debug_lines()


def _run_scheduled(job_type: JobType) -> None:
    """Run a job at its time. An error is shown, and the scheduler continues."""
    try:
        _invoke({"job_type": job_type})
    except StockTrackerError as error:
        _print_error(error)


@contextmanager
def _sandbox(
    *,
    charts: bool,
    port: int = 0,
    day: date = SANDBOX_TODAY,
    calls_per_minute: int = 0,
    misbehave: Sequence[str] | None = None,
) -> Iterator[dict[str, str]]:
    """Serve recorded prices and charts, and point the settings to these servers."""
    from config import settings
    from sandbox.history import PriceHistory
    from sandbox.misbehavior import parse_misbehavior
    from sandbox.renderer import Renderer, RendererUnavailable
    from sandbox.server import MarketServer

    with ExitStack() as stack:
        market = MarketServer(PriceHistory.recorded(), today=day, port=port, calls_per_minute=calls_per_minute)
        try:
            market.misbehaviors = tuple(parse_misbehavior(form, day) for form in misbehave or ())
        except ValueError as error:
            raise PayloadError(f"--misbehave {error}") from None
        try:
            stack.enter_context(market)
        except OSError as error:
            raise PayloadError(
                f"--port is {port}, where nothing can listen on 127.0.0.1: {error.strerror}; valid is a free port, or 0"
            ) from None
        variables = {
            "POLYGON_BASE_URL": market.url,
            "POLYGON_API_KEY": market.key,
            "POLYGON_CALLS_PER_MINUTE": "0",
            "SYMBOLS": SANDBOX_SYMBOLS,
            "MAIL_TRANSPORT": "outbox",  # nobody gets mail about recorded prices
        }
        if charts and "QUICKCHART_URL" not in os.environ:
            try:
                variables["QUICKCHART_URL"] = stack.enter_context(Renderer()).url
            except RendererUnavailable as error:
                console.print(f"note: {error}", style="yellow")
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        settings.cache_clear()
        try:
            yield variables
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            settings.cache_clear()


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """End the block quietly when a signal stops it: that is how these commands are meant to end."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("Stopped.")


@contextmanager
def _interrupted_by_signals() -> Iterator[list[signal.Signals]]:
    """Turn the signals that stop a program into KeyboardInterrupt, and yield the list that holds those received.

    A signal that is ignored stays so, as under ``nohup``.
    """
    received: list[signal.Signals] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(signal.Signals(number))
        raise KeyboardInterrupt(received[-1].name)

    known = [signal.Signals[name] for name in STOPS if name in signal.Signals.__members__]
    before = {each: signal.getsignal(each) for each in known}
    for each, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(each, interrupt)
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _print_error(error: Exception | str, kind: str = "error") -> None:
    """Print one line without secrets on standard error; a character that a terminal does not show is escaped."""
    from config import redact

    text = redact(str(error))
    shown = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    with suppress(OSError):  # standard error may be full or closed, and the exit status still tells
        print(f"{kind}: {''.join(shown)}", file=sys.stderr)


def _flush_output() -> OSError | None:
    """Flush standard output; return the error if that fails, and drop what could not be written."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return OSError(error.errno, error.strerror, STANDARD_OUTPUT)
    return None


def main() -> int:
    """Run the command line.

    Returns
    -------
    int
        The exit status, as this module's documentation lists them.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "…" shows "?"
    with _interrupted_by_signals() as received:
        status = _run_command()
        if (unwritten := _flush_output()) and status == 0:
            status = _report_file_error(unwritten)
    if status == SIGNALED + signal.SIGINT and received:  # as Typer exits after any KeyboardInterrupt
        _print_error(
            f"by {received[0].name}; what was stored stays, and the next run goes on from there", "interrupted"
        )
        status = SIGNALED + received[0]
    return status


def _run_command() -> int:
    debug = "--debug" in sys.argv
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except StockTrackerError as error:
        if debug:
            raise
        _print_error(error)
    except OSError as error:  # of a file or standard output: services raise errors of ours
        if debug:
            raise
        return _report_file_error(_flush_output() or error)
    return 1


def _report_file_error(error: OSError) -> int:
    """Print why a file cannot be used; a reader that has gone, as in ``main.py status | head -1``, is no news."""
    if error.errno != errno.EPIPE:
        place = f"{error.filename} cannot be used: " if error.filename else ""
        _print_error(f"{place}{error.strerror or error}")
    return 1


if __name__ == "__main__":
    exit_status = main()
    if exit_status > SIGNALED:
        os._exit(exit_status)  # without waiting for a thread whose answer is late
    sys.exit(exit_status)
