"""Frames into tables, into temporary tables, and out of queries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

import database
from domain.errors import DataError
from storage.bulk import SQLITE_ROWS, read_frame, temp_table
from storage.engine import open_engine, transaction
from storage.migration import ensure_schema
from storage.schema import STOCK_DATA


@pytest.fixture
def engine(sqlite_url: str) -> Engine:
    engine = open_engine(sqlite_url)
    with transaction(engine) as connection:
        ensure_schema(connection)
    return engine


def rows(count: int) -> pd.DataFrame:
    """Sessions of one symbol; every third has no rolling average."""
    number = np.arange(count)
    return pd.DataFrame(
        {
            "date": np.datetime64("2020-01-01", "s") + number.astype("timedelta64[D]"),
            "symbol": pd.Series(["GOOG"] * count, dtype="str"),
            **dict.fromkeys(("open", "high", "low", "close", "volatility", "daily_pct_change"), 130 + number / 8),
            "volume": number + 2**53,
            "rolling_avg": np.where(number % 3 == 0, np.nan, 0.1 + number),
        }
    )


@pytest.mark.parametrize("count", [0, 1, SQLITE_ROWS - 1, SQLITE_ROWS, SQLITE_ROWS + 1, 3 * SQLITE_ROWS + 7])
def test_every_row_of_a_frame_is_stored_on_sqlite_whatever_their_number(engine: Engine, count: int) -> None:
    frame = rows(count)
    with transaction(engine) as connection:
        database.insert_bars(connection, frame)
    with transaction(engine, write=False) as connection:
        stored = connection.execute(
            text("SELECT date, symbol, open, volume, rolling_avg, typeof(open) FROM stock_data ORDER BY date")
        ).all()
    assert stored == [
        (
            f"{day:%Y-%m-%d} 00:00:00",
            "GOOG",
            opened,
            volume,
            None if np.isnan(average) else average,
            "integer" if opened.is_integer() else "real",
        )
        for day, opened, volume, average in zip(
            frame["date"], frame["open"], frame["volume"], frame["rolling_avg"], strict=True
        )
    ]


def test_a_refused_row_leaves_nothing_of_its_frame_on_sqlite(engine: Engine) -> None:
    twice = pd.concat([rows(SQLITE_ROWS), rows(1)])
    with pytest.raises(DataError, match="UNIQUE constraint failed"), transaction(engine) as connection:
        database.insert_bars(connection, twice)
    with transaction(engine) as connection:  # the connection is still of use
        assert connection.execute(text("SELECT count(*) FROM stock_data")).scalar_one() == 0


def test_rows_are_read_by_their_place_on_sqlite(engine: Engine) -> None:
    frame = pd.DataFrame({"place": [2, 0, 1], "day": np.array(["2020-01-02"] * 3, dtype="datetime64[s]")})
    columns = {"place": STOCK_DATA.c.volume, "day": STOCK_DATA.c.date}
    with transaction(engine) as connection, temp_table(connection, "asked", columns, frame):
        read = read_frame(connection, "SELECT place, day, place / 2.0 AS half FROM asked", ["place", "date", "half"])
    assert read["place"].tolist() == [0, 1, 2]
    assert read["half"].tolist() == [0.0, 0.5, 1.0]
    assert (read["place"].dtype, read["date"].dtype) == (np.dtype("int64"), np.dtype("datetime64[s]"))


@pytest.mark.parametrize("kind", ["sqlite_url", "postgresql_url"])
def test_a_temporary_table_holds_the_frame_of_the_last_block_only(kind: str, request: pytest.FixtureRequest) -> None:
    engine = open_engine(request.getfixturevalue(kind))
    with transaction(engine) as connection:
        ensure_schema(connection)
        for number in (1, 2):
            with temp_table(connection, "asked", {"number": STOCK_DATA.c.volume}, pd.DataFrame({"number": [number]})):
                assert connection.execute(text("SELECT number FROM asked")).scalars().all() == [number]
