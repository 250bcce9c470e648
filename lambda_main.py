"""The Lambda handler: validates the payload and dispatches on ``job_type``.

What comes in: the event of EventBridge, of ``aws lambda invoke``, of a state machine or of the terminal. What goes out:
the job's result as JSON. Nothing that a job needs lives here, and a payload that is wrong in any way fetches and writes
nothing.
"""

from __future__ import annotations

import json
import re
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from config import Settings, parse_symbols, read_again, settings
from domain.calendar import FIRST_YEAR, today
from domain.clock import Deadline, SystemClock
from domain.errors import ConfigError, CredentialsError, PayloadError
from domain.models import JOB_TYPES, JobType, Request, no_progress
from pipeline import jobs
from pipeline.run import RunContext
from storage.engine import open_engine

if TYPE_CHECKING:
    from entrypoints.telemetry import Telemetry

MAX_SESSIONS = 10_000
SHOWN_ERRORS = 3


def handler(event: Any, context: Any = None) -> dict[str, Any]:
    """Run one job.

    Parameters
    ----------
    event : dict
        ``{"job_type": "initialize" | "daily_update" | "weekly_report"}`` and the optional keys of :class:`Payload`.
    context : object, optional
        Lambda's context: ``get_remaining_time_in_millis`` bounds the run, which tells its log and its metrics. A
        terminal may give one with a ``progress`` function instead, and no time limit.

    Returns
    -------
    dict
        JSON-serialisable: ``status, job_type, run_id, as_of, symbols, sessions, api_calls, rows, elapsed_seconds`` and
        more by job.

    Raises
    ------
    StockTrackerError
        With a message in one line that names what was wrong, the value and what is valid. Raised, so that Lambda counts
        it, retries and dead-letters.
    """
    watch = _telemetry(context)
    try:
        result = _run(event, context, watch)
    except Exception as error:
        if watch:
            watch.failed(error, event)
        raise
    if watch:
        watch.succeeded(result)
    return result


def _telemetry(context: Any) -> Telemetry | None:
    """What tells the log, on Lambda; a terminal shows the result itself."""
    if not hasattr(context, "aws_request_id"):
        return None
    from entrypoints.telemetry import Telemetry

    return Telemetry(context.aws_request_id)


def _run(event: Any, context: Any, watch: Telemetry | None) -> dict[str, Any]:
    """Run the job, and once more with the new secret if one of its credentials was refused and is another one now."""
    used = settings()
    try:
        return _attempt(event, context, watch)
    except CredentialsError as refused:
        if not _secret_has_changed(used, refused):
            raise
        if watch:
            watch.goes_on(refused)
    return _attempt(event, context, watch)


def _attempt(event: Any, context: Any, watch: Telemetry | None) -> dict[str, Any]:
    tools = run_context(context)
    request = parse_payload(event, tools.settings, today(tools.now()))
    if watch:
        watch.started(request, tools)
        _refuse_local_files(request, tools.settings)
    return jobs.run_job(request, tools)


def _secret_has_changed(used: Settings, refused: CredentialsError) -> bool:
    """Whether the secret was rotated since this process read it."""
    try:
        return read_again(used)
    except ConfigError as error:
        raise CredentialsError(f"{refused}; and the settings cannot be read again: {error}") from None


def _refuse_local_files(request: Request, configured: Settings) -> None:
    """On Lambda, a relative path leads into the folder of the code, which is read-only."""
    url = configured.database_url.get_secret_value()
    if url.startswith("sqlite") and not url.startswith("sqlite:////"):
        said = "a file in the folder of the code" if "database_url" in configured.model_fields_set else "not set"
        raise ConfigError(
            f"DATABASE_URL is {said}: valid on Lambda is postgresql://…, which belongs into the secret of SECRET_ID"
        )
    if request.job_type == "weekly_report" and configured.transport == "outbox" and not configured.outbox.is_absolute():
        raise ConfigError(
            f"MAIL_TRANSPORT is {configured.mail_transport!r} and SMTP_HOST is {configured.smtp_host!r}, which leaves"
            " reports in the folder of the code: on Lambda set SMTP_HOST, or MAIL_TRANSPORT=ses, and MAIL_FROM, MAIL_TO"
        )


