"""The market page from the tables to the files that a browser reads: true, whole, and no more written than changed."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, text

import main
import utils
import web.assets
from config import settings
from domain.calendar import sessions_between
from domain.errors import DataError, DeliveryError
from domain.models import Split
from lambda_main import run_context
from pipeline.forget import forget_symbol
from pipeline.site import Publication, publish_site
from sandbox.history import PriceHistory
from sandbox.server import MarketServer
from storage.engine import open_engine
from tests.conftest import SYMBOLS, Job
from tests.support import figures_oracle, oracle
from tests.support.tables import rows
from web.assets import SCRIPT_TAG, STYLE_TAG
from web.files import digest
from web.prices import Sizes
from web.target import FolderTarget, open_target

pytestmark = pytest.mark.in_turn

TODAY = date(2013, 3, 2)
Publish = Callable[..., Publication]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that was built, in place of this machine's."""
    folder = tmp_path / "built"
    folder.mkdir()
    licenses = '<meta name="licenses" content="assets/licenses.txt">'
    (folder / "index.html").write_text(f"<html><head>{licenses}{STYLE_TAG}</head><body>{SCRIPT_TAG}</body></html>")
    for name in ("app.js", "style.css", "licenses.txt"):
        (folder / name).write_text(name)
    monkeypatch.setattr(web.assets, "FOLDER", folder)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def publish(site: Path) -> Publish:
    """A function that publishes what is stored, by default of five symbols as of the recorded Saturday."""

    def run(folder: Path = site, *, symbols: tuple[str, ...] = SYMBOLS, as_of: date = TODAY) -> Publication:
        settings.cache_clear()
        return publish_site(run_context(None), symbols, as_of, FolderTarget(folder))

    return run


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and blocks small enough that five symbols fill several."""
    monkeypatch.setattr("pipeline.market.HISTORY", Sizes(file=60, group=30))
    monkeypatch.setattr("pipeline.market.RECENT", Sizes(file=6, group=6))
    monkeypatch.setattr("pipeline.market.BLOCK_ROWS", 40)
    monkeypatch.setattr("pipeline.market.BLOCK_SYMBOLS", 2)


def index(site: Path) -> Any:
    return json.loads((site / "index.json").read_text())


def document(site: Path, name: str) -> Any:
    return json.loads((site / index(site)["files"][name]["path"]).read_text())


def prices(site: Path) -> pd.DataFrame:
    """All price rows of a site, in the order of its index, as a browser reads them."""
    entries = [*index(site)["files"]["history"], *index(site)["files"]["recent"]]
    frames = [numbers(site / entry["path"]) for entry in entries]
    return pd.concat(frames).sort_values(["symbol", "date"], ignore_index=True)


def numbers(path: Path) -> pd.DataFrame:
    """A Parquet file as the page takes it: whole numbers are millionths, but for those that are counts."""
    table = pq.read_table(path)
    columns = {}
    for name in table.column_names:
        values = table[name].to_pylist()
        scaled = str(table.schema.field(name).type) == "int64" and name not in ("volume", "sessions", "streak")
        columns[name] = [value / 1e6 if scaled and value is not None else value for value in values]
    return pd.DataFrame(columns, dtype=object)


def check_whole(site: Path) -> None:
    """Check that the index names exactly what is there, each file with its size and hash."""
    found = index(site)
    entries = [each for entry in found["files"].values() for each in (entry if isinstance(entry, list) else [entry])]
    for entry in entries:
        path = site / entry["path"]
        assert path.stat().st_size == entry["bytes"]
        assert digest(path) in path.name
    assert sorted(str(path.relative_to(site)) for path in site.glob("data/*")) == sorted(
        each["path"] for each in entries
    )


def data(site: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in site.glob("data/*")}


def age(site: Path) -> None:
    """Let the grace of files that no index names be over."""
    for path in site.rglob("*"):
        os.utime(path, (0, 0))


@pytest.fixture
def demo(job: Job) -> Job:
    """The demo's three jobs, but for the report."""
    job("initialize", as_of="2013-03-01")
    job("daily_update", as_of="2013-03-02")
    return job


