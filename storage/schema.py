"""The tables: ``stock_data`` is the product and fixed to the letter; the others record how it came to be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeDecorator

from domain.errors import DataError

METADATA = MetaData()
ADOPTION = "adoption"  # the run_id of what was stored before any run


class _SqliteTimestamp(sqlite.DATETIME):
    """``TIMESTAMP`` on SQLite, spelled ``2013-03-01 00:00:00``: one spelling, since the key compares text."""

    __visit_name__ = "TIMESTAMP"


class _Session(TypeDecorator[datetime]):
    """A session at midnight. A value that is none, which only somebody else can have stored, is an error of ours."""

    impl = TIMESTAMP().with_variant(_SqliteTimestamp(truncate_microseconds=True), "sqlite")  # type: ignore[no-untyped-call]
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return the function that reads a stored value."""
        read = super().result_processor(dialect, coltype) or (lambda value: value)

        def read_session(value: Any) -> datetime | None:
            with suppress(TypeError, ValueError):
                session = read(value)
                if session is None or isinstance(session, datetime):
                    return session
            raise DataError(f"stock_data holds a date that no run stores: {value!r}")

        return read_session


SESSION = _Session()

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

TABLE = STOCK_DATA.columns.keys()

COVERAGE = Table(
    "coverage",
    METADATA,
    Column("symbol", String(10), primary_key=True, comment="'*' is the whole market"),
    Column("first_session", Date, primary_key=True),
    Column("last_session", Date, nullable=False),
    Column("seen_to", Date, nullable=False, comment="the last session published when the range was last read"),
    Column("oldest_reading", Date, nullable=False, comment="the same of its part read longest ago, for the audit"),
)

BAR_REVISIONS = Table(
    "bar_revisions",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("symbol", String(10), nullable=False),
    Column("date", SESSION, nullable=False),
    Column("open", Numeric, comment="prices and volume that were stored until then; all NULL: there was no bar"),
    Column("high", Numeric),
    Column("low", Numeric),
    Column("close", Numeric),
    Column("volume", BigInteger),
    Column("cause", String(20), nullable=False, comment="corrected, withdrawn, appeared, restated, rescaled or loaded"),
    Column("run_id", String(36), nullable=False),
    Column("replaced_at", DateTime(timezone=True), nullable=False),
    Index("bar_revisions_symbol_date", "symbol", "date"),
)

LOADS = Table(
    "loads",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("run_id", String(36), nullable=False),
    Column("loaded_at", DateTime(timezone=True), nullable=False),
    Column(
        "pairs", Text, nullable=False, comment="what was first read: JSON list of symbols with first and last session"
    ),
)

COMMITS = Table(
    "commits",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="1: there is one row"),
    Column("number", BigInteger, nullable=False, comment="grows with each commit that changes stock_data"),
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
    Column(
        "status", String(20), nullable=False, comment="running, failed, interrupted, abandoned, or the result's status"
    ),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True)),
    Column("api_calls", Integer, nullable=False, default=0),
    Column("inserted", BigInteger, nullable=False, default=0),
    Column("updated", BigInteger, nullable=False, default=0),
    Column("unchanged", BigInteger, nullable=False, default=0),
    Column("rejected", BigInteger, nullable=False, default=0),
    Column("corrected", BigInteger, nullable=False, default=0),
    Column("withdrawn", BigInteger, nullable=False, default=0),
    Column("seen_to", Date, comment="the last session of which the run has seen a bar of any symbol"),
    Column("history_days", Integer, comment="days that the plan reaches back, learned from a refusal"),
    Column("splits_until", Date, comment="splits executed up to this day are recorded"),
    Column("error", Text),
    Column("place", Integer, comment="its place in the queue of runs that have a session in common"),
    Column("held_from", Date, comment="the first session that it holds; NULL is all"),
    Column("held_to", Date),
    Column("leased_until", DateTime(timezone=True), comment="renewed while it runs; overdue, the next run closes it"),
)

SPLITS = Table(
    "splits",
    METADATA,
    Column("symbol", String(10), primary_key=True),
    Column("execution_date", Date, primary_key=True),
    Column("split_from", Float, nullable=False),
    Column("split_to", Float, nullable=False),
    Column("restated_at", DateTime(timezone=True), comment="NULL: the history was not read again yet"),
)

SUSPECTS = Table(
    "suspects",
    METADATA,
    Column("symbol", String(10), primary_key=True, comment="its whole history is to be read again"),
    Column("reason", Text, nullable=False),
    Column("run_id", String(36), nullable=False),
    Column("found_at", DateTime(timezone=True), nullable=False),
)

SENT_REPORTS = Table(
    "sent_reports",
    METADATA,
    Column("week", Date, primary_key=True, comment="the week's Monday"),
    Column("symbols", String(64), primary_key=True, comment="empty: those of the settings; else the chosen ones"),
    Column("status", String(20), nullable=False, comment="claimed, then sent, resent, no_prices or failed"),
    Column("run_id", String(36), nullable=False, comment="the last run that claimed the week"),
    Column("message_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("recipients", Text, nullable=False, comment="whom it is for, comma-separated"),
    Column("undelivered", Text, comment="those of them who have not got it, with the last reply, JSON; NULL: none"),
    Column("attempts", Integer, nullable=False),
    Column("claimed_at", DateTime(timezone=True), nullable=False),
    Column("sent_at", DateTime(timezone=True)),
)
