"""Read tables for comparison: exact values, equal on both databases, in a fixed order."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, inspect, text

from tests.support.oracle import Row


def stock_data(engine: Engine, where: str = "", *, schema: str = "") -> list[Row]:
    """The rows of ``stock_data``, sorted by symbol and session, with numbers as exact decimals."""
    names = "symbol, date, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change"
    with engine.connect() as connection:
        table = f"{schema}.stock_data" if schema else "stock_data"
        rows = connection.execute(text(f"SELECT {names} FROM {table} {where} ORDER BY symbol, date")).all()
    return [Row(row[0], _session(row[1]), *(_exact(value) for value in row[2:])) for row in rows]


def scalar(engine: Engine, query: str) -> Any:
    """The first value that a query returns."""
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar()


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """All rows that a query returns."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def has_tables(engine: Engine) -> bool:
    """Whether a run has made the tables."""
    return bool(inspect(engine).has_table("stock_data"))


def clear(engine: Engine) -> None:
    """Remove all tables from a PostgreSQL database."""
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))


def _session(stamp: Any) -> date:
    shown = str(stamp)
    assert shown.endswith(" 00:00:00"), f"{shown} is not midnight"
    return date.fromisoformat(shown[:10])


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, int) else value