def test_every_price_of_the_table_is_published(demo: Job, engine: Engine, publish: Publish, site: Path) -> None:
    publish()
    check_whole(site)
    columns = ["symbol", "date", "open", "high", "low", "close", "volume"]
    columns += ["rolling_avg", "daily_pct_change", "volatility"]
    names = ", ".join(columns)
    stored = rows(engine, f"SELECT {names} FROM stock_data ORDER BY symbol, date")
    shown = prices(site)
    assert len(stored) == len(shown) == 355
    for row, expected in zip(shown[columns].to_dict("records"), stored, strict=True):
        symbol, day, *rest = expected
        assert (row["symbol"], str(row["date"])) == (symbol, str(day)[:10])
        assert list(row.values())[2:] == [None if value is None else float(value) for value in rest]


def test_the_averages_of_the_price_files_are_those_of_the_closes(demo: Job, publish: Publish, site: Path) -> None:
    publish()
    for _, history in prices(site).groupby("symbol"):
        closes = [oracle.Decimal(repr(close)) for close in history["close"]]
        for sessions in (20, 50, 200):
            for end, shown in enumerate(history[f"sma_{sessions}"], start=1):
                if end < sessions:
                    assert pd.isna(shown)
                else:
                    mean = figures_oracle.places(figures_oracle.mean(closes[end - sessions : end]))
                    assert oracle.Decimal(repr(shown)) == mean


def test_the_figures_of_the_demo_equal_decimal_arithmetic(demo: Job, publish: Publish, site: Path) -> None:
    publish()
    table = numbers(site / index(site)["files"]["overview"]["path"])
    bars = oracle.adjusted(oracle.recorded_bars(), TODAY)
    by_symbol = {row["symbol"]: row for row in document(site, "summary")["symbols"]}
    for row in table.to_dict("records"):
        history = sorted(bar for bar in bars if bar.symbol == row["symbol"] and bar.session >= date(2012, 11, 16))
        for name, value in figures_oracle.figures(history).items():
            shown = row[name] if not pd.isna(row[name]) else None
            assert shown == (float(value) if isinstance(value, oracle.Decimal) else value), (row["symbol"], name)
            plain = str(shown) if isinstance(shown, date) else shown
            assert by_symbol[row["symbol"]][name] == plain
        assert by_symbol[row["symbol"]]["spark"] == [float(bar.close) for bar in history[-60:]]


def test_the_demo_shows_the_recorded_market(demo: Job, publish: Publish, site: Path) -> None:
    publication = publish()
    found = index(site)
    assert [found[name] for name in ("version", "as_of", "first", "last", "symbols", "is_demo", "history_end")] == [
        *[1, "2013-03-02", "2012-11-16", "2013-03-01", 5, True, "2013-02-22"]
    ]
    assert found["sessions"] == [str(day) for day in sessions_between(date(2012, 11, 16), date(2013, 3, 1))]
    summary = document(site, "summary")
    assert [row["symbol"] for row in summary["best"]] == ["FB", "IBM", "GOOG"]
    assert [row["symbol"] for row in summary["worst"]] == ["AAPL", "MSFT"]
    assert summary["tiles"]["completeness"] == {"missing": 0, "read_again": 0}
    assert document(site, "calendar")["overall"] == [["s", 68], ["p", 3]]
    state = document(site, "state")
    assert [each["rows"] for each in state["symbols"]] == [71] * 5
    assert [run["job_type"] for run in state["runs"]] == ["daily_update", "initialize"]
    assert state["totals"] == {"symbols": 5, "rows": 355, "missing": 0, "read_again": 0}
    assert publication.single == (site / "market.html").read_bytes()
    inside = re.findall(
        r'<script type="application/json" id="data-([^"]+)">(.*?)</script>', publication.single.decode()
    )
    assert {name for name, _ in inside} == {"index", *(f"data/{path.name}" for path in site.glob("data/*"))}
    assert json.loads(dict(inside)["index"]) == found


def test_two_publications_of_one_state_are_the_same_bytes(
    demo: Job, publish: Publish, site: Path, tmp_path: Path
) -> None:
    publish()
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert publish().written == []
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before
    publish(tmp_path / "other")
    assert data(tmp_path / "other") == data(site)


def test_a_morning_writes_the_recent_prices_only(
    job: Job, market: MarketServer, publish: Publish, site: Path, small_files: None
) -> None:
    market.today = date(2013, 2, 28)  # Thursday: the week before is settled since Wednesday
    job("initialize", as_of="2013-02-28")
    publish(as_of=date(2013, 2, 28))
    held = [entry["path"] for entry in index(site)["files"]["history"]]
    assert len(held) > 2
    market.today = date(2013, 3, 1)
    job("daily_update", as_of="2013-03-01")
    written = publish(as_of=date(2013, 3, 1)).written
    assert [entry["path"] for entry in index(site)["files"]["history"]] == held
    assert not [path for path in written if "history" in path]
    assert [path for path in written if "recent" in path]


