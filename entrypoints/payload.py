"""Validate an event and complete it to a request."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from config import Settings, explain, parse_symbols, redact
from domain.calendar import FIRST_YEAR
from domain.errors import PayloadError
from domain.models import JOB_TYPES, JobType, Request

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_SESSIONS = 10_000
SHOWN_ERRORS = 3
DOCTOR = "doctor"  # checks the set-up, and is no job: it has no run
JOBS = (*JOB_TYPES, DOCTOR)

# What is valid, as the messages say it. A message on symbols also names the one that is malformed.
VALID_JOBS = f"valid are {', '.join(JOBS)}"
VALID_SYMBOLS = "valid is a list of symbols, comma-separated symbols or '*'"
VALID_DATE = "valid is an ISO date such as 2013-03-01"
VALID_COUNT = f"valid is a whole number from 1 to {MAX_SESSIONS}"
VALID_FLAG = "valid is true or false"


def _parse_date(value: object) -> object:
    """Convert text such as 2013-03-01; strict validation then refuses whatever is not a date.

    Pydantic alone would also take seconds since 1970, and :meth:`datetime.date.fromisoformat` numbers of weeks.
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        with suppress(ValueError):
            return date.fromisoformat(value)
    return value


Symbols = Annotated[tuple[str, ...], BeforeValidator(parse_symbols)]
IsoDate = Annotated[date, BeforeValidator(_parse_date)]


class Payload(BaseModel):
    """The keys that an event may hold; each field's description is what the error messages say is valid."""

    model_config = ConfigDict(extra="forbid", strict=True)

    job_type: JobType = Field(description=VALID_JOBS)
    symbols: Symbols | None = Field(None, description=VALID_SYMBOLS)
    as_of: IsoDate | None = Field(None, description=VALID_DATE)
    sessions: int | None = Field(None, ge=1, le=MAX_SESSIONS, description=VALID_COUNT)
    start: IsoDate | None = Field(None, description=VALID_DATE)
    end: IsoDate | None = Field(None, description=VALID_DATE)
    dry_run: bool = Field(False, description=VALID_FLAG)
    force: bool = Field(False, description=VALID_FLAG)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_null(cls, value: object) -> object:
        """Refuse null: None stands for a key that the event leaves out."""
        if value is None:
            raise PydanticCustomError("null", "leave the key out")
        return value

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


class DoctorPayload(BaseModel):
    """The keys of an event that asks to check the set-up."""

    model_config = ConfigDict(extra="forbid", strict=True)

    job_type: Literal["doctor"] = Field(description=VALID_JOBS)
    send: bool = Field(False, description=VALID_FLAG)


def is_for_doctor(event: Any) -> bool:
    """Whether an event asks to check the set-up, instead of naming a job."""
    return isinstance(event, dict) and event.get("job_type") == DOCTOR


def parse_doctor_payload(event: Any) -> DoctorPayload:
    """Validate an event of :func:`is_for_doctor`. Raises as :func:`parse_payload`."""
    try:
        return DoctorPayload.model_validate(event)
    except ValidationError as error:
        raise _refusal(error, DoctorPayload) from None


def parse_payload(event: Any, configured: Settings, now: date) -> Request:
    """Validate an event and fill in what it leaves out.

    Parameters
    ----------
    event : Any
        The event as received.
    configured : Settings
        Source of the default symbols and number of sessions.
    now : datetime.date
        Today in New York: the default of ``as_of``, and the latest valid date.

    Raises
    ------
    PayloadError
        Naming the key, the value and what is valid, in one line.
    """
    try:
        received = json.dumps(event, sort_keys=True, default=str)
    except RecursionError:
        raise PayloadError("the event is nested too deeply: valid is an object of the keys of a job") from None
    if not isinstance(event, dict) or "job_type" not in event:
        shown = _shorten(json.dumps(event, default=str)) + _sender(event)
        raise PayloadError(f"the event {shown} has no job_type: valid are {', '.join(JOBS)}")
    try:
        payload = Payload.model_validate(event)
    except ValidationError as error:
        raise _refusal(error, Payload) from None
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
        payload=received,
    )


def _sender(event: Any) -> str:
    """Name the rule that sent EventBridge's own event, as a rule without Input does."""
    rules = event.get("resources") if isinstance(event, dict) else None
    return f" of {_shorten(', '.join(map(str, rules)), 200)}" if rules and isinstance(rules, list) else ""


def _refusal(error: ValidationError, model: type[BaseModel]) -> PayloadError:
    return PayloadError("; ".join(_explain_key(detail, model) for detail in error.errors()[:SHOWN_ERRORS]))


def _explain_key(error: ErrorDetails, model: type[BaseModel]) -> str:
    if not error["loc"]:  # a combination of keys
        return error["msg"].removeprefix("Value error, ")
    key = _shorten(error["loc"][0])
    field = model.model_fields.get(key)
    if field is None:
        return f"the key {key!r} is unknown: valid are {', '.join(model.model_fields)}"
    return _shorten(explain(error, key, _shorten(json.dumps(error["input"], default=str)), field.description), 400)


def _shorten(value: object, length: int = 80) -> str:
    text = redact(str(value))  # before it is cut, which may leave half a secret
    return text if len(text) <= length else f"{text[:length]}…"
