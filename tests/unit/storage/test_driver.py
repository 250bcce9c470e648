"""Statements in one round trip, against a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

from domain.clock import Deadline, SystemClock
from domain.errors import DataError
from storage.bulk import insert_frame, temp_table
from storage.engine import database_time, open_engine, transaction, until
from storage.migration import ensure_schema
from storage.schema import STOCK_DATA
from tests.support.round_trips import count_messages


@pytest.fixture
def engine(postgresql_url: str) -> Engine:
    engine = open_engine(postgresql_url)
    with transaction(engine) as connection:
        ensure_schema(connection)
    return engine


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


NUMBERS = {"number": STOCK_DATA.c.volume}


def numbers(count: int) -> pd.DataFrame:
    return pd.DataFrame({"number": np.arange(count)})


def kinds_of(sent: bytes) -> str:
    """The kinds of the messages of a client, one letter each."""
    kinds, start = "", 0
    while start < len(sent):
        kinds += chr(sent[start])
        start += 1 + int.from_bytes(sent[start + 1 : start + 5])
    return kinds


def test_a_copy_takes_one_round_trip_with_all_before_it_and_ends_in_the_one_sync_that_poolers_wait_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, sent = count_messages(engine), bytearray()
    with transaction(engine) as connection:
        write, before = counting.write, counting.round_trips
        monkeypatch.setattr(counting, "write", lambda data: (sent.extend(data), write(data)))
        with temp_table(connection, "numbers", NUMBERS, numbers(3)):
            monkeypatch.undo()
            assert counting.round_trips == before + 1
            assert connection.execute(text("SELECT sum(number) FROM numbers")).scalar_one() == 3
    assert kinds_of(bytes(sent)).replace("H", "") == "PBE" * 3 + "dcS"  # H: flush


@pytest.mark.parametrize("count", [3, 100_000])
@pytest.mark.parametrize(
    "prepare",
    [
        "DROP TABLE numbers",
        "ALTER TABLE numbers ALTER number TYPE date USING '2013-03-01'",
        "CREATE UNIQUE INDEX ON numbers ((number / 2))",
        "SET TRANSACTION READ ONLY; DROP TABLE numbers; CREATE TEMPORARY TABLE other ()",
    ],
)
def test_a_refused_copy_leaves_a_connection_that_can_be_used(engine: Engine, prepare: str, count: int) -> None:
    with transaction(engine) as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS numbers; CREATE TABLE numbers (number bigint)")
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with pytest.raises(DataError), transaction(engine) as connection:
        connection.exec_driver_sql(prepare)
        insert_frame(connection, "numbers", NUMBERS, numbers(count))
    with transaction(engine) as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == before
        insert_frame(connection, "numbers", NUMBERS, numbers(count))
        assert connection.execute(text("SELECT count(*) FROM numbers")).scalar_one() == count
        connection.exec_driver_sql("DROP TABLE numbers")


def test_the_server_knows_what_is_left_of_a_deadline_before_a_copy(engine: Engine) -> None:
    short = until(engine, Deadline(6.0, SystemClock(), reserve=0))
    with transaction(short) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(1)")
        with temp_table(connection, "numbers", NUMBERS, numbers(3)):
            driver: Any = connection.connection.dbapi_connection
            query = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"
            ((milliseconds,),) = driver.execute_simple(query).rows
    assert 0 < int(milliseconds) <= 5_250


def test_a_transaction_that_waited_for_the_write_lock_has_the_moment_after_it(postgresql_url: str) -> None:
    first, second = open_engine(postgresql_url), create_other(postgresql_url)
    with ThreadPoolExecutor(1) as executor, transaction(first) as connection:
        waiting = executor.submit(moment_of, second)
        while not connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one():
            assert not waiting.done()
        end = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert waiting.result() >= end
    second.dispose()


def create_other(url: str) -> Engine:
    """An engine with a connection of its own."""
    return open_engine(f"{url}{'&' if '?' in url else '?'}application_name=other")


def moment_of(engine: Engine) -> datetime:
    with transaction(engine) as connection:
        return database_time(connection)