@pytest.mark.parametrize("today", [date(2013, 2, 22), date(2013, 2, 28)])
def test_updates_end_in_the_same_files_as_one_publication(
    job: Job, market: MarketServer, publish: Publish, site: Path, tmp_path: Path, small_files: None, today: date
) -> None:
    """Also when another week has settled, and its rows move into the history."""
    market.today = date(2013, 2, 14)
    job("initialize", as_of="2013-02-14")
    publish(as_of=date(2013, 2, 14))
    for day in sessions_between(date(2013, 2, 19), today):
        market.today = day
        job("daily_update", as_of=str(day))
        publish(as_of=day)
    age(site)
    publish(as_of=today)
    publish(tmp_path / "other", as_of=today)
    fresh = data(tmp_path / "other")
    assert {name: content for name, content in data(site).items() if name in fresh} == fresh
    assert index(site)["files"] == index(tmp_path / "other")["files"]


def changed_files(site: Path, publish: Publish) -> tuple[list[str], list[str]]:
    """The first symbols of the history files that a publication keeps and of those that it replaces."""
    before = {entry["path"] for entry in index(site)["files"]["history"]}
    publish()
    after = index(site)["files"]["history"]
    kept = [entry["first_symbol"] for entry in after if entry["path"] in before]
    return kept, [entry["first_symbol"] for entry in after if entry["path"] not in before]


def same_as_fresh(site: Path, publish: Publish, other: Path) -> None:
    """Check that a site shows the prices of one that is published anew."""
    publish(other)
    pd.testing.assert_frame_equal(prices(site), prices(other))
    for name in ("summary", "breadth", "calendar", "overview"):
        assert index(site)["files"][name] == index(other)["files"][name]


def test_a_correction_of_settled_history_rewrites_the_file_of_its_symbol(
    demo: Job, market: MarketServer, publish: Publish, site: Path, tmp_path: Path, small_files: None
) -> None:
    publish()
    market.history.put_bar("GOOG", date(2012, 12, 3), open=690, high=701.5, low=688, close=700.25, volume=1_000)
    demo("initialize", as_of="2013-03-02", symbols="GOOG", start="2012-12-03", end="2012-12-03", force=True)
    kept, replaced = changed_files(site, publish)
    assert replaced == ["GOOG"]
    assert kept
    same_as_fresh(site, publish, tmp_path / "other")
    shown = prices(site).query("symbol == 'GOOG' and date == @day", local_dict={"day": date(2012, 12, 3)})
    assert shown[["close", "volume"]].to_numpy().tolist() == [[700.25, 1_000]]
    (change,) = document(site, "state")["corrections"]
    assert (change["symbol"], change["date"], change["cause"], change["at"]) == (
        *["GOOG", "2012-12-03", "corrected", "2013-03-02"],
    )
    assert (change["from"]["close"], change["to"]["close"]) == (695.25, 700.25)
    assert document(site, "calendar")["symbols"]["GOOG"] == [["s", 10], ["c", 1], ["s", 57], ["p", 3]]


def test_earlier_history_of_a_symbol_rewrites_its_file(
    demo: Job, publish: Publish, site: Path, tmp_path: Path, small_files: None
) -> None:
    publish()
    demo("initialize", as_of="2013-03-02", symbols="IBM", start="2012-10-01", end="2012-11-15")
    _, replaced = changed_files(site, publish)
    assert "IBM" in replaced
    assert "AAPL" not in replaced
    same_as_fresh(site, publish, tmp_path / "other")


def test_a_new_symbol_joins_the_file_of_its_range(
    job: Job, publish: Publish, site: Path, tmp_path: Path, small_files: None
) -> None:
    job("initialize", as_of="2013-03-02", symbols="AAPL,MSFT")
    publish()
    job("initialize", as_of="2013-03-02", symbols="AAA,FB")
    publish()
    same_as_fresh(site, publish, tmp_path / "other")
    assert list(prices(site)["symbol"].unique()) == ["AAPL", "FB", "MSFT"]


