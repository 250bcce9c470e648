"""The run lock: who may load when, across processes and machines.

What comes in: an engine, and the sessions that a run is about. What goes out: the run's turn, alone or beside runs of
other sessions. Nothing here reads or writes a table, and nobody waits longer than he says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from domain.errors import DataError
from storage.engine import connecting, one_line_message, redacted_url

RUN_LOCK = 0x53544F434B02
SESSION_LOCKS = 0x53544F43  # the first of two keys; the second is the session
MOST_SESSIONS_HELD = 260  # about a year; the server keeps each of them in memory
LOCK_HELD = ("canceling statement due to statement timeout", "database is locked")


@contextmanager
def run_lock(engine: Engine, seconds: float, sessions: Sequence[date] = ()) -> Iterator[bool]:
    """Hold the lock that a run holds from its plan to its end, so that a second run finds the first one's work.

    A run is alone, or among others that hold other sessions; who asks to be alone is not overtaken by who comes later.
    The lock is a transaction on a connection of its own (for SQLite, on a file beside the database): a process that
    dies lets go of it, and it works through connection poolers.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    seconds : float
        How long to wait for other runs to end.
    sessions : sequence of datetime.date
        Hold these only, if the database can and they are not too many; without any, be alone.

    Yields
    ------
    bool
        Whether the run is alone.

    Raises
    ------
    DataError
        If another run still holds it then.
    """
    wait = min(max(seconds, 0.001), 86_400)
    on_server = engine.dialect.name == "postgresql"
    held = sorted(sessions) if on_server and len(sessions) <= MOST_SESSIONS_HELD else []
    holder = engine if on_server else _lock_file_engine(engine, wait)
    stack = ExitStack()
    try:
        with connecting(engine):
            connection = stack.enter_context(holder.connect())
            _take_run_lock(connection, engine, wait, held)
        yield not held
    finally:
        with connecting(engine):
            stack.close()
        if holder is not engine:
            holder.dispose()


def _take_run_lock(connection: Connection, engine: Engine, wait: float, sessions: Sequence[date]) -> None:
    try:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")  # it is idle all along
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(wait * 1000)}")
            connection.exec_driver_sql(_run_lock_statement(sessions))
        else:
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
    except DBAPIError as error:
        if one_line_message(error.orig).startswith(LOCK_HELD):
            raise DataError(f"{redacted_url(engine)}: another run is still going on; try again later") from None
        raise


def _run_lock_statement(sessions: Sequence[date]) -> str:
    """One statement, so that one timeout bounds it; sessions are taken in order, so that no two runs can deadlock."""
    if not sessions:
        return f"SELECT pg_advisory_xact_lock({RUN_LOCK})"
    days = ", ".join(str(session.toordinal()) for session in sessions)
    return (
        f"DO $$ BEGIN PERFORM pg_advisory_xact_lock_shared({RUN_LOCK}); "
        f"PERFORM pg_advisory_xact_lock({SESSION_LOCKS}, day) FROM unnest(ARRAY[{days}]) AS day; END $$"
    )


def _lock_file_engine(engine: Engine, wait: float) -> Engine:
    holder = create_engine(f"sqlite:///{engine.url.database}.lock", connect_args={"timeout": wait})
    event.listen(holder, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    return holder
