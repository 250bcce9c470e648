"""The table as a file: each format holds what the table holds, on both databases."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, text

import main
from config import settings
from domain.errors import DataError, PayloadError
from entrypoints.export import Selection, choose_format, export_table, parse_selection
from sandbox.server import MarketServer
from storage.engine import database_time, transaction
from tests.conftest import Job
from tests.support.tables import rows, stock_data

HEADER = "date,symbol,open,high,low,close,volume,volatility,rolling_avg,daily_pct_change"
NUMBERS = ["open", "high", "low", "close", "volatility", "rolling_avg", "daily_pct_change"]
LONG_PRICE = Decimal("7.4764285714285713")  # as a split leaves it: 17 digits
EXTREMES = [  # symbol, open, high, low, close, volume
    ("NaN", "0.0001234567890123456", "1000000000000000", "0.0001", str(LONG_PRICE), 2**62),
    ('A"B,C', "202.91", "202.910", "1E+2", "130", 0),
    ("null", None, None, None, "1.5", None),
]


def export(engine: Engine, **options: Any) -> list[list[str]]:
    """Export to a CSV file, and return its cells."""
    count = export_table(engine, Selection(**options), output="prices.csv", file_format="csv")
    with Path("prices.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.reader(file))
    assert len(cells) == count + 1
    return cells


def exported(engine: Engine, file_format: Any, *, decimal: bool = False) -> list[dict[str, Any]]:
    """Export the whole table, and return its rows as Python has them."""
    export_table(engine, Selection(), output="prices", file_format=file_format, decimal=decimal)
    content = Path("prices").read_bytes()
    if file_format == "csv":
        return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    if file_format == "jsonl":
        return [json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in content.splitlines()]
    table = pq.read_table("prices") if file_format == "parquet" else pa.ipc.open_stream(content).read_all()
    return list(table.to_pylist())


def store_extremes(engine: Engine) -> None:
    """Store rows that no provider sends and an adopted table may hold."""
    with engine.begin() as connection:
        for symbol, *values in EXTREMES:
            names = ("open", "high", "low", "close", "volume")
            shown = ", ".join("NULL" if value is None else str(value) for value in values)
            query = (
                f"INSERT INTO stock_data (date, symbol, {', '.join(names)}) VALUES ('2013-03-01 00:00:00', :s, {shown})"
            )
            connection.execute(text(query), {"s": symbol})


@pytest.fixture
def filled(job: Job, engine: Engine) -> Engine:
    """A database with prices, and with rows that are hard to write."""
    job("initialize", as_of="2013-03-02", symbols="IBM,AAPL", sessions=6)
    store_extremes(engine)
    return engine


class TestFormats:
    def test_csv_holds_the_columns_of_the_table_in_its_order(self, job: Job, engine: Engine) -> None:
        job("initialize", as_of="2013-03-02", symbols="IBM,AAPL", sessions=6)

        header, *cells = export(engine)

        assert ",".join(header) == HEADER
        assert [row[:2] for row in cells[:2]] == [["2013-02-22", "AAPL"], ["2013-02-25", "AAPL"]]
        assert cells[0][8:] == ["", ""]
        assert cells[0][6].isdigit()
        assert Path("prices.csv").read_text(encoding="utf-8").count('"') == 0
        assert [path.name for path in Path().glob("*prices*")] == ["prices.csv"]

    @pytest.mark.parametrize(
        ("file_format", "decimal"), [("csv", False), ("jsonl", False), ("parquet", True), ("arrow", True)]
    )
    def test_numbers_equal_the_table_digit_for_digit(self, filled: Engine, file_format: str, decimal: bool) -> None:
        stored = sorted(stock_data(filled), key=lambda row: row.symbol)  # by bytes, whatever the database's collation

        found = exported(filled, file_format, decimal=decimal)

        assert [row["symbol"] for row in found] == [row.symbol for row in stored]
        for row, expected in zip(found, stored, strict=True):
            assert list(row) == HEADER.split(",")
            assert str(row["date"])[:10] == str(expected.session)
            for name in [*NUMBERS, "volume"]:
                value = None if row[name] in ("", None) else Decimal(row[name])
                assert value == getattr(expected, name), (row["symbol"], name)

    @pytest.mark.parametrize("file_format", ["parquet", "arrow"])
    def test_doubles_are_those_nearest_to_the_table(self, filled: Engine, file_format: str) -> None:
        stored = sorted(stock_data(filled), key=lambda row: row.symbol)

        for row, expected in zip(exported(filled, file_format), stored, strict=True):
            for name in NUMBERS:
                value = getattr(expected, name)
                assert row[name] == (None if value is None else float(value))
            assert row["volume"] == expected.volume

    @pytest.mark.parametrize(("decimal", "number"), [(False, pa.float64()), (True, pa.decimal128(38, 20))])
    def test_parquet_has_the_types_of_the_table(self, filled: Engine, decimal: bool, number: pa.DataType) -> None:
        exported(filled, "parquet", decimal=decimal)

        schema = pq.read_schema("prices")
        assert schema.names == HEADER.split(",")
        assert schema.field("date").type == pa.timestamp("us")
        assert schema.field("symbol").type == pa.string()
        assert schema.field("volume").type == pa.int64()
        assert {schema.field(name).type for name in NUMBERS} == {number}
        assert [name for name in schema.names if not schema.field(name).nullable] == ["date", "symbol"]

    def test_parquet_is_sorted_compressed_and_has_statistics(self, filled: Engine) -> None:
        keys = [(row["symbol"], row["date"]) for row in exported(filled, "parquet")]

        assert keys == sorted(keys)
        group = pq.read_metadata("prices").row_group(0)
        assert [group.column(order.column_index).path_in_schema for order in group.sorting_columns] == [
            "symbol",
            "date",
        ]
        assert {group.column(place).compression for place in range(group.num_columns)} == {"ZSTD"}
        assert group.column(0).statistics.min == datetime(2013, 2, 22)
        assert group.column(1).statistics.max == "null"

    @pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet", "arrow"])
    def test_many_tables_make_one_file(self, filled: Engine, file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = exported(filled, file_format)
        monkeypatch.setattr("storage.streams.COPIED_BYTES", 1)
        monkeypatch.setattr("storage.streams.FETCHED_ROWS", 2)
        monkeypatch.setattr("storage.driver.RECEIVED", 100)  # a message rarely ends where a piece does
        monkeypatch.setattr("storage.history.PIECE", 2)

        assert exported(filled, file_format) == whole
        assert len(whole) == 15

    @pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet", "arrow"])
    def test_a_range_without_rows_is_a_valid_file(self, filled: Engine, file_format: Any) -> None:
        selection = Selection(start=date(2001, 1, 1), end=date(2001, 2, 1))

        assert export_table(filled, selection, output="none", file_format=file_format) == 0

        content = Path("none").read_bytes()
        if file_format == "csv":
            assert content.decode() == f"{HEADER}\n"
        elif file_format == "jsonl":
            assert content == b""
        else:
            table = pq.read_table("none") if file_format == "parquet" else pa.ipc.open_stream(content).read_all()
            assert (len(table), table.column_names) == (0, HEADER.split(","))

    def test_an_adopted_metric_that_is_no_number_is_null(self, filled: Engine) -> None:
        infinite = "9e999" if filled.dialect.name == "sqlite" else "'NaN'"
        with filled.begin() as connection:
            connection.execute(text(f"UPDATE stock_data SET volatility = {infinite} WHERE symbol = 'IBM'"))

        for file_format in ("csv", "jsonl", "parquet"):
            found = {row["volatility"] for row in exported(filled, file_format) if row["symbol"] == "IBM"}
            assert found in ({""}, {None})

    def test_a_number_that_does_not_fit_a_decimal_is_named(self, filled: Engine) -> None:
        with filled.begin() as connection:
            connection.execute(text("UPDATE stock_data SET low = 1e-25 WHERE symbol = 'IBM'"))

        with pytest.raises(
            DataError, match=r"^a number of stock_data does not fit DECIMAL\(38, 20\): leave --decimal out$"
        ):
            exported(filled, "parquet", decimal=True)
        assert min(row["low"] for row in exported(filled, "parquet") if row["low"]) == 1e-25

    @pytest.mark.parametrize("file_format", ["csv", "parquet"])
    def test_a_date_that_is_none_is_named(self, filled: Engine, file_format: str) -> None:
        bad = "'soon'" if filled.dialect.name == "sqlite" else "'infinity'"
        with filled.begin() as connection:
            connection.execute(text(f"UPDATE stock_data SET date = {bad} WHERE symbol = 'null'"))

        with pytest.raises(DataError, match=r"^stock_data holds a value that no run stores: .*(soon|infinity)"):
            exported(filled, file_format)

    def test_a_time_of_day_is_kept(self, filled: Engine) -> None:
        with filled.begin() as connection:
            connection.execute(text("UPDATE stock_data SET date = '2013-03-01 05:00:00' WHERE symbol = 'null'"))

        assert exported(filled, "parquet")[-1]["date"] == datetime(2013, 3, 1, 5)
        assert exported(filled, "csv")[-1]["date"] == "2013-03-01 05:00:00"


class TestSelection:
    def test_an_earlier_moment_shows_what_was_known_then(self, job: Job, engine: Engine, market: MarketServer) -> None:
        job("initialize", as_of="2013-03-01", symbols="IBM", sessions=6)
        first = export(engine)
        with transaction(engine) as connection:
            moment = database_time(connection)
        job("daily_update", as_of="2013-03-02", symbols="IBM")

        assert len(export(engine)) == len(first) + 1
        assert export(engine, known_at=moment) == first

    def test_a_moment_before_the_first_load_is_an_error(self, job: Job, engine: Engine) -> None:
        with transaction(engine) as connection:
            before = database_time(connection) - timedelta(seconds=1)
        job("initialize", as_of="2013-03-01", symbols="IBM", sessions=6)

        with pytest.raises(DataError, match=r"^--known-at is .*, before the first load at 2"):
            export(engine, known_at=before)
        assert not Path("prices.csv").exists()

    def test_only_the_named_symbols_and_sessions_are_exported(self, job: Job, engine: Engine) -> None:
        job("initialize", as_of="2013-03-02", symbols="IBM,AAPL,FB", sessions=4)

        days = {"start": date(2013, 2, 27), "end": date(2013, 2, 28)}
        found = [row[:2] for row in export(engine, symbols=["IBM", "FB"], **days)[1:]]

        sessions = ["2013-02-27", "2013-02-28"]
        assert found == [[day, symbol] for symbol in ("FB", "IBM") for day in sessions]
        with transaction(engine) as connection:
            moment = database_time(connection)
        assert [row[:2] for row in export(engine, symbols=["FB", "IBM"], known_at=moment, **days)[1:]] == found

    def test_wrong_arguments_are_errors_that_write_no_file(self, job: Job, engine: Engine) -> None:
        with pytest.raises(DataError, match="has no tables yet: run initialize first"):
            export(engine)
        job("initialize", as_of="2013-03-02", symbols="IBM", sessions=2)

        with pytest.raises(DataError, match=r"^--symbols has 'NOPE', of which nothing was ever stored"):
            export(engine, symbols=["IBM", "NOPE"])
        with pytest.raises(DataError, match=r"^--output is 'no/prices.csv', which cannot be written: No such file"):
            export_table(engine, Selection(), output="no/prices.csv", file_format="csv")
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM stock_data"))
        with pytest.raises(DataError, match=r"holds no prices yet: run initialize first$"):
            export(engine)
        assert not list(Path().glob("*prices*"))

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"start": "2013-02-30"}, "--start is '2013-02-30'; valid is an ISO date such as 2026-03-02"),
            ({"end": "20130228"}, "--end is '20130228'; valid is an ISO date such as 2026-03-02"),
            ({"start": "2013-03-02", "end": "2013-03-01"}, "--start is 2013-03-02, which is after --end, 2013-03-01"),
            ({"known_at": "yesterday"}, "--known-at is 'yesterday'; valid is a moment with its zone, such as"),
            ({"known_at": "2013-03-01"}, "--known-at is '2013-03-01'; valid is a moment with its zone, such as"),
            ({"known_at": "2013-03-01T09:00"}, "--known-at is '2013-03-01T09:00'; valid is a moment with its zone"),
        ],
    )
    def test_options_that_are_not_valid_are_named(self, options: dict[str, str], said: str) -> None:
        with pytest.raises(PayloadError) as raised:
            parse_selection(**options)
        assert str(raised.value).startswith(said)

    def test_a_moment_may_have_any_zone(self) -> None:
        moment = parse_selection(known_at="2026-03-01T09:00:00-05:00").known_at
        assert moment == datetime(2026, 3, 1, 14, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("output", "file_format", "chosen"),
        [
            ("prices.csv", None, "csv"),
            ("PRICES.PARQUET", None, "parquet"),
            ("prices.jsonl", None, "jsonl"),
            ("-", None, "csv"),
            ("/dev/null", None, "csv"),
            ("prices.csv", "parquet", "parquet"),
        ],
    )
    def test_the_format_is_that_of_the_ending(self, output: str, file_format: str | None, chosen: str) -> None:
        assert choose_format(output, file_format) == chosen

    def test_an_unknown_format_is_named(self) -> None:
        with pytest.raises(PayloadError, match=r"^--format is 'xml'; valid is csv, jsonl, parquet, arrow$"):
            choose_format("prices.csv", "xml")
        with pytest.raises(
            PayloadError, match=r"^--output is 'prices.xlsx', whose ending names no format; valid is \.csv"
        ):
            choose_format("prices.xlsx", None)


class TestFailures:
    def test_a_failed_export_leaves_the_earlier_file(
        self, job: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job("initialize", as_of="2013-03-02", symbols="IBM", sessions=2)
        before = export(engine)
        monkeypatch.setattr("utils.stream_table", lambda *_, **__: 1 / 0)

        with pytest.raises(ZeroDivisionError):
            export(engine)

        with Path("prices.csv").open(encoding="utf-8", newline="") as file:
            assert list(csv.reader(file)) == before
        assert [path.name for path in Path().glob("*prices*")] == ["prices.csv"]

    def test_a_failure_in_the_middle_leaves_no_file_and_the_next_export_works(
        self, filled: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[int] = []

        def fail(done: int, _total: int, _doing: str) -> None:
            calls.append(done)
            if len(calls) == 2:
                raise ZeroDivisionError

        monkeypatch.setattr("storage.streams.COPIED_BYTES", 1)
        monkeypatch.setattr("storage.driver.RECEIVED", 100)
        monkeypatch.setattr("storage.streams.FETCHED_ROWS", 2)
        with pytest.raises(ZeroDivisionError):
            export_table(filled, Selection(), output="prices.parquet", file_format="parquet", progress=fail)

        assert not list(Path().glob("*prices*"))
        assert export_table(filled, Selection(), output="prices.parquet", file_format="parquet") == 15


class TestCommand:
    @pytest.fixture
    def command(self, job: Job, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Any:
        """Run ``export`` with some arguments on stored prices; return its status, output and error."""
        job("initialize", as_of="2013-03-02", symbols="IBM", sessions=2)

        def run(*arguments: str) -> tuple[int, bytes, str]:
            capsysbinary.readouterr()
            monkeypatch.setattr("sys.argv", ["main.py", "export", *arguments])
            settings.cache_clear()
            status = main.main()
            printed = capsysbinary.readouterr()
            return status, printed.out, printed.err.decode()

        return run

    @pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet", "arrow"])
    def test_it_writes_to_standard_output_what_it_writes_to_a_file(self, command: Any, file_format: str) -> None:
        status, printed, error = command("--format", file_format, "--output", "-", "--symbols", "IBM")
        assert (status, error) == (0, "")
        assert command("--format", file_format, "--output", "prices") == (0, b"prices: 2 rows\n", "")
        assert Path("prices").read_bytes() == printed

    def test_it_has_all_rows(self, command: Any, engine: Engine) -> None:
        lines = command("--output", "-")[1].decode().splitlines()
        assert lines[0] == HEADER
        assert len(lines) == 1 + len(rows(engine, "SELECT * FROM stock_data"))

    def test_a_file_that_exists_is_replaced_by_force_only(self, command: Any) -> None:
        Path("prices.csv").write_text("mine")

        said = "error: --output is 'prices.csv', which exists: add --force to replace it\n"
        assert command("--output", "prices.csv") == (1, b"", said)
        assert Path("prices.csv").read_text() == "mine"
        assert command("--output", "prices.csv", "--force") == (0, b"prices.csv: 2 rows\n", "")
        assert Path("prices.csv").read_text().startswith(HEADER)

    @pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1)])
    def test_on_a_terminal_it_asks(
        self, command: Any, answer: str, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("prices.csv").write_text("mine")
        typed = io.StringIO(f"{answer}\n")
        typed.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", typed)
        monkeypatch.setattr("builtins.input", lambda _="": typed.readline().strip())

        done = command("--output", "prices.csv")

        assert done[0] == status
        assert (Path("prices.csv").read_text() == "mine") == bool(status)
        if status:
            assert done[2] == "error: nothing was done, as you answered no\n"

    @pytest.mark.parametrize("words", [("--format", "xml"), ("--start", "soon"), ("--symbols", "NOPE")])
    def test_bad_input_is_one_line_and_writes_nothing(self, command: Any, words: tuple[str, ...]) -> None:
        status, printed, error = command("--output", "prices.csv", *words)

        assert (status, printed, error.count("\n")) == (1, b"", 1)
        assert error.startswith(f"error: {words[0]} ")
        assert not list(Path().glob("*prices*"))