def test_a_new_symbol_without_settled_history_changes_no_history_file(
    job: Job, publish: Publish, site: Path, tmp_path: Path, small_files: None
) -> None:
    job("initialize", as_of="2013-03-02", symbols="AAPL,MSFT")
    publish()
    job("initialize", as_of="2013-03-02", symbols="FB,IBM", sessions=3)
    kept, replaced = changed_files(site, publish)
    assert (kept, replaced) == (["AAPL", "MSFT"], [])
    same_as_fresh(site, publish, tmp_path / "other")


def test_a_forgotten_symbol_leaves_the_site(
    demo: Job, engine: Engine, publish: Publish, site: Path, tmp_path: Path, small_files: None
) -> None:
    publish()
    forget_symbol(engine, "GOOG", tmp_path / "GOOG.csv")
    publish(symbols=("AAPL", "FB", "IBM", "MSFT"))
    assert list(prices(site)["symbol"].unique()) == ["AAPL", "FB", "IBM", "MSFT"]
    assert index(site)["symbols"] == 4


@pytest.mark.parametrize("damage", ["cut", "lost", "changed"])
def test_a_damaged_history_file_is_made_anew(
    demo: Job, publish: Publish, site: Path, tmp_path: Path, small_files: None, damage: str
) -> None:
    publish()
    whole = data(site)
    path = site / index(site)["files"]["history"][0]["path"]
    content = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(content[:-20] if damage == "cut" else content[:100] + b"x" + content[101:])
    publish()
    if damage == "lost":
        assert data(site) == whole
    same_as_fresh(site, publish, tmp_path / "other")


def test_rejected_bars_are_shown(job: Job, market: MarketServer, publish: Publish, site: Path) -> None:
    market.history.put_bar("FB", date(2013, 2, 27), open=27, high=20, low=26, close=27, volume=1)
    job("initialize", as_of="2013-03-02", sessions=30)
    publish()
    (bar,) = document(site, "state")["rejected"]
    assert (bar["symbol"], bar["date"]) == ("FB", "2013-02-27")
    assert bar["reason"]
    assert json.loads(bar["bar"])["h"] == 20
    assert ["r", 1] in document(site, "calendar")["symbols"]["FB"]


def test_a_split_is_shown_once_and_its_restated_history_as_one_correction(
    job: Job, market: MarketServer, engine: Engine, publish: Publish, site: Path
) -> None:
    market.today = date(2013, 2, 20)
    job("initialize", as_of="2013-02-20")
    market.history.add_split(Split("IBM", date(2013, 2, 21), split_from=1, split_to=2))
    market.today = TODAY
    job("daily_update", as_of="2013-03-02")
    publish()
    assert rows(engine, "SELECT cause, count(*) FROM bar_revisions GROUP BY cause") == [("restated", 70)]
    state = document(site, "state")
    assert state["splits"] == [{"symbol": "IBM", "date": "2013-02-21", "split_from": 1, "split_to": 2}]
    (change,) = state["corrections"]
    assert (change["symbol"], change["date"], change["cause"], change["bars"]) == ("IBM", "2013-02-19", "restated", 70)
    assert change["to"]["close"] == pytest.approx(change["from"]["close"] / 2)


def test_what_is_missing_is_told(demo: Job, engine: Engine, publish: Publish, site: Path) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM coverage WHERE symbol = 'IBM'"))
        connection.execute(text("DELETE FROM stock_data WHERE symbol = 'IBM' AND date >= '2013-02-25'"))
    publish(symbols=(*SYMBOLS, "NVDA"))
    lines = document(site, "calendar")["symbols"]
    assert lines["IBM"] == [["m", 71]]
    assert lines["NVDA"] == [["m", 71]]
    missing = {each["symbol"]: each["missing"] for each in document(site, "state")["symbols"]}
    assert (missing["IBM"], missing["NVDA"], missing["AAPL"]) == (71, 71, 0)
    assert document(site, "summary")["tiles"]["completeness"]["missing"] == 142


