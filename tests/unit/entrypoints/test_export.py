"""The table as a CSV file."""

from __future__ import annotations

import csv
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

import main
from domain.errors import DataError, PayloadError
from entrypoints.export import export_table
from sandbox.server import MarketServer
from storage.engine import database_time, transaction
from tests.conftest import Job
from tests.support.tables import rows, stock_data

HEADER = "date,symbol,open,high,low,close,volume,volatility,rolling_avg,daily_pct_change"


def export(engine: Engine, **options: object) -> list[list[str]]:
    """Export to a file, and return its cells."""
    count = export_table(engine, file_format="csv", output="prices.csv", **options)  # type: ignore[arg-type]
    with Path("prices.csv").open(encoding="utf-8", newline="") as file:
        cells = list(csv.reader(file))
    assert len(cells) == count + 1
    return cells


def test_the_file_holds_the_columns_of_the_table_in_its_order(job: Job, engine: Engine) -> None:
    job("initialize", as_of="2013-03-02", symbols="IBM,AAPL", sessions=6)

    header, *cells = export(engine)

    assert ",".join(header) == HEADER
    assert [row[:2] for row in cells[:2]] == [["2013-02-22", "AAPL"], ["2013-02-25", "AAPL"]]
    assert cells[0][8:] == ["", ""]
    assert cells[0][6].isdigit()
    assert Path("prices.csv").read_text(encoding="utf-8").count('"') == 0
    for row, stored in zip(cells, stock_data(engine), strict=True):
        numbers = [None if cell == "" else type(stored.close)(cell) for cell in row[2:]]
        assert [row[1], row[0], *numbers] == [stored.symbol, str(stored.session), *stored[2:]]
    assert [path.name for path in Path().glob("*prices*")] == ["prices.csv"]


def test_an_earlier_moment_shows_what_was_known_then(job: Job, engine: Engine, market: MarketServer) -> None:
    with transaction(engine) as connection:
        before = database_time(connection)
    job("initialize", as_of="2013-03-01", symbols="IBM", sessions=6)
    first = export(engine)
    with transaction(engine) as connection:
        moment = database_time(connection)
    job("daily_update", as_of="2013-03-02", symbols="IBM")

    assert len(export(engine)) == len(first) + 1
    assert export(engine, known_at=moment.isoformat()) == first
    assert len(export(engine, known_at=(before - timedelta(seconds=1)).isoformat())) == 1


def test_only_the_named_symbols_are_exported(job: Job, engine: Engine) -> None:
    job("initialize", as_of="2013-03-02", symbols="IBM,AAPL,FB", sessions=2)

    assert [row[1] for row in export(engine, symbols=["IBM", "FB"])[1:]] == ["FB", "FB", "IBM", "IBM"]


@pytest.mark.parametrize("moment", ["yesterday", "2013-03-01", "2013-03-01T09:00:00"])
def test_a_moment_without_a_zone_is_an_error_that_shows_a_valid_one(engine: Engine, moment: str) -> None:
    with pytest.raises(PayloadError, match=rf"^--known-at is '{moment}'; valid is a moment with its zone, such as"):
        export_table(engine, file_format="csv", output="prices.csv", known_at=moment)


def test_wrong_arguments_are_errors_that_write_no_file(job: Job, engine: Engine) -> None:
    with pytest.raises(DataError, match="has no tables yet: run initialize first"):
        export(engine)
    job("initialize", as_of="2013-03-02", symbols="IBM", sessions=2)

    with pytest.raises(PayloadError, match=r"^--format is 'xml'; valid is csv"):
        export_table(engine, file_format="xml", output="prices.csv")
    with pytest.raises(DataError, match=r"^--symbols has 'NOPE', of which nothing was ever stored"):
        export(engine, symbols=["IBM", "NOPE"])
    with pytest.raises(DataError, match=r"^--output is 'no/prices.csv', which cannot be written: No such file"):
        export_table(engine, file_format="csv", output="no/prices.csv")
    assert not list(Path().glob("*prices*"))


def test_a_failed_export_leaves_the_earlier_file(job: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    job("initialize", as_of="2013-03-02", symbols="IBM", sessions=2)
    before = export(engine)
    monkeypatch.setattr("utils.read_table", lambda *_, **__: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        export(engine)

    with Path("prices.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == before
    assert [path.name for path in Path().glob("*prices*")] == ["prices.csv"]


def test_the_command_writes_to_standard_output(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], engine: Engine
) -> None:
    job("initialize", as_of="2013-03-02", symbols="IBM", sessions=2)
    capsysbinary.readouterr()
    monkeypatch.setattr("sys.argv", ["main.py", "export", "--format", "csv", "--output", "-", "--symbols", "IBM"])

    assert main.main() == 0

    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines[0] == HEADER
    assert len(lines) == 1 + len(rows(engine, "SELECT * FROM stock_data"))
