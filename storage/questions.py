"""Parameters of questions: any number of symbols or rows in one, and sessions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

from sqlalchemy import Connection

from domain.models import EVERY_SYMBOL

# One parameter for any number of symbols; a temporary table would need a database that can be written.
EACH_ASKED = {
    "postgresql": "SELECT unnest(CAST(:asked AS text[])) AS symbol",
    "sqlite": "SELECT value AS symbol FROM json_each(:asked)",
}


def asked_condition(connection: Connection, symbols: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the condition on ``symbol`` for the symbols of a question, and its parameters."""
    if list(symbols) == [EVERY_SYMBOL]:
        return "true", {}
    if connection.dialect.name == "postgresql":  # whose planner sees how many there are, unlike in a subquery
        return "symbol = ANY(CAST(:asked AS text[]))", asked_parameters(connection, symbols)
    return f"symbol IN ({EACH_ASKED[connection.dialect.name]})", asked_parameters(connection, symbols)


def asked_parameters(connection: Connection, symbols: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of :data:`EACH_ASKED`."""
    return {"asked": list(symbols) if connection.dialect.name == "postgresql" else json.dumps(list(symbols))}


def rows_query(dialect: str, types: Mapping[str, str]) -> str:
    """Build the query of the rows that the one parameter ``:rows`` holds.

    Parameters
    ----------
    dialect : str
    types : mapping of str to str
        PostgreSQL's type of each column. On SQLite numbers are numbers, and all else is text.
    """
    if dialect == "postgresql":
        values = (f"CAST(value ->> {place} AS {kind}) AS {name}" for place, (name, kind) in enumerate(types.items()))
        return f"SELECT {', '.join(values)} FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS value"
    values = (f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(types))
    return f"SELECT {', '.join(values)} FROM json_each(:rows)"


def rows_parameter(rows: Iterable[Sequence[Any]]) -> dict[str, str]:
    """Return the parameter of :func:`rows_query`: texts, integers, and dates as text."""
    return {"rows": json.dumps(list(rows))}


def midnight(day: date) -> datetime:
    """Return a session as ``stock_data.date`` holds it."""
    return datetime.combine(day, time())
