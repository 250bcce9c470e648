"""Rows as a stream: what happens when the server refuses, or is gone, in the middle of a COPY."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from domain.errors import DataError
from storage.engine import open_engine, transaction
from storage.history import _copied_rows
from storage.migration import ensure_schema
from storage.streams import copy_tables
from tests.support.tcp_proxy import TcpProxy

ROWS = 100_000  # more than sockets and pieces hold
GENERATED = (
    "SELECT TIMESTAMP '2013-03-01' AS date, 'S' || n AS symbol, {close} AS open, 1, 1, 1, n AS volume, 1, 1, NULL"
    f" FROM generate_series(1, {ROWS}) AS n"
)


def count(connection: Connection, close: str = "1.5") -> int:
    """Stream generated rows, and count them."""
    return sum(len(table) for table in copy_tables(connection, GENERATED.format(close=close)))


def test_a_refusal_in_the_middle_is_one_line_and_the_connection_goes_on(postgresql_url: str) -> None:
    engine = open_engine(postgresql_url)

    with pytest.raises(DataError, match=r"^PostgreSQL at .*: division by zero$"), transaction(engine) as connection:
        count(connection, close=f"1 / ({ROWS} - n)")

    with transaction(engine) as connection:
        assert count(connection) == ROWS
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_value_that_is_none_of_ours_is_one_line(postgresql_url: str) -> None:
    engine = open_engine(postgresql_url)

    with (
        pytest.raises(DataError, match=r"^stock_data holds a value that no run stores: .*"),
        transaction(engine) as link,
    ):
        list(copy_tables(link, GENERATED.format(close="1").replace("n AS volume", "1.5 AS volume")))

    with transaction(engine) as connection:
        assert count(connection) == ROWS


def test_a_stream_that_nobody_reads_to_its_end_leaves_no_trace(postgresql_url: str) -> None:
    engine = open_engine(postgresql_url)
    with pytest.raises(ZeroDivisionError), transaction(engine) as connection:
        for _ in copy_tables(connection, GENERATED.format(close="1")):
            raise ZeroDivisionError

    with transaction(engine) as connection:
        ensure_schema(connection)
        assert count(connection) == ROWS


@pytest.mark.parametrize(("symbols", "collated"), [(("BRK.B", "BRKA"), False), (("BRKA", "BRK.B"), True)])
def test_the_index_gives_the_order_unless_the_database_sorts_otherwise(
    postgresql_url: str, symbols: tuple[str, ...], collated: bool
) -> None:
    """The server of the tests sorts as Python does: symbols in another order stand for those of a language's rules."""
    with transaction(open_engine(postgresql_url)) as connection:
        ensure_schema(connection)
        for complete in (False, True):
            query = _copied_rows(connection, symbols, "", complete=complete)
            assert ('COLLATE "C"' in query) == collated
            assert ("BRKA" in query) == (not complete)
            assert sum(len(table) for table in copy_tables(connection, query)) == 0


def test_a_server_that_is_gone_is_one_line(proxy: TcpProxy, tcp_url: str) -> None:
    with (
        pytest.raises(DataError, match=r"^PostgreSQL at 127\.0\.0\.1"),
        transaction(open_engine(tcp_url)) as connection,
    ):
        for _ in copy_tables(connection, GENERATED.format(close="1")):
            proxy.cut()
