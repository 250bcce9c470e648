"""Everything that writes: bars and their revisions, coverage, rejected bars, splits, runs and sent reports.

All functions work inside the caller's transaction, which holds the write lock. Only rows that differ are written, so
that a repeat writes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, time
from typing import Any, TypedDict

import pandas as pd
from sqlalchemy import ColumnElement, Connection, DateTime, Update, bindparam, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from domain.coverage import Readings
from domain.models import (
    BAR_COLUMNS,
    CLOSE_METRICS,
    METRIC_COLUMNS,
    Cause,
    Counts,
    RejectedBar,
    ReportStatus,
    Split,
    Undelivered,
)
from storage.bulk import insert_frame, temp_answer, temp_table
from storage.commits import count_commit
from storage.locks import HeldSessions, last_in_queue, lease_end
from storage.questions import EACH_ASKED, asked_parameters, rows_parameter, rows_query
from storage.schema import (
    BAR_REVISIONS,
    COVERAGE,
    JOB_RUNS,
    LOADS,
    REJECTED_BARS,
    SENT_REPORTS,
    SPLITS,
    STOCK_DATA,
    SUSPECTS,
)
from transformations import Metrics

BAR_VALUES = BAR_COLUMNS[2:]
VALUES = [*BAR_VALUES, *METRIC_COLUMNS]
COLUMNS = ["date", "symbol", *VALUES]
COVERAGE_TYPES = {column.name: "text" if column.name == "symbol" else "date" for column in COVERAGE.columns}
KEY = {name: STOCK_DATA.c[name] for name in ("symbol", "date")}


class FirstRead(TypedDict):
    """Sessions that were read for the first time; ``"*"`` among the symbols is the whole market."""

    symbols: list[str]
    first: str
    last: str


def load_bars(
    connection: Connection, metrics: Metrics, *, run_id: str, at: datetime, cause: Cause = "corrected"
) -> Counts:
    """Bring ``stock_data`` to the given rows, writing only what differs and keeping what it replaces.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    metrics : Metrics
        New bars with metrics, at most one per symbol and session (NaN is NULL), and the stored rows that depend on
        them. Bars that are not stored are copied straight into the table, the others are merged.
    run_id : str
    at : datetime.datetime
        The moment that revisions carry.
    cause : str
        Why stored bars change.

    Returns
    -------
    Counts
        ``unchanged`` counts the new bars that were stored already; ``updated`` includes dependent rows that changed.
    """
    rows, dependents, is_stored = metrics
    counts = Counts()
    if is_stored.any():
        counts.add(merge_bars(connection, rows[is_stored], run_id=run_id, at=at, cause=cause))
        rows = rows[~is_stored]
    if len(rows):
        insert_bars(connection, rows)
        counts.inserted += len(rows)
    if len(dependents):
        columns = {name: STOCK_DATA.c[name] for name in ["date", "symbol", *CLOSE_METRICS]}
        with temp_table(connection, "dependents", columns, dependents):
            statement = _update_metrics_statement(connection.dialect.name)
            counts.updated += connection.execute(text(statement)).rowcount
    if counts.inserted or counts.updated:
        count_commit(connection)
    return counts


def insert_bars(connection: Connection, rows: pd.DataFrame) -> None:
    """Copy rows of which none is stored straight into ``stock_data``."""
    insert_frame(connection, "stock_data", {name: STOCK_DATA.c[name] for name in COLUMNS}, rows)


def merge_bars(
    connection: Connection, rows: pd.DataFrame, *, run_id: str, at: datetime, cause: Cause = "corrected"
) -> Counts:
    """Insert rows that are not stored, update those that differ, and keep the bars that are replaced.

    Parameters and result are those of :func:`load_bars`.
    """
    with (
        temp_table(connection, "incoming", {name: STOCK_DATA.c[name] for name in COLUMNS}, rows),
        temp_answer(connection, "changed", changed_query(connection.dialect.name)),
    ):
        query = text(
            "SELECT count(*), count(*) FILTER (WHERE was_stored), count(*) FILTER (WHERE bar_differs) FROM changed"
        )
        written, updated, corrected = connection.execute(query).one()
        if corrected:
            names = ", ".join(BAR_VALUES)
            old = ", ".join(f"old_{name}" for name in BAR_VALUES)
            connection.execute(
                _with_moment(
                    f"INSERT INTO bar_revisions (symbol, date, {names}, cause, run_id, replaced_at) "
                    f"SELECT symbol, date, {old}, :cause, :run_id, :at FROM changed WHERE bar_differs"
                ),
                {"cause": cause, "run_id": run_id, "at": at},
            )
        if written:
            connection.exec_driver_sql(UPSERT)
    return Counts(inserted=written - updated, updated=updated, unchanged=len(rows) - written, corrected=corrected)


UPSERT = (
    f"INSERT INTO stock_data ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} FROM changed WHERE true "
    f"ON CONFLICT (symbol, date) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in VALUES)}"
)  # WHERE true: SQLite could otherwise not tell ON CONFLICT from the ON of a join


def changed_query(dialect: str) -> str:
    """Build the query of the incoming rows that are new or differ, with the bars that they replace.

    Rows that are stored as they are do not reach ``ON CONFLICT``, which would lock each of them, and so write it.
    PostgreSQL looks each row up by the index (``OFFSET 0`` keeps the planner from a join over the whole table).
    """
    columns = ", ".join(f"incoming.{name}" for name in COLUMNS)
    old = ", ".join(f"stored.{name} AS old_{name}" for name in BAR_VALUES)
    match = "symbol = incoming.symbol AND date = incoming.date"
    if dialect == "postgresql":
        names = ", ".join(["symbol", *VALUES])
        source = f"incoming LEFT JOIN LATERAL (SELECT {names} FROM stock_data WHERE {match} OFFSET 0) AS stored ON true"
    else:
        source = "incoming LEFT JOIN stock_data AS stored ON stored.symbol = incoming.symbol"
        source += " AND stored.date = incoming.date"
    differs = _differs(dialect, "stored", "incoming", VALUES)
    bar_differs = _differs(dialect, "stored", "incoming", BAR_VALUES)
    return (
        f"SELECT {columns}, {old}, stored.symbol IS NOT NULL AS was_stored, "
        f"stored.symbol IS NOT NULL AND {bar_differs} AS bar_differs "
        f"FROM {source} WHERE stored.symbol IS NULL OR {differs}"
    )


def _update_metrics_statement(dialect: str) -> str:
    values = ", ".join(f"{name} = dependents.{name}" for name in CLOSE_METRICS)
    return (
        f"UPDATE stock_data SET {values} FROM dependents WHERE stock_data.symbol = dependents.symbol "
        f"AND stock_data.date = dependents.date AND {_differs(dialect, 'stock_data', 'dependents', CLOSE_METRICS)}"
    )


def _differs(dialect: str, left: str, right: str, names: Sequence[str]) -> str:
    operator = "IS DISTINCT FROM" if dialect == "postgresql" else "IS NOT"
    one, other = (", ".join(f"{table}.{name}" for name in names) for table in (left, right))
    return f"({one}) {operator} ({other})"


def _with_moment(statement: str) -> Any:
    return text(statement).bindparams(bindparam("at", type_=DateTime(timezone=True)))


def remove_bars(connection: Connection, bars: pd.DataFrame, *, run_id: str, at: datetime, cause: Cause) -> int:
    """Move stored bars (``symbol, date``) from ``stock_data`` to ``bar_revisions``; return how many there were."""
    if not len(bars):
        return 0
    names = ", ".join(BAR_VALUES)
    stored = ", ".join(f"stock_data.{name}" for name in BAR_VALUES)
    with temp_table(connection, "removed", KEY, bars):
        connection.execute(
            _with_moment(
                f"INSERT INTO bar_revisions (symbol, date, {names}, cause, run_id, replaced_at) "
                f"SELECT stock_data.symbol, stock_data.date, {stored}, :cause, :run_id, :at "
                "FROM removed JOIN stock_data ON stock_data.symbol = removed.symbol AND stock_data.date = removed.date"
            ),
            {"cause": cause, "run_id": run_id, "at": at},
        )
        deleted = connection.exec_driver_sql(
            "DELETE FROM stock_data WHERE (symbol, date) IN (SELECT symbol, date FROM removed)"
        ).rowcount
    if deleted:
        count_commit(connection)
    return int(deleted)


def mark_rescaled(connection: Connection, symbol: str, first: date, *, at: datetime) -> None:
    """Give revisions of this moment before the first session of a restated history their own cause."""
    revisions = BAR_REVISIONS.c
    early = (revisions.symbol == symbol, revisions.replaced_at == at, revisions.date < datetime.combine(first, time()))
    connection.execute(update(BAR_REVISIONS).where(*early, revisions.cause == "restated").values(cause="rescaled"))


def record_appeared(connection: Connection, bars: pd.DataFrame, *, run_id: str, at: datetime, cause: Cause) -> None:
    """Record that there was no bar (``symbol, date``) until now, although the session had been read or adopted."""
    if not len(bars):
        return
    with temp_table(connection, "appeared", KEY, bars):
        connection.execute(
            _with_moment(
                "INSERT INTO bar_revisions (symbol, date, cause, run_id, replaced_at) "
                "SELECT symbol, date, :cause, :run_id, :at FROM appeared"
            ),
            {"cause": cause, "run_id": run_id, "at": at},
        )


def record_first_load(connection: Connection, pairs: Sequence[FirstRead], *, run_id: str, at: datetime) -> None:
    """Record what was read for the first time in this transaction."""
    if pairs:
        connection.execute(insert(LOADS).values(run_id=run_id, loaded_at=at, pairs=json.dumps(pairs)))


def forget(connection: Connection, symbol: str) -> None:
    """Remove a symbol from every table but the runs and reports, the ledger of what was first loaded included."""
    count_commit(connection)
    for table in (STOCK_DATA, COVERAGE, BAR_REVISIONS, REJECTED_BARS, SPLITS, SUSPECTS):
        connection.execute(delete(table).where(table.c.symbol == symbol))
    for load, pairs in connection.execute(select(LOADS.c.id, LOADS.c.pairs)).all():
        left = [{**pair, "symbols": [name for name in pair["symbols"] if name != symbol]} for pair in json.loads(pairs)]
        kept = json.dumps([pair for pair in left if pair["symbols"]])
        if kept != pairs:
            connection.execute(update(LOADS).where(LOADS.c.id == load).values(pairs=kept))


def replace_coverage(connection: Connection, coverage: Mapping[str, Readings]) -> None:
    """Replace the readings of the given symbols; symbols not named keep theirs."""
    if not coverage:
        return
    query = f"DELETE FROM coverage WHERE symbol IN ({EACH_ASKED[connection.dialect.name]})"
    connection.execute(text(query), asked_parameters(connection, list(coverage)))
    rows = [(symbol, *map(str, reading)) for symbol, readings in coverage.items() for reading in readings]
    query = f"INSERT INTO coverage ({', '.join(COVERAGE_TYPES)}) {rows_query(connection.dialect.name, COVERAGE_TYPES)}"
    connection.execute(text(query), rows_parameter(rows))


def record_rejected(connection: Connection, run_id: str, bars: Iterable[RejectedBar]) -> int:
    """Keep rejected bars and records with their reasons, each once; return how many were given."""
    rows = [{"run_id": run_id, "digest": _digest(bar), **asdict(bar)} for bar in bars]
    if rows:
        connection.execute(_dialect(connection).insert(REJECTED_BARS).on_conflict_do_nothing(), rows)
    return len(rows)


def _digest(bar: RejectedBar) -> str:
    return hashlib.sha256("\n".join((bar.symbol, bar.reason, bar.bar)).encode()).hexdigest()


def record_suspects(connection: Connection, reasons: Mapping[str, str], *, run_id: str, at: datetime) -> None:
    """Record the symbols whose whole history is to be read again, with the reason."""
    rows = [{"symbol": symbol, "reason": reasons[symbol], "run_id": run_id, "found_at": at} for symbol in reasons]
    if rows:
        connection.execute(_dialect(connection).insert(SUSPECTS).on_conflict_do_nothing(), rows)


def clear_suspect(connection: Connection, symbol: str) -> None:
    """Record that the history of a symbol was read again."""
    connection.execute(delete(SUSPECTS).where(SUSPECTS.c.symbol == symbol))


def record_splits(
    connection: Connection, splits: Iterable[Split], *, pending: Container[str], now: datetime
) -> list[Split]:
    """Record splits, and return those that were not known before.

    Those of symbols in `pending` wait until the history of their symbol has been read again.
    """
    known = {tuple(row) for row in connection.execute(select(SPLITS.c.symbol, SPLITS.c.execution_date))}
    new = [split for split in splits if (split.symbol, split.execution_date) not in known]
    rows = [{**asdict(split), "restated_at": None if split.symbol in pending else now} for split in new]
    if rows:
        connection.execute(_dialect(connection).insert(SPLITS).on_conflict_do_nothing(), rows)
    return new


def mark_restated(connection: Connection, symbol: str, now: datetime) -> None:
    """Record that a symbol's stored history has the adjustment basis of all its known splits."""
    waiting = update(SPLITS).where(SPLITS.c.symbol == symbol, SPLITS.c.restated_at.is_(None))
    connection.execute(waiting.values(restated_at=now))


