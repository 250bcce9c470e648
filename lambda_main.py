"""The AWS Lambda entry point: one event, one job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from config import Settings, on_lambda, redact, secrets_rotated, settings
from domain.calendar import today
from domain.clock import Deadline, SystemClock
from domain.errors import ConfigError, CredentialsError
from domain.models import JobResult, no_progress
from entrypoints.payload import is_for_doctor, parse_doctor_payload, parse_payload
from entrypoints.places import reject_local_database, reject_outbox
from pipeline.context import RunContext, without_secrets
from storage.engine import open_engine

if TYPE_CHECKING:
    from entrypoints.doctor import Diagnosis
    from entrypoints.telemetry import Telemetry


def handler(event: Any, context: Any = None) -> JobResult | Any:
    """Validate the event and run the job that its ``job_type`` names, or check the set-up.

    An event that is wrong in any way fetches and writes nothing.

    Parameters
    ----------
    event : dict
        ``{"job_type": "daily_update"}``, with any of the optional keys of :class:`entrypoints.payload.Payload`; or
        ``{"job_type": "doctor"}``, with those of :class:`entrypoints.payload.DoctorPayload`.
    context : object, optional
        Lambda's context: the run ends within ``get_remaining_time_in_millis``, and writes its log and metrics. The
        command line passes an object with the functions ``progress`` and ``waiting`` instead; such a run has no time
        limit.

    Returns
    -------
    JobResult, or entrypoints.doctor.Diagnosis for the doctor
        JSON-serializable.

    Raises
    ------
    StockTrackerError
        With a one-line message that says what was wrong, the value, and what is valid. Lambda counts the error,
        retries the event and dead-letters it.
    """
    telemetry = _telemetry(context)
    try:
        with without_secrets(redact):  # of the settings, and of the event, into which people paste anything
            if is_for_doctor(event):
                return _diagnose(event, context, telemetry)
            result = _run(event, context, telemetry)
    except Exception as error:
        if telemetry:
            telemetry.failed(error, event)
        raise
    if telemetry:
        telemetry.succeeded(result)
    return result


def _telemetry(context: Any) -> Telemetry | None:
    """Open the log and the metrics on Lambda; the command line shows the result itself."""
    if not hasattr(context, "aws_request_id"):
        return None
    from entrypoints.telemetry import SERVICE, Telemetry

    return Telemetry(context.aws_request_id, getattr(context, "function_name", SERVICE))


def _diagnose(event: Any, context: Any, telemetry: Telemetry | None) -> Diagnosis:
    """Check the set-up. What is broken is part of the result: an error would be retried and dead-lettered."""
    from entrypoints.doctor import diagnose

    payload = parse_doctor_payload(event)
    diagnosis = diagnose(_deadline(context), send=payload.send, on_lambda=telemetry is not None)
    if telemetry:
        telemetry.diagnosed(diagnosis)
    return diagnosis


def _run(event: Any, context: Any, telemetry: Telemetry | None) -> JobResult:
    """Run the job; if a credential was refused and its secret has been rotated since, run it once more."""
    used = settings()
    try:
        return _attempt(event, context, telemetry)
    except CredentialsError as error:
        if not _secrets_rotated(used, error):
            raise
        if telemetry:
            telemetry.retrying(error)
    return _attempt(event, context, telemetry)


def _attempt(event: Any, context: Any, telemetry: Telemetry | None) -> JobResult:
    from pipeline import jobs

    run = run_context(context)
    request = parse_payload(event, run.settings, today(run.now()))
    if telemetry:
        telemetry.started(request, run)
        reject_local_database(run.settings)
        if request.job_type == "weekly_report":
            reject_outbox(run.settings)
    return jobs.run_job(request, run)


def _secrets_rotated(used: Settings, refused: CredentialsError) -> bool:
    try:
        return secrets_rotated(used)
    except ConfigError as error:
        raise CredentialsError(f"{refused}; and the settings cannot be read again: {error}") from None


def run_context(context: Any) -> RunContext:
    """Assemble what a job works with: settings, database, deadline and progress.

    Parameters
    ----------
    context : object or None
        As :func:`handler` takes it.

    Raises
    ------
    ConfigError
        If a setting is malformed.
    """
    configured = settings()
    deadline = _deadline(context)
    if waiting := getattr(context, "waiting", None):
        deadline.on_wait.append(waiting)
    return RunContext(
        settings=configured,
        engine=open_engine(configured.database_url.get_secret_value()),
        deadline=deadline,
        progress=getattr(context, "progress", None) or no_progress,
    )


def _deadline(context: Any) -> Deadline:
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return Deadline(remaining() / 1000 if remaining else None, SystemClock())


if on_lambda():
    from entrypoints.preparation import prepare

    prepare()
