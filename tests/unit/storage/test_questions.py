"""Rows as one parameter, on both databases."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import text

from storage.engine import open_engine, transaction
from storage.questions import rows_parameter, rows_query

TYPES = {"symbol": "text", "day": "date", "number": "bigint"}
ODD = ["BRK.B", "A'B", 'A"B', "A\\B", "A,B", "A%B", "A:rows", "{A}", "[0]", "$[0]", "NULL", "null", "A/B", "\\u0041"]


@pytest.mark.parametrize("symbols", [[], ["A"], ODD], ids=["none", "one", "odd ones"])
def test_rows_come_back_as_they_were_sent(database_url: str, symbols: list[str]) -> None:
    sent = [(symbol, "2013-03-01", 2**53 + number) for number, symbol in enumerate(symbols)]
    with transaction(open_engine(database_url), write=False) as connection:
        query = text(f"SELECT * FROM ({rows_query(connection.dialect.name, TYPES)}) AS sent ORDER BY number")
        rows = [tuple(row) for row in connection.execute(query, rows_parameter(sent))]
        day = date(2013, 3, 1) if connection.dialect.name == "postgresql" else "2013-03-01"
    assert rows == [(symbol, day, number) for symbol, _, number in sent]
