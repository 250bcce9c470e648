"""A symbol that is forgotten leaves its prices in a file, and nothing else."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

import utils
from domain.errors import DataError
from pipeline.forget import count_rows, forget_symbol
from sandbox.server import MarketServer
from storage.engine import transaction
from storage.schema import TABLE
from tests.conftest import Job


@pytest.fixture
def stored(job: Job, market: MarketServer) -> Job:
    """Six sessions of IBM and GOOG, with a correction, a withdrawn and a rejected bar of each."""
    job("initialize", symbols="IBM,GOOG", sessions=6, as_of="2013-03-01")
    for symbol in ("IBM", "GOOG"):
        market.history.put_bar(symbol, date(2013, 2, 28), open=200, high=210, low=190, close=205, volume=1)
        market.history.put_bar(symbol, date(2013, 3, 1), open=200, high=1, low=190, close=202, volume=1)
        market.history.remove_bar(symbol, date(2013, 2, 27))
    job("daily_update", symbols="IBM,GOOG", as_of="2013-03-02")
    return job


def mentions(engine: Engine, symbol: str) -> dict[str, int]:
    """How many rows of each table name the symbol."""
    tables = ("stock_data", "coverage", "bar_revisions", "rejected_bars", "splits", "suspects")
    with transaction(engine, write=False) as connection:
        counts = {
            name: connection.execute(text(f"SELECT count(*) FROM {name} WHERE symbol = '{symbol}'")).scalar_one()
            for name in tables
        }
        pairs = connection.execute(text("SELECT pairs FROM loads")).scalars().all()
    return {**counts, "loads": sum(f'"{symbol}"' in each for each in pairs)}


def test_nothing_is_left_of_it_and_others_stay_as_they_are(stored: Job, engine: Engine, tmp_path: Path) -> None:
    others = mentions(engine, "GOOG")
    assert mentions(engine, "IBM")["bar_revisions"] > 0

    assert forget_symbol(engine, "IBM", tmp_path / "IBM.csv") == count_rows(engine, "GOOG") == 5

    assert set(mentions(engine, "IBM").values()) == {0}
    assert mentions(engine, "GOOG") == others


def test_the_file_holds_the_rows_as_they_were(stored: Job, engine: Engine, tmp_path: Path) -> None:
    with transaction(engine, write=False) as connection:
        rows = utils.read_rows_as_stored(connection, "IBM")

    forget_symbol(engine, "IBM", tmp_path / "IBM.csv")

    header, *lines = csv.reader((tmp_path / "IBM.csv").read_text().splitlines())
    assert header == TABLE
    assert lines == [["" if value is None else str(value) for value in row] for row in rows]


def test_it_was_never_known_once_it_is_loaded_again(stored: Job, engine: Engine, tmp_path: Path) -> None:
    forget_symbol(engine, "IBM", tmp_path / "IBM.csv")
    forgotten = datetime.now(UTC)
    stored("initialize", symbols="IBM", sessions=6, as_of="2013-03-02")

    with transaction(engine, write=False) as connection:
        assert utils.read_table(connection, ["IBM"], known_at=forgotten).empty
        assert len(utils.read_table(connection, ["GOOG"], known_at=forgotten)) == 5
        assert len(utils.read_table(connection, ["IBM"])) == 4


def test_a_file_that_exists_keeps_both_it_and_the_rows(stored: Job, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "IBM.csv").write_text("mine")

    with pytest.raises(DataError, match=r"IBM\.csv exists"):
        forget_symbol(engine, "IBM", tmp_path / "IBM.csv")

    assert (tmp_path / "IBM.csv").read_text() == "mine"
    assert count_rows(engine, "IBM") == 5


def test_an_unknown_symbol_is_named(stored: Job, engine: Engine) -> None:
    with pytest.raises(DataError, match="'ZZZZ' has no rows in "):
        count_rows(engine, "ZZZZ")
