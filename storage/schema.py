"""The six tables, and their creation beside an existing ``stock_data``.

``stock_data`` is the product and fixed to the letter; the others record how it came to be. An existing ``stock_data``
of that shape is adopted with its rows, of which only a date that carries a time of day is changed: to its session.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    Connection,
    Date,
    DateTime,
    Float,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

from domain.errors import DataError

METADATA = MetaData()


class _SqliteTimestamp(sqlite.DATETIME):
    """``TIMESTAMP`` on SQLite, spelled ``2013-03-01 00:00:00``: one spelling, since the key compares text."""

    __visit_name__ = "TIMESTAMP"


SESSION: TypeEngine[Any] = TIMESTAMP().with_variant(_SqliteTimestamp(truncate_microseconds=True), "sqlite")  # type: ignore[no-untyped-call]

# UNIQUE (symbol, date) is also the index on (symbol, date) that every query uses; a second one would only cost writes.
STOCK_DATA = Table(
    "stock_data",
    METADATA,
    Column("date", SESSION, nullable=False),
    Column("symbol", String(10), nullable=False),
    Column("open", Numeric),
    Column("high", Numeric),
    Column("low", Numeric),
    Column("close", Numeric),
    Column("volume", BigInteger),
    Column("volatility", Numeric),
    Column("rolling_avg", Numeric),
    Column("daily_pct_change", Numeric),
    UniqueConstraint("symbol", "date"),
)

COVERAGE = Table(
    "coverage",
    METADATA,
    Column("symbol", String(10), primary_key=True, comment="'*' is the whole market"),
    Column("first_session", Date, primary_key=True),
    Column("last_session", Date, nullable=False),
)

REJECTED_BARS = Table(
    "rejected_bars",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("run_id", String(36), nullable=False),
    Column("symbol", Text, nullable=False),
    Column("date", Date, comment="the session; NULL if the bar has no valid timestamp"),
    Column("reason", Text, nullable=False),
    Column("bar", Text, nullable=False, comment="as received, JSON"),
    Column("digest", String(64), nullable=False, unique=True, comment="of symbol, reason and bar: each is kept once"),
)

JOB_RUNS = Table(
    "job_runs",
    METADATA,
    Column("run_id", String(36), primary_key=True),
    Column("job_type", String(20), nullable=False),
    Column("payload", Text, nullable=False, comment="as received, JSON"),
    Column("as_of", Date, nullable=False),
    Column("provider", Text, nullable=False, comment="the host that the bars come from"),
    Column("status", String(20), nullable=False, comment="running, failed, or the result's status"),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True)),
    Column("api_calls", Integer, nullable=False, default=0),
    Column("inserted", BigInteger, nullable=False, default=0),
    Column("updated", BigInteger, nullable=False, default=0),
    Column("unchanged", BigInteger, nullable=False, default=0),
    Column("rejected", BigInteger, nullable=False, default=0),
    Column("splits_until", Date, comment="splits executed up to this day are recorded"),
    Column("error", Text),
)

SPLITS = Table(
    "splits",
    METADATA,
    Column("symbol", String(10), primary_key=True),
    Column("execution_date", Date, primary_key=True),
    Column("split_from", Float, nullable=False),
    Column("split_to", Float, nullable=False),
    Column("restated_at", DateTime(timezone=True), comment="NULL: the stored history still has the old scale"),
)

SENT_REPORTS = Table(
    "sent_reports",
    METADATA,
    Column("week", Date, primary_key=True, comment="the week's Monday"),
    Column("status", String(20), nullable=False, comment="claimed, then sent, resent or no_prices"),
    Column("run_id", String(36), nullable=False, comment="the last run that claimed the week"),
    Column("message_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("recipients", Text, nullable=False, comment="comma-separated"),
    Column("attempts", Integer, nullable=False),
    Column("claimed_at", DateTime(timezone=True), nullable=False),
    Column("sent_at", DateTime(timezone=True)),
)


# A session has one row: writers of UTC stamps have put it at 04:00 or 05:00. SQLite keeps what it is given, and the key
# needs one spelling of midnight as well.
_ADOPT_SQLITE_DATES = """
UPDATE stock_data SET date = substr(date, 1, 10) || ' 00:00:00' WHERE date <> substr(date, 1, 10) || ' 00:00:00'
"""
_ADOPT_DATES = "UPDATE stock_data SET date = date_trunc('day', date) WHERE date <> date_trunc('day', date)"


def ensure_schema(connection: Connection) -> None:
    """Create the tables that are absent, and check that an existing ``stock_data`` can be adopted.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside a transaction that holds the write lock, so that two first runs do not create at once.

    Raises
    ------
    DataError
        If ``stock_data`` exists without one of its columns or without ``UNIQUE (symbol, date)``.
    """
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    if STOCK_DATA.name in present:
        columns = {column["name"] for column in inspector.get_columns(STOCK_DATA.name)}
        lacking = [column.name for column in STOCK_DATA.columns if column.name not in columns]
        if lacking:
            raise DataError(
                f"the existing table stock_data has no column {', '.join(lacking)}; add it or rename the table"
            )
        unique: list[Any] = [
            *inspector.get_unique_constraints(STOCK_DATA.name),
            *inspector.get_indexes(STOCK_DATA.name),
        ]
        keys = [key["column_names"] for key in unique if key.get("unique", True)]
        keys.append(inspector.get_pk_constraint(STOCK_DATA.name)["constrained_columns"])
        if not any(sorted(map(str, key)) == ["date", "symbol"] for key in keys):
            raise DataError(
                "the existing table stock_data has no UNIQUE (symbol, date);"
                " run: ALTER TABLE stock_data ADD UNIQUE (symbol, date)"
            )
        if COVERAGE.name not in present:
            on_sqlite = connection.dialect.name == "sqlite"
            connection.exec_driver_sql(_ADOPT_SQLITE_DATES if on_sqlite else _ADOPT_DATES)
    METADATA.create_all(
        connection, tables=[t for t in METADATA.sorted_tables if t.name not in present], checkfirst=False
    )
