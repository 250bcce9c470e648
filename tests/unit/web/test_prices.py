"""Price files hold numbers exactly, and whole symbols in each row group."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import DataError
from web.files import digest
from web.prices import HISTORY, MAGIC, PriceFiles, Sizes, TableFile, footer_size, read_table

COLUMNS = ["symbol", "date", "close", "volume"]


def rows(*lengths: int, first: str = "A", close: float = 1.25) -> pd.DataFrame:
    """Rows of symbols A, B, C…, each with so many sessions."""
    frames = [
        pd.DataFrame(
            {
                "symbol": pd.Series([chr(ord(first) + n)] * length, dtype="str"),
                "date": np.datetime64("2026-01-01", "s") + np.arange(length).astype("timedelta64[D]"),
                "close": close + np.arange(length) / 100,
                "volume": np.arange(length, dtype=np.float64) * 1_000,
            }
        )
        for n, length in enumerate(lengths)
    ]
    return pd.concat(frames, ignore_index=True)


def written(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """What a reader finds of a frame that was written."""
    file = TableFile(path, frame)
    file.write(frame)
    file.close()
    return pd.concat(read_table(path, frame.columns, rows=10), ignore_index=True)


cents = st.integers(0, 10**11).map(lambda number: float(Decimal(number) / 10**6))


@given(st.lists(st.tuples(st.one_of(cents, st.just(np.nan), st.floats(0, 1e9)), st.integers(0, 2**52)), min_size=1))
def test_any_numbers_are_read_back_as_they_were(values: list[tuple[float, int]]) -> None:
    frame = rows(len(values)).assign(close=[each[0] for each in values], volume=[float(each[1]) for each in values])
    with TemporaryDirectory() as folder:
        pd.testing.assert_frame_equal(written(Path(folder) / "prices.parquet", frame), frame, check_exact=True)


def test_numbers_of_up_to_six_decimals_are_whole_millionths(tmp_path: Path) -> None:
    """A browser divides by a million, which rounds to the double of the decimal."""
    frame = rows(3).assign(close=[430.47, 0.000001, np.nan])
    written(tmp_path / "prices.parquet", frame)
    table = pq.read_table(tmp_path / "prices.parquet")
    assert table.schema.field("close").type == pa.int64()
    assert table["close"].to_pylist() == [430_470_000, 1, None]
    assert table["volume"].to_pylist() == [0, 1_000, 2_000]
    assert table.schema.field("date").type == pa.date32()


def test_a_number_with_more_decimals_makes_its_column_one_of_floats(tmp_path: Path) -> None:
    frame = rows(2).assign(close=[1.25, 1.23456789])
    written(tmp_path / "prices.parquet", frame)
    assert pq.read_table(tmp_path / "prices.parquet")["close"].to_pylist() == [1.25, 1.23456789]


def test_a_column_of_nothing_is_one_of_numbers(tmp_path: Path) -> None:
    written(tmp_path / "prices.parquet", rows(2).assign(close=np.nan))
    assert pq.read_schema(tmp_path / "prices.parquet").field("close").type == pa.int64()


def files_of(folder: Path, sizes: Sizes, *frames: pd.DataFrame) -> list[list[list[str]]]:
    """The symbols of each row group of each file that these frames end in."""
    files = PriceFiles(folder, "history", sizes)
    for frame in frames:
        files.add(frame)
    files.finish()
    found = []
    for each in files.written:
        assert each.path == f"data/history-{digest(each.source)}.parquet"
        file = pq.ParquetFile(each.source)
        groups = [file.read_row_group(n)["symbol"].unique().to_pylist() for n in range(file.num_row_groups)]
        assert [each.facts["first_symbol"], each.facts["last_symbol"]] == [groups[0][0], groups[-1][-1]]
        assert each.facts["rows"] == file.metadata.num_rows
        assert each.facts["footer"] == file.metadata.serialized_size + MAGIC == footer_size(each.source)
        found.append(groups)
    return found


@given(st.lists(st.integers(1, 30), min_size=1, max_size=26), st.lists(st.integers(1, 26), max_size=4))
def test_a_symbol_is_in_one_row_group_however_its_rows_arrive(lengths: list[int], cuts: list[int]) -> None:
    frame = rows(*lengths)
    symbols = [chr(ord("A") + n) for n in range(len(lengths))]
    bounds = [0, *sorted(cut for cut in set(cuts) if cut < len(lengths)), len(lengths)]
    parts = [frame[frame["symbol"].isin(symbols[a:b])] for a, b in zip(bounds, bounds[1:], strict=False)]
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        found = files_of(Path(one), Sizes(file=60, group=20), *parts)
        assert found == files_of(Path(other), Sizes(file=60, group=20), frame)
    assert [symbol for file in found for group in file for symbol in group] == symbols
    for file in found:
        for group in file[:-1]:
            assert sum(lengths[symbols.index(symbol)] for symbol in group) >= 20


def test_a_file_ends_before_rows_that_its_columns_cannot_hold(tmp_path: Path) -> None:
    found = files_of(
        tmp_path, Sizes(file=100, group=2), rows(2, 2), rows(2, first="C", close=0.1234567), rows(2, first="D")
    )
    assert found == [[["A"], ["B"]], [["C"], ["D"]]]


def test_a_footer_of_the_whole_market_is_under_fifty_kilobytes(tmp_path: Path) -> None:
    """500 sessions per symbol, and the columns that are published."""
    names = [
        *["open", "high", "low", "rolling_avg", "daily_pct_change", "volatility"],
        *["sma_20", "sma_50", "sma_200"],
    ]
    frame = rows(*[500] * 600).assign(**dict.fromkeys(names, 1.25))
    frame["symbol"] = pd.Series(np.repeat([f"SYM{n:05d}" for n in range(600)], 500), dtype="str")
    files = PriceFiles(tmp_path, "history", HISTORY)
    files.add(frame)
    files.finish()
    assert files.written[0].facts["footer"] < 50_000
    assert files.written[0].facts["rows"] >= HISTORY.file


def test_two_files_of_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        files = PriceFiles(tmp_path / name, "history", HISTORY)
        files.add(rows(10, 20))
        files.finish()
        contents.append([(each.path, each.source.read_bytes()) for each in files.written])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all", b"PAR1" + b"x" * 100 + b"PAR1"])
def test_what_is_no_price_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history-0123456789abcdef.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^history-0123456789abcdef\.parquet is no price file: .+"):
        list(read_table(path, COLUMNS, rows=10))
