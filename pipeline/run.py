"""A run of a job: its request, its context, its counts and warnings, its lock, and its row in ``job_runs``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine

import database
import utils
from config import Settings
from domain.clock import Deadline
from domain.errors import DataError, StockTrackerError
from domain.models import Counts, ProgressFunction, RejectedBar, Request, no_progress
from domain.text import Redactor, clean_text
from storage.adoption import adoption_in_time
from storage.engine import redacted_url, transaction
from storage.locks import run_lock
from storage.migration import ensure_schema

if TYPE_CHECKING:
    from api_client import PolygonClient

logger = logging.getLogger(f"stock_tracker.{__name__}")

LONGEST_ERROR = 2_000  # characters in job_runs
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")  # where a sandbox runs


@dataclass(frozen=True)
class RunContext:
    """What a job works with; an argument, so that tests can pass their own."""

    settings: Settings
    engine: Engine
    deadline: Deadline
    progress: ProgressFunction = no_progress
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass
class Run:
    """One run of a job, from its start to its result."""

    request: Request
    context: RunContext
    counts: Counts = field(default_factory=Counts)
    warnings: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    _client: PolygonClient | None = None

    @property
    def run_id(self) -> str:
        """The run's name in ``job_runs`` and in the log."""
        return self.request.run_id

    @property
    def api_calls(self) -> int:
        """How many answers of the provider this run has received."""
        return self._client.calls if self._client else 0

    def client(self, deadline: Deadline) -> PolygonClient:
        """Return the run's client of the provider, made at first use; no call of it waits past the deadline."""
        if self._client is None:
            from api_client import PolygonClient

            settings = self.context.settings
            self._client = PolygonClient(
                base_url=settings.polygon_base_url,
                api_key=settings.polygon_api_key.get_secret_value(),
                calls_per_minute=settings.polygon_calls_per_minute,
                deadline=deadline,
            )
        return self._client

    @property
    def redact(self) -> Redactor:
        """Masks the secrets of the run's settings in a text."""
        return self.context.settings.redact

    def record_rejected(self, connection: Connection, bars: Sequence[RejectedBar]) -> int:
        """Keep rejected bars as received, but for secrets; return how many there were."""
        mask = self.redact
        masked = [replace(bar, symbol=mask(bar.symbol), reason=mask(bar.reason), bar=mask(bar.bar)) for bar in bars]
        return database.record_rejected(connection, self.run_id, masked)

    def save(self, connection: Connection, added: Counts | None = None, **columns: Any) -> None:
        """Update this run's row in ``job_runs``, in the caller's transaction.

        What the transaction adds to the run's counts is part of them once it is committed.
        """
        counts = Counts(**vars(self.counts))
        counts.add(added or Counts())
        database.update_run(connection, self.run_id, counts, api_calls=self.api_calls, **columns)


@contextmanager
def without_secrets(run: Run) -> Iterator[None]:
    """Mask secrets in the message of an error that leaves the block."""
    try:
        yield
    except Exception as error:
        message = run.redact(str(error))
        if message == str(error):
            raise
        kind = type(error) if isinstance(error, StockTrackerError) else RuntimeError
        raise kind(message) from None


@contextmanager
def exclusive(run: Run, deadline: Deadline, sessions: Sequence[date] = ()) -> Iterator[bool]:
    """Hold the run lock, for some sessions or exclusively; a dry run needs none.

    Yields
    ------
    bool
        Whether no other run works at the same time.

    Raises
    ------
    DataError
        If the lock is not free before the deadline, or the database holds prices of another provider.
    """
    if run.request.dry_run:
        yield True
        return
    with run_lock(run.context.engine, deadline.remaining, sessions) as alone:
        _ensure_same_provider(run.context)
        yield alone


def _ensure_same_provider(context: RunContext) -> None:
    """Keep recorded prices of the sandbox and live prices out of one table."""
    host = _host(context.settings)
    with transaction(context.engine, write=False) as connection:
        providers = utils.read_providers(connection)
    for other in providers:
        if (other in THIS_MACHINE) != (host in THIS_MACHINE):
            raise DataError(
                f"{redacted_url(context.engine)} holds prices from {other}, not from {host}:"
                " set DATABASE_URL to another database, or remove that one"
            )


def _host(settings: Settings) -> str:
    return urlsplit(settings.polygon_base_url).hostname or ""


@contextmanager
def journaled(run: Run) -> Iterator[None]:
    """Insert the run's row, and record how a run ends that fails or is interrupted."""
    request, context = run.request, run.context
    with transaction(context.engine) as connection:
        if not utils.schema_exists(connection):
            with adoption_in_time(connection, context.deadline.remaining):
                run.warnings += ensure_schema(connection)
        database.start_run(
            connection,
            provider=_host(context.settings),
            run_id=run.run_id,
            job_type=request.job_type,
            payload=request.payload,
            as_of=request.as_of,
            started_at=context.now(),
        )
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        _record_end(run, error)
        raise


def _record_end(run: Run, error: BaseException) -> None:
    """Record how a run failed; a database that refuses this as well does not replace the run's own error."""
    if isinstance(error, KeyboardInterrupt):
        status, message = "interrupted", f"interrupted by {error}" if error.args else "interrupted"
    elif isinstance(error, StockTrackerError):
        status, message = "failed", str(error)
    else:
        status, message = "failed", f"unexpected error: {error}"
    message = clean_text(message, LONGEST_ERROR, run.redact)
    try:
        with transaction(run.context.engine) as connection:
            run.save(connection, status=status, finished_at=run.context.now(), error=message)
    except StockTrackerError as unrecorded:
        logger.info("%s; and this end of the run cannot be recorded: %s", message, unrecorded)
