"""Statements in one round trip, against a real PostgreSQL."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from domain.errors import DataError
from storage.engine import open_engine, transaction
from tests.support.round_trips import count_messages


@pytest.fixture
def engine(postgresql_url: str) -> Engine:
    return open_engine(postgresql_url)


def test_a_transaction_takes_a_round_trip_for_each_statement_and_one_more_to_begin_and_to_commit(
    engine: Engine,
) -> None:
    counting = count_messages(engine)
    with transaction(engine) as connection:
        for number in range(3):
            connection.execute(text("SELECT CAST(:number AS int)"), {"number": number})
        connection.execute(text("SELECT 1"))
    assert counting.round_trips == 1 + 4 + 1


def test_values_come_back_as_they_were_sent(engine: Engine) -> None:
    query = text(
        "SELECT CAST(:text AS text), CAST(:price AS numeric), CAST(:day AS date), CAST(:none AS int),"
        " CAST(:list AS text[])"
    )
    sent = {"text": "Zürich, \"'\\", "price": Decimal("130.10"), "day": date(2013, 3, 1), "none": None, "list": ["a"]}
    with transaction(engine) as connection:
        assert tuple(connection.execute(query, sent).one()) == tuple(sent.values())
        assert connection.execute(text("SELECT 1 WHERE CAST(:never AS boolean)"), {"never": False}).all() == []


def test_counts_of_written_rows_come_back(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE numbers (number int) ON COMMIT DROP")
        insert = text("INSERT INTO numbers SELECT generate_series(1, CAST(:last AS int))")
        assert connection.execute(insert, {"last": 7}).rowcount == 7
        delete = text("DELETE FROM numbers WHERE number > :least")
        assert [connection.execute(delete, {"least": least}).rowcount for least in (4, 4)] == [3, 0]


@pytest.mark.parametrize(
    "statement", ["SELECT no_such_column, :value", "SELECT CAST(:value AS date)", "SELECT 1 / length(:value)"]
)
def test_a_refused_statement_leaves_a_connection_that_can_be_used(engine: Engine, statement: str) -> None:
    """Whether it is refused when it is parsed, when its values are bound or when it is executed."""
    with transaction(engine) as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with pytest.raises(DataError), transaction(engine) as connection:
        connection.execute(text(statement), {"value": ""})
    with transaction(engine) as connection:
        answer = connection.execute(text("SELECT pg_backend_pid(), CAST(:value AS text)"), {"value": "next"}).one()
    assert tuple(answer) == (before, "next")
