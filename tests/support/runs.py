"""Other runs, as rows of ``job_runs``: at work, waiting, or dead without a record of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

from sqlalchemy import Engine, text

import database
import utils
from domain.models import Counts
from storage.engine import transaction
from storage.locks import HeldSessions
from storage.migration import ensure_schema


def start(engine: Engine, held: HeldSessions | None = None) -> str:
    """Queue up a run, and return its name."""
    run_id = str(uuid.uuid4())
    values = {"job_type": "initialize", "payload": "{}", "as_of": date(2013, 3, 2), "provider": "127.0.0.1"}
    with transaction(engine) as connection:
        if not utils.schema_exists(connection):
            ensure_schema(connection)
        database.start_run(connection, held=held, run_id=run_id, started_at=datetime.now(UTC), **values)
    return run_id


def end(engine: Engine, run_id: str) -> None:
    """End a run."""
    with transaction(engine) as connection:
        database.end_run(connection, run_id, Counts(), status="ok")


@contextmanager
def at_work(engine: Engine, held: HeldSessions | None = None) -> Iterator[str]:
    """Let another run be at work for the time of a block."""
    run_id = start(engine, held)
    yield run_id
    end(engine, run_id)


def let_leases_end(engine: Engine) -> None:
    """Let a minute pass for the runs that are at work."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE job_runs SET leased_until = '2000-01-01 00:00:00' WHERE status = 'running'"))
