"""Parameters of questions: any number of symbols in one, and sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def midnight(day: date) -> datetime:
    """Return a session as ``stock_data.date`` holds it."""
    return datetime.combine(day, time())
