"""The run lock: which runs follow one another, across processes and machines, and which may work side by side."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from domain.errors import DataError
from storage.engine import connecting, one_line_message, redacted_url

RUN_LOCK = 0x53544F434B02
SESSION_LOCKS = 0x53544F43  # the first of two keys; the second is the session
MOST_SESSIONS_HELD = 260  # about a year; the server keeps each of them in memory
LOCK_HELD = ("canceling statement due to statement timeout", "database is locked")

# One statement, so that one timeout bounds it. Sessions are taken in order, so that no two runs can deadlock.
_TAKE_SESSIONS = """
WITH beside_others AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(:run))
SELECT pg_advisory_xact_lock(:sessions, day) FROM beside_others, unnest(CAST(:days AS integer[])) AS day
"""

logger = logging.getLogger(f"stock_tracker.{__name__}")


@contextmanager
def run_lock(engine: Engine, seconds: float, sessions: Sequence[date] = ()) -> Iterator[bool]:
    """Hold the run lock, so that a second run waits and then finds the first one's work done.

    A run is either exclusive, or works beside runs of other sessions; a run that waits to be exclusive is not overtaken
    by later ones. The lock is an open transaction on a connection of its own (for SQLite, on a file beside the
    database): it ends with its process, and works through connection poolers.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    seconds : float
        How long to wait for other runs to end.
    sessions : sequence of datetime.date
        Hold only these, where the database can and they are not too many; empty to be exclusive.

    Yields
    ------
    bool
        Whether the run is exclusive.

    Raises
    ------
    DataError
        If another run still holds the lock after that time.
    """
    wait = min(max(seconds, 0.001), 86_400)
    on_server = engine.dialect.name == "postgresql"
    held = sorted(sessions) if on_server and len(sessions) <= MOST_SESSIONS_HELD else []
    holder = engine if on_server else _lock_file_engine(engine, wait)
    stack, started = ExitStack(), time.monotonic()
    try:
        with connecting(engine):
            connection = stack.enter_context(holder.connect())
            _take_run_lock(connection, engine, wait, held)
        logger.debug("waited %.0f ms for the run lock", (time.monotonic() - started) * 1000)
        yield not held
    finally:
        with connecting(engine):
            stack.close()
        if holder is not engine:
            holder.dispose()


def _take_run_lock(connection: Connection, engine: Engine, wait: float, sessions: Sequence[date]) -> None:
    try:
        if engine.dialect.name != "postgresql":
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
            return
        settings = {
            "idle_in_transaction_session_timeout": "0",  # the transaction is idle while the run works
            "statement_timeout": str(round(wait * 1000)),
        }
        for name, value in settings.items():
            connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})
        if sessions:
            days = [session.toordinal() for session in sessions]
            connection.execute(text(_TAKE_SESSIONS), {"run": RUN_LOCK, "sessions": SESSION_LOCKS, "days": days})
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:run)"), {"run": RUN_LOCK})
    except DBAPIError as error:
        if one_line_message(error.orig).startswith(LOCK_HELD):
            raise DataError(f"{redacted_url(engine)}: another run is still going on; try again later") from None
        raise


def _lock_file_engine(engine: Engine, wait: float) -> Engine:
    holder = create_engine(f"sqlite:///{engine.url.database}.lock", connect_args={"timeout": wait})
    event.listen(holder, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    return holder
