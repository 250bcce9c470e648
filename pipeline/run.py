"""A run: its request, the context to carry it out, what it has done so far, its lock, and its row in ``job_runs``.

What comes in: a checked request. What goes out: a record of the run that is true at every commit, also when the run
fails. Nothing here knows what a job does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine

import database
import utils
from config import Settings
from domain.clock import Deadline
from domain.errors import DataError, StockTrackerError
from domain.models import Counts, ProgressFunction, Request, no_progress
from storage.engine import redacted_url, transaction
from storage.locks import run_lock
from storage.schema import ensure_schema

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")  # where a sandbox runs


@dataclass(frozen=True)
class RunContext:
    """What a job works with, given to it so that tests can give it others."""

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
    api_calls: int = 0
    warnings: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.request.run_id

    def save(self, connection: Connection, **columns: Any) -> None:
        """Bring this run's row in ``job_runs`` up to date, in the caller's transaction."""
        database.update_run(connection, self.run_id, self.counts, api_calls=self.api_calls, **columns)


@contextmanager
def exclusive(run: Run, sessions: Sequence[date] = ()) -> Iterator[bool]:
    """Wait until no other run holds these sessions, or any at all, and hold them; a dry run waits for nobody.

    Yields
    ------
    bool
        Whether this run is alone.

    Raises
    ------
    DataError
        If time is up before, or the database holds bars of another kind.
    """
    if run.request.dry_run:
        yield True
        return
    with run_lock(run.context.engine, run.context.deadline.remaining, sessions) as alone:
        _ensure_same_provider(run.context)
        yield alone


def _ensure_same_provider(context: RunContext) -> None:
    """Recorded prices of the sandbox and live ones must not meet in one table."""
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
    """Open the run's row, and close it with the error of a run that fails."""
    request, context = run.request, run.context
    with transaction(context.engine) as connection:
        if not utils.schema_exists(connection):
            ensure_schema(connection)
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
        message = str(error) if isinstance(error, StockTrackerError) else f"{type(error).__name__}: {error}"
        with transaction(context.engine) as connection:
            run.save(connection, status="failed", finished_at=context.now(), error=message)
        raise