def _dialect(connection: Connection) -> Any:
    return postgresql if connection.dialect.name == "postgresql" else sqlite


def start_run(connection: Connection, *, held: HeldSessions | None, **columns: Any) -> None:
    """Insert the run's row into ``job_runs``: ``run_id, job_type, payload, as_of, provider, started_at``.

    It queues up behind all runs that hold sessions in common; `held` None is all sessions.
    """
    connection.execute(insert(JOB_RUNS).values(status="running", **columns, **last_in_queue(connection, held)))


def requeue_run(connection: Connection, run_id: str, *, held: HeldSessions | None) -> None:
    """Let a run hold other sessions, behind all runs that are there."""
    connection.execute(_run(run_id).values(**last_in_queue(connection, held)))


def update_run(connection: Connection, run_id: str, counts: Counts, **columns: Any) -> bool:
    """Update a running run's row: its counts, any other columns, and the end of its lease.

    Returns
    -------
    bool
        False if another run has closed it, and taken over: this transaction must not be committed.
    """
    running = _run(run_id).where(JOB_RUNS.c.status == "running")
    values = {**vars(counts), **columns, "leased_until": lease_end(connection)}
    return connection.execute(running.values(**values)).rowcount == 1


def end_run(connection: Connection, run_id: str, counts: Counts, **columns: Any) -> None:
    """Record how a run ended: its ``status`` and other columns. This ends its lease as well."""
    connection.execute(_run(run_id).values(**vars(counts), **columns))