def run_context(context: Any) -> RunContext:
    """What a job works with in this process: settings, database, deadline and progress.

    Parameters
    ----------
    context : object or None
        As :func:`handler` takes it.

    Returns
    -------
    RunContext

    Raises
    ------
    ConfigError
        If a setting is malformed.
    """
    configured = settings()
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return RunContext(
        settings=configured,
        engine=open_engine(configured.database_url.get_secret_value()),
        deadline=Deadline(remaining() / 1000 if remaining else None, SystemClock()),
        progress=getattr(context, "progress", None) or no_progress,
    )


def _iso_date(value: object) -> date:
    try:
        if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            raise ValueError
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("valid is an ISO date such as 2013-03-01") from None


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SESSIONS:
        raise ValueError(f"valid is a whole number from 1 to {MAX_SESSIONS}")
    return value


def _job_type(value: object) -> object:
    if value not in JOB_TYPES:
        raise ValueError(f"valid are {', '.join(JOB_TYPES)}")
    return value


# None is the default of a key that is left out; a null in the event is refused, like any other wrong value.
Symbols = Annotated[tuple[str, ...] | None, BeforeValidator(parse_symbols)]
IsoDate = Annotated[date | None, BeforeValidator(_iso_date)]
Count = Annotated[int | None, BeforeValidator(_count)]
KnownJob = Annotated[JobType, BeforeValidator(_job_type)]


class Payload(BaseModel):
    """What an event may hold; defaults that depend on settings or on the clock are filled in by the parser."""

    model_config = ConfigDict(extra="forbid", strict=True)

    job_type: KnownJob
    symbols: Symbols = None
    as_of: IsoDate = None
    sessions: Count = None
    start: IsoDate = None
    end: IsoDate = None
    dry_run: bool = False
    force: bool = False

    @model_validator(mode="after")
    def _keys_fit_the_job(self) -> Payload:
        for key in ("sessions", "start", "end"):
            if self.job_type != "initialize" and getattr(self, key) is not None:
                raise ValueError(f"{key} is for initialize only, not for {self.job_type}")
        if self.sessions is not None and (self.start or self.end):
            raise ValueError(f"sessions is {self.sessions} beside start or end: give one or the other")
        if self.end and not self.start:
            raise ValueError(f"end is {self.end} without start: give both, or sessions")
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start is {self.start}, after end {self.end}: valid is start up to end")
        return self


def parse_payload(event: Any, configured: Settings, now: date) -> Request:
    """Check an event and fill in what it leaves out.

    Parameters
    ----------
    event : Any
        The event as received.
    configured : Settings
        Gives the default symbols and number of sessions.
    now : datetime.date
        Today in New York: the default of ``as_of``, and the latest it can be.

    Returns
    -------
    Request

    Raises
    ------
    PayloadError
        Naming the key, the value and what is valid, in one line.
    """
    if not isinstance(event, dict) or "job_type" not in event:
        shown = _short(json.dumps(event, default=str)) + _sender(event)
        raise PayloadError(f"the event {shown} has no job_type: valid are {', '.join(JOB_TYPES)}")
    try:
        payload = Payload.model_validate(event)
    except ValidationError as error:
        raise PayloadError("; ".join(_explain(detail) for detail in error.errors()[:SHOWN_ERRORS])) from None
    as_of = payload.as_of or now
    for key, day in (("as_of", as_of), ("start", payload.start), ("end", payload.end)):
        if day and not date(FIRST_YEAR, 1, 1) <= day <= now:
            raise PayloadError(f"{key} is {day}: valid is from {FIRST_YEAR}-01-01 to today in New York, {now}")
    return Request(
        job_type=payload.job_type,
        symbols=payload.symbols or configured.symbols,
        as_of=as_of,
        sessions=payload.sessions or configured.history_sessions,
        start=payload.start,
        end=payload.end,
        dry_run=payload.dry_run,
        force=payload.force,
        payload=json.dumps(event, sort_keys=True),
    )


def _sender(event: Any) -> str:
    """The rule that sent an event of EventBridge's own form, which it does when it has no Input."""
    rules = event.get("resources") if isinstance(event, dict) else None
    return f" of {_short(', '.join(map(str, rules)), 200)}" if rules and isinstance(rules, list) else ""


def _explain(detail: Any) -> str:
    reason = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        return reason
    key, shown = _short(detail["loc"][0]), _short(json.dumps(detail["input"], default=str))
    if detail["type"] == "extra_forbidden":
        return f"the key {key!r} is unknown: valid are {', '.join(Payload.model_fields)}"
    return f"{key} is {shown}: {_short(reason[:1].lower() + reason[1:], 300)}"


def _short(value: object, length: int = 80) -> str:
    text = str(value)
    return text if len(text) <= length else f"{text[:length]}…"