@pytest.fixture
def whole_market(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    from lambda_main import handler

    with MarketServer(PriceHistory.synthetic(230, 30, end=date(2013, 3, 1)), today=TODAY) as server:
        variables = {"DATABASE_URL": database_url, "POLYGON_BASE_URL": server.url, "POLYGON_API_KEY": server.key}
        for name, value in {**variables, "POLYGON_CALLS_PER_MINUTE": "0", "SYMBOLS": "*"}.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        yield lambda job_type, **payload: handler({"job_type": job_type, **payload})


def test_the_whole_market_has_its_calendar_and_no_single_file(whole_market: Job, publish: Publish, site: Path) -> None:
    whole_market("initialize", as_of="2013-03-02", sessions=25)
    publication = publish(symbols=("*",))
    assert publication.single is None
    assert not (site / "market.html").exists()
    assert index(site)["symbols"] == 230
    assert document(site, "calendar") == {"overall": [["s", 22], ["p", 3]], "symbols": {}}
    assert "symbols" not in document(site, "summary")
    assert document(site, "state")["symbols"] == []
    assert len(prices(site)) == 230 * 25


def test_a_symbol_of_the_market_that_did_not_trade_has_a_line_of_its_own(
    whole_market: Job, engine: Engine, publish: Publish, site: Path
) -> None:
    whole_market("initialize", as_of="2013-03-02", sessions=5)
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM stock_data WHERE symbol = 'SYN00007' AND CAST(date AS TEXT) LIKE '2013-02-26%'")
        )
    publish(symbols=("*",))
    assert document(site, "calendar")["symbols"] == {"SYN00007": [["s", 1], ["n", 1], ["p", 3]]}


def test_nothing_stored_is_an_error_that_writes_nothing(job: Job, publish: Publish, site: Path) -> None:
    with pytest.raises(DataError, match=r"holds no prices yet: run initialize first$"):
        publish()
    assert not site.exists()


def test_a_page_that_was_not_built_is_an_error_that_writes_nothing(
    demo: Job, publish: Publish, site: Path, built: Path
) -> None:
    (built / "app.js").unlink()
    with pytest.raises(DeliveryError, match="make site-assets"):
        publish()
    assert not site.exists()


def test_rows_that_only_somebody_else_can_have_stored_are_published(
    demo: Job, engine: Engine, publish: Publish, site: Path
) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE stock_data SET close = NULL WHERE symbol = 'FB' AND CAST(date AS TEXT) LIKE '2012-12-03%'")
        )
        connection.execute(
            text("UPDATE stock_data SET close = 0 WHERE symbol = 'FB' AND CAST(date AS TEXT) LIKE '2012-12-04%'")
        )
        connection.execute(text("UPDATE stock_data SET high = NULL, volume = NULL WHERE symbol = 'IBM'"))
        connection.execute(
            text(
                "UPDATE stock_data SET low = 1.23456789 WHERE symbol = 'GOOG' AND CAST(date AS TEXT) LIKE '2012-12-04%'"
            )
        )
        connection.execute(text("UPDATE stock_data SET close = NULL WHERE symbol = 'AAPL'"))
    publish()
    by_symbol = {row["symbol"]: row for row in document(site, "summary")["symbols"]}
    assert sorted(by_symbol) == ["FB", "GOOG", "IBM", "MSFT"]
    assert by_symbol["FB"]["sessions"] == 69
    assert by_symbol["IBM"]["high_52w"] is None
    shown = prices(site)
    assert 1.23456789 in set(shown[shown["symbol"] == "GOOG"]["low"])
    assert len(shown) == 355


def test_publishing_sees_one_moment(
    demo: Job, database_url: str, publish: Publish, site: Path, monkeypatch: pytest.MonkeyPatch, small_files: None
) -> None:
    """What is committed while the tables are read is left for the next publication."""
    read = utils.read_table

    def commit_meanwhile(*arguments: Any, **options: Any) -> pd.DataFrame:
        found = read(*arguments, **options)
        other = open_engine.__wrapped__(database_url)
        with other.begin() as connection:
            connection.execute(text("UPDATE stock_data SET volume = 1"))
        other.dispose()
        return found

    monkeypatch.setattr(utils, "read_table", commit_meanwhile)
    publish()
    assert 1 not in set(prices(site)["volume"])


