"""The prices in a notebook: frames of both libraries, in any folder, beside modules of any name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sqlalchemy import Engine

from stock_tracker import LoadError, load
from storage.engine import database_time, transaction
from tests.conftest import Job
from tests.support.tables import stock_data

ROOT = Path(__file__).parents[2]
COLUMNS = ["date", "symbol", "open", "high", "low", "close", "volume", "volatility", "rolling_avg", "daily_pct_change"]

# What does not depend on the database: each call starts a process.
ON_ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def filled(job: Job, engine: Engine) -> Engine:
    """A database of the settings with 6 sessions of two symbols."""
    job("initialize", as_of="2013-03-02", symbols="IBM,AAPL", sessions=6)
    return engine


def test_a_frame_has_the_rows_of_the_table_with_real_timestamps(filled: Engine) -> None:
    frame = load()

    assert list(frame.columns) == COLUMNS
    assert frame["date"].dtype.kind == "M"
    assert frame["volume"].dtype == np.int64
    assert {frame[name].dtype for name in COLUMNS[2:] if name != "volume"} == {np.dtype(np.float64)}
    for row, stored in zip(frame.itertuples(index=False), stock_data(filled), strict=True):
        assert (row.symbol, row.date) == (stored.symbol, pd.Timestamp(stored.session))
        for name in COLUMNS[2:]:
            value, expected = getattr(row, name), getattr(stored, name)
            assert np.isnan(value) if expected is None else value == float(expected)


@ON_ONE
def test_symbols_and_sessions_are_chosen(filled: Engine) -> None:
    frame = load("IBM", start=date(2013, 2, 27), end=pd.Timestamp("2013-02-28"))

    assert [*frame["symbol"]] == ["IBM", "IBM"]
    assert [*frame["date"].dt.strftime("%Y-%m-%d")] == ["2013-02-27", "2013-02-28"]
    assert len(load("IBM", start="2020-01-01")) == 0


@ON_ONE
def test_a_wide_frame_has_a_row_per_session(filled: Engine) -> None:
    tidy, wide = load(), load(wide=True)

    assert isinstance(wide.index, pd.DatetimeIndex)
    assert [*wide["close"].columns] == ["AAPL", "IBM"]
    for symbol in ("AAPL", "IBM"):
        assert [*wide["close"][symbol]] == [*tidy[tidy["symbol"] == symbol]["close"]]


@ON_ONE
def test_polars_has_the_same_rows(filled: Engine) -> None:
    frame, wide = load(as_polars=True), load(as_polars=True, wide=True)

    assert frame.schema["date"] == pl.Datetime("us")
    pd.testing.assert_frame_equal(pd.DataFrame(frame.to_dict(as_series=False)), load(), check_dtype=False)
    assert wide["close_IBM"].to_list() == frame.filter(pl.col("symbol") == "IBM")["close"].to_list()
    assert wide["date"].is_sorted()


@ON_ONE
def test_an_earlier_moment_is_what_was_known_then(job: Job, engine: Engine) -> None:
    job("initialize", as_of="2013-03-01", symbols="IBM", sessions=6)
    with transaction(engine) as connection:
        moment = database_time(connection)
    job("daily_update", as_of="2013-03-02", symbols="IBM")

    assert (len(load(known_at=moment)), len(load())) == (6, 7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"start": "soon"}, "start is 'soon'; valid is an ISO date such as 2026-03-02"),
        pytest.param(
            {"start": "2013-03-01", "end": "2013-02-01"},
            "start is 2013-03-01, which is after end, 2013-02-01",
            marks=pytest.mark.slow,
        ),
        ({"known_at": datetime(2013, 3, 1)}, "known_at is '2013-03-01T00:00:00'; valid is a moment with its zone"),
        pytest.param(
            {"known_at": datetime(2013, 3, 1, tzinfo=UTC)},
            "known_at is 2013-03-01T00:00:00+00:00, before the first load",
            marks=pytest.mark.slow,
        ),
        ({"url": "sqlite:///none.db"}, "SQLite file {here}/none.db has no tables yet: run initialize first"),
        pytest.param({"url": "mysql://x"}, "DATABASE_URL names 'mysql'; valid is", marks=pytest.mark.slow),
    ],
)
@ON_ONE
def test_what_is_wrong_is_one_line(filled: Engine, tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadError) as raised:
        load(**arguments)
    assert str(raised.value).startswith(said.format(here=tmp_path))
    assert str(raised.value).isprintable()


@ON_ONE
def test_an_unknown_symbol_is_named(filled: Engine) -> None:
    with pytest.raises(LoadError, match=r"^symbols has 'NOPE', of which nothing was ever stored$"):
        load("IBM", "NOPE")


@ON_ONE
def test_a_list_of_symbols_is_taken_as_well(filled: Engine) -> None:
    assert set(load(["IBM"])["symbol"]) == {"IBM"}


@ON_ONE
def test_polars_is_asked_for_in_one_line(filled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(LoadError, match=r"^as_polars is True, and polars is not installed: pip install polars$"):
        load(as_polars=True)


class TestBesideOtherModules:
    """A notebook's folder with modules that are called like those of the project."""

    @pytest.fixture
    def notebook(self, job: Job, sqlite_url: str, tmp_path: Path) -> Path:
        """A folder with a ``utils.py`` and a ``config.py``, and a database named by a relative path."""
        folder = tmp_path / "notebook"
        folder.mkdir()
        for name in ("utils", "config"):
            (folder / f"{name}.py").write_text("OWNER = 'the notebook'\n")
        return folder

    @pytest.fixture
    def database_url(self, sqlite_url: str) -> str:
        """SQLite alone: the database makes no difference here."""
        return sqlite_url

    @pytest.mark.parametrize("order", ["own modules first", "own modules last"])
    @ON_ONE
    def test_neither_replaces_the_other(self, notebook: Path, job: Job, engine: Engine, order: str) -> None:
        job("initialize", as_of="2013-03-02", symbols="IBM", sessions=6)
        engine.dispose()
        shutil.copy(str(engine.url.database), notebook / "mine.db")
        own = ["import utils", "import config"]
        ours = [
            f"sys.path.append({str(ROOT)!r})",
            "import stock_tracker",
            "prices = stock_tracker.load('IBM', url='sqlite:///mine.db')",
        ]
        lines = [*own, *ours] if order == "own modules first" else [*ours, *own]
        (notebook / "notebook.py").write_text(
            "\n".join(["import sys", *lines, "print(len(prices), utils.OWNER, config.OWNER, 'storage' in sys.modules)"])
        )

        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(notebook)}
        done = subprocess.run(
            [sys.executable, "notebook.py"], cwd=notebook, env=environment, capture_output=True, text=True, timeout=120
        )

        assert (done.stdout, done.stderr) == ("6 the notebook the notebook False\n", "")


@ON_ONE
def test_in_the_projects_folder_it_needs_no_line(filled: Engine) -> None:
    program = "import stock_tracker; print(len(stock_tracker.load('IBM')))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("6\n", "")