def _run(run_id: str) -> Update:
    return update(JOB_RUNS).where(JOB_RUNS.c.run_id == run_id)


def claim_report(
    connection: Connection, week: date, symbols: str, *, undelivered: Mapping[str, Undelivered], **columns: Any
) -> None:
    """Claim a week's report before it is handed over.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    week : datetime.date
        The week's Monday.
    symbols : str
        Empty for those of the settings; else names the chosen ones.
    undelivered : mapping
        Who is about to get it, and who has not got it before.
    **columns
        ``run_id, message_id, subject, recipients, claimed_at``.
    """
    attempts = connection.execute(select(SENT_REPORTS.c.attempts).where(*_report(week, symbols))).scalar()
    values = {
        **columns,
        "undelivered": _as_json(undelivered),
        "status": "claimed",
        "attempts": (attempts or 0) + 1,
        "sent_at": None,
    }
    if attempts is None:
        connection.execute(insert(SENT_REPORTS).values(week=week, symbols=symbols, **values))
    else:
        connection.execute(update(SENT_REPORTS).where(*_report(week, symbols)).values(**values))


def confirm_report(
    connection: Connection,
    week: date,
    symbols: str,
    *,
    status: ReportStatus,
    sent_at: datetime | None,
    undelivered: Mapping[str, Undelivered],
) -> None:
    """Record what became of a claimed report, and who of its recipients has not got it."""
    values = {"status": status, "sent_at": sent_at, "undelivered": _as_json(undelivered)}
    connection.execute(update(SENT_REPORTS).where(*_report(week, symbols)).values(**values))


def _report(week: date, symbols: str) -> tuple[ColumnElement[bool], ...]:
    return SENT_REPORTS.c.week == week, SENT_REPORTS.c.symbols == symbols


def _as_json(undelivered: Mapping[str, Undelivered]) -> str | None:
    return json.dumps(undelivered) if undelivered else None