class TestJobs:
    """The step of the jobs."""

    @pytest.fixture
    def placed(self, job: Job, site: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
        monkeypatch.setenv("SITE", str(site))
        settings.cache_clear()
        job("initialize", as_of="2013-03-01")
        return job

    def test_an_update_and_a_report_publish(self, placed: Job, site: Path) -> None:
        assert not site.exists()
        result = placed("daily_update", as_of="2013-03-02")
        assert (result["site"], result["warnings"]) == (str(site), [])
        assert [run["status"] for run in document(site, "state")["runs"]] == ["ok", "ok"]
        result = placed("weekly_report", as_of="2013-03-02")
        assert result["site"] == str(site)
        assert document(site, "state")["runs"][0]["job_type"] == "weekly_report"

    def test_a_dry_run_publishes_nothing(self, placed: Job, site: Path) -> None:
        assert "site" not in placed("daily_update", as_of="2013-03-02", dry_run=True)
        assert not site.exists()

    def test_what_keeps_it_from_being_published_is_a_warning(self, placed: Job, site: Path, engine: Engine) -> None:
        site.write_text("a file is in the way")
        result = placed("daily_update", as_of="2013-03-02")
        assert result["status"] == "ok"
        (warning,) = result["warnings"]
        assert warning.startswith(
            f"the market page was not published: the folder '{site}' cannot be read: Not a directory"
        )
        assert rows(engine, "SELECT status FROM job_runs ORDER BY started_at") == [("ok",), ("ok",)]

    def test_without_the_built_page_the_job_warns(self, placed: Job, built: Path) -> None:
        (built / "index.html").unlink()
        (warning,) = placed("daily_update", as_of="2013-03-02")["warnings"]
        assert warning == f"the market page was not published: {web.assets.MISSING}"

    def test_the_report_links_to_the_page(self, placed: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SITE_URL", "https://market.example.com/here/")
        settings.cache_clear()
        result = placed("weekly_report", as_of="2013-03-02")
        assert result["site"] == "https://market.example.com/here"
        page = Path(result["files"][0]).read_text(encoding="utf-8")
        assert 'href="https://market.example.com/here/"' in page
        assert 'href="https://market.example.com/here/market.html"' in page


def test_a_bucket_is_published_like_a_folder(
    demo: Job, publish: Publish, site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import boto3
    from moto import mock_aws

    publish()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="market")
        target = open_target("s3://market/here")
        for written in (len(list(site.rglob("*.*"))), 0):
            settings.cache_clear()
            assert len(publish_site(run_context(None), SYMBOLS, TODAY, target).written) == written
        for path in site.glob("*/*.*"):
            assert target.read(str(path.relative_to(site))) == path.read_bytes()
        assert target.read("index.html") == (site / "index.html").read_bytes()


class TestCommand:
    """``main.py site``."""

    @pytest.fixture
    def command(self, demo: Job, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
        for name in ("POLYGON_BASE_URL", "POLYGON_API_KEY", "SYMBOLS"):  # as a person's settings are after the demo
            monkeypatch.delenv(name)

        def run(*arguments: str) -> tuple[int, str, str]:
            monkeypatch.setattr(sys, "argv", ["main.py", "site", *arguments])
            settings.cache_clear()
            capfd.readouterr()
            return main.main(), *capfd.readouterr()

        return run

    def test_it_publishes_into_the_outbox(self, command: Command) -> None:
        status, out, err = command()
        assert (status, err) == (0, "")
        assert out == "outbox/market: 5 symbols, 13 files written\nopen outbox/market.html\n"
        assert index(Path("outbox/market"))["as_of"] == "2013-03-02"
        assert Path("outbox/market.html").read_bytes() == Path("outbox/market/market.html").read_bytes()

    def test_it_publishes_where_the_setting_says(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SITE", "public")
        assert command()[1].startswith("public: 5 symbols")
        assert command("--output", "here")[1].startswith("here: 5 symbols")
        assert index(Path("public"))["files"] == index(Path("here"))["files"]

    def test_it_serves_the_page_until_interrupted(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        pages = []

        def visit(url: str) -> bool:
            with urllib.request.urlopen(url, timeout=10) as answer:
                pages.append((url, answer.read()))
            raise KeyboardInterrupt

        monkeypatch.setattr(webbrowser, "open", visit)
        status, out, _ = command("--open")
        assert status == 0
        ((url, page),) = pages
        assert page == Path("outbox/market/index.html").read_bytes()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        assert out.endswith(f"open {url} (Ctrl-C stops the server)\nStopped.\n")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (
                ("--output", "https://example.com"),
                "--output is 'https://example.com': valid is a folder, s3://bucket or",
            ),
            (("--output", "s3://market", "--open"), "--open is 's3://market': valid is with a folder: name one with"),
        ],
    )
    def test_what_is_not_valid_is_named(self, command: Command, arguments: tuple[str, ...], error: str) -> None:
        status, out, err = command(*arguments)
        assert (status, out) == (2, "")
        assert err.startswith(f"error: {error}")
        assert err.count("\n") == 1

    def test_a_page_that_was_not_built_is_one_line(self, command: Command, built: Path) -> None:
        (built / "app.js").unlink()
        assert command() == (1, "", f"error: {web.assets.MISSING}\n")
