"""The prices of one symbol, as values and on a terminal."""

from __future__ import annotations

import io
import json
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from domain.errors import DataError, DeliveryError
from domain.models import Split
from entrypoints.prices import SymbolPrices, read_prices, save_picture, show_prices
from lambda_main import run_context
from pipeline.context import RunContext
from sandbox.server import MarketServer
from tests.conftest import Job


@pytest.fixture
def context(job: Job) -> RunContext:
    """A database with 6 sessions of IBM and GOOG up to 2013-02-28."""
    job("initialize", symbols="IBM,GOOG", sessions=6, as_of="2013-03-01")
    return run_context(None)


def printed(context: RunContext, symbol: str, width: int = 80) -> str:
    """What a terminal of this width shows."""
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    show_prices(screen, *read_prices(context.engine, symbol, 20))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_bars_have_the_columns_and_values_of_the_table(context: RunContext) -> None:
    prices, bars = read_prices(context.engine, "IBM", 2)

    assert prices["bars"][-1] == {
        "date": "2013-02-28",
        "symbol": "IBM",
        "open": 202.18,
        "high": 203.123,
        "low": 200.79,
        "close": 200.83,
        "volume": 4689200,
        "volatility": 1.161679,
        "rolling_avg": 200.18,
        "daily_pct_change": -0.741363,
    }
    assert (len(prices["bars"]), len(bars)) == (2, 2)
    assert json.loads(json.dumps(prices)) == prices


def test_a_metric_that_is_not_known_yet_is_null_in_json_and_a_dash_on_a_terminal(context: RunContext) -> None:
    prices, _ = read_prices(context.engine, "IBM", 20)

    assert (prices["bars"][0]["rolling_avg"], prices["bars"][0]["daily_pct_change"]) == (None, None)
    assert "2013-02-21  198.63  199.07  198.11  198.33       –    3.9M  0.48%       –" in printed(context, "IBM")


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_date_and_close_are_shown_at_any_width(context: RunContext, width: int) -> None:
    screen = printed(context, "IBM", width)

    assert "2013-02-28" in screen
    assert "200.83" in screen
    assert max(map(len, screen.splitlines())) <= width


def test_what_became_of_the_bars_is_told(context: RunContext, job: Job, market: MarketServer) -> None:
    market.history.put_bar("IBM", date(2013, 2, 27), open=198.89, high=203, low=198.6, close=202.9, volume=1)
    market.history.put_bar("IBM", date(2013, 3, 1), open=200, high=1, low=190, close=202, volume=1)
    job("daily_update", symbols="IBM,GOOG", as_of="2013-03-02")

    prices, _ = read_prices(context.engine, "IBM", 20)

    assert [(change["session"], change["cause"]) for change in prices["changes"]] == [("2013-02-27", "corrected")]
    assert [bar["session"] for bar in prices["rejected"]] == ["2013-03-01"]
    screen = printed(context, "IBM")
    assert "IBM 2013-02-27 corrected as of 2013-03-02" in screen
    assert "2013-03-01 was rejected: " in screen


def test_a_split_is_told(context: RunContext, job: Job, market: MarketServer) -> None:
    market.history.add_split(Split("IBM", date(2013, 3, 1), 1, 2))
    job("daily_update", symbols="IBM,GOOG", as_of="2013-03-02")

    prices, _ = read_prices(context.engine, "IBM", 20)

    assert prices["splits"] == [{"date": "2013-03-01", "split_from": 1, "split_to": 2, "is_adjusted": True}]
    assert "Split on 2013-03-01: 1 for 2; stored history is adjusted." in printed(context, "IBM")


@pytest.mark.parametrize(
    ("symbol", "advice"),
    [("ibm", "did you mean IBM?"), ("GOG", "did you mean GOOG?"), ("ZZZZ", "stored are GOOG, IBM")],
)
def test_an_unknown_symbol_is_named_with_those_that_look_like_it(context: RunContext, symbol: str, advice: str) -> None:
    with pytest.raises(DataError, match=f"^'{symbol}' is not stored in .*; {advice.replace('?', '[?]')}$"):
        read_prices(context.engine, symbol, 5)


def test_an_empty_database_says_what_to_run(job: Job) -> None:
    with pytest.raises(DataError, match="holds no prices yet: run initialize first"):
        read_prices(run_context(None).engine, "IBM", 5)


def test_a_picture_that_nobody_draws_is_an_error_and_leaves_no_file(context: RunContext, tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="no chart for IBM"):
        save_picture(context.engine, "IBM", url="http://127.0.0.1:9/chart", folder=tmp_path / "pictures")

    assert not (tmp_path / "pictures").exists()


def test_json_holds_every_key_of_its_type(context: RunContext) -> None:
    prices, _ = read_prices(context.engine, "GOOG", 1)

    assert prices.keys() == SymbolPrices.__annotations__.keys()
