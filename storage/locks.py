"""The run lock: runs queue up, and each works once no earlier one that is alive has a session in common.

A run's row in ``job_runs`` is its place in the queue and its lease: the sessions that it holds, for a minute by the
database's clock, renewed while it works. So the lock needs no open connection, and ends by itself with its process.
A run keeps its lease until another one finds it overdue and closes it; then nothing of it can be committed any more.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, DateTime, func, literal, or_, select, text, update

from storage.schema import JOB_RUNS

LEASE_SECONDS = 60.0
RENEW_SECONDS = 20.0  # after which it is renewed, so that quick steps cost no transaction each

HeldSessions = tuple[date, date]
"""The first and the last session that a run holds."""


def last_in_queue(connection: Connection, held: HeldSessions | None) -> dict[str, Any]:
    """Return the values of a run that takes the last place, in a transaction that holds the write lock.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    held : HeldSessions or None
        The sessions that the run holds, so that others can work beside it; None for all.
    """
    place = select(func.coalesce(func.max(JOB_RUNS.c.place), 0) + 1).scalar_subquery()
    held_from, held_to = held or (None, None)
    return {"place": place, "held_from": held_from, "held_to": held_to, "leased_until": lease_end(connection)}


def lease_end(connection: Connection) -> ColumnElement[datetime]:
    """Return the end of a lease that begins now."""
    return _from_now(connection, LEASE_SECONDS)


def _from_now(connection: Connection, seconds: float) -> ColumnElement[datetime]:
    """The moment so many seconds from now, by the database's clock; SQLite's is this machine's."""
    later = timedelta(seconds=seconds)
    if connection.dialect.name == "postgresql":
        return func.clock_timestamp(type_=DateTime(timezone=True)) + later
    return literal(datetime.now(UTC) + later, DateTime(timezone=True))


def close_abandoned(connection: Connection, finished_at: datetime) -> None:
    """Close the runs whose lease has expired: their processes died or stalled."""
    runs = JOB_RUNS.c
    expired = runs.leased_until <= _from_now(connection, 0)
    overdue = or_(runs.leased_until.is_(None), expired)  # NULL: of an earlier version
    closed = {"status": "abandoned", "finished_at": finished_at, "error": "it ended without recording how"}
    connection.execute(update(JOB_RUNS).where(runs.status == "running", overdue).values(**closed))


def is_turn(connection: Connection, run_id: str) -> bool | None:
    """Return whether no earlier run with a session in common is at work; None if the run itself was closed."""
    turn = connection.execute(_IS_TURN, {"run_id": run_id}).scalar()
    return None if turn is None else bool(turn)


_IS_TURN = text("""
SELECT NOT EXISTS (
    SELECT 1 FROM job_runs AS other WHERE other.status = 'running' AND other.place < own.place
    AND (
        other.held_from IS NULL OR own.held_from IS NULL
        OR (other.held_from <= own.held_to AND other.held_to >= own.held_from)
    )
)
FROM job_runs AS own WHERE own.run_id = :run_id AND own.status = 'running'
""")
