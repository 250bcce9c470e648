"""Sites to test the market's pages with: real jobs and the real publisher make them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from config import Settings
from domain.calendar import next_session
from domain.clock import Deadline, SystemClock
from domain.errors import CredentialsError
from domain.models import EVERY_SYMBOL, PRICE_COLUMNS, JobType, Request, Split
from pipeline.context import RunContext
from pipeline.jobs import run_job
from pipeline.site import publish_site
from sandbox.bars import TICKS_PER_DOLLAR, recorded_bars, synthetic_bars
from sandbox.history import PriceHistory
from sandbox.server import Fault, MarketServer
from tests.support.filled_market import FilledMarket
from tests.support.world import sqlite_engine
from web.target import FolderTarget

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
FIRST, SATURDAY = date(2012, 11, 16), date(2013, 3, 2)
SPLIT = Split("AAPL", date(2013, 1, 17), split_from=1, split_to=2)


def recorded_site(folder: Path) -> Path:
    """Publish the five recorded symbols after three months of jobs, and return the folder.

    AAPL splits, a bar of IBM is corrected, one of FB rejected, and a session of GOOG is left out. All prices end as
    they were recorded.
    """
    history = PriceHistory.recorded()
    _split_apple(history)
    with sqlite_engine() as engine, MarketServer(history, today=SATURDAY) as market:
        provider = {"polygon_base_url": market.url, "polygon_api_key": market.key, "polygon_calls_per_minute": 0}
        context = _context(engine, **provider)

        def run(job_type: JobType, today: date, *, symbols: Sequence[str] = SYMBOLS, start: date | None = None) -> None:
            market.today = today
            run_job(Request(job_type, tuple(symbols), today, start=start), context)

        run("initialize", date(2013, 1, 16), start=FIRST)
        history.put_bar("IBM", date(2013, 2, 1), open=204.65, high=205.35, low=203.84, close=204, volume=3_000_000)
        run("daily_update", date(2013, 2, 5))
        history.put_bar("IBM", date(2013, 2, 1), open=204.65, high=205.35, low=203.84, close=205.18, volume=3_370_700)
        run("daily_update", date(2013, 2, 6))
        history.put_bar("FB", date(2013, 2, 14), open=27.4, high=27.1, low=27.6, close=27.5, volume=35_000_000)
        run("daily_update", date(2013, 2, 19))
        run("initialize", SATURDAY, start=date(2013, 2, 20))
        market.fail_next(Fault(status=401))
        with suppress(CredentialsError):
            run("daily_update", SATURDAY)
        run("daily_update", SATURDAY, symbols=[symbol for symbol in SYMBOLS if symbol != "GOOG"])
        publish_site(context, SYMBOLS, SATURDAY, FolderTarget(folder))
    return folder


def _split_apple(history: PriceHistory) -> None:
    """Let AAPL split, and double what it cost before, so that its adjusted prices are those that were recorded."""
    bars = recorded_bars()
    column = bars.columns[SPLIT.symbol]
    for row, session in enumerate(bars.sessions):
        if FIRST <= session < SPLIT.execution_date:
            prices = (2 * bars.prices[:, row, column] / TICKS_PER_DOLLAR).tolist()
            volume = int(bars.volumes[row, column]) // 2
            history.put_bar(SPLIT.symbol, session, **dict(zip(PRICE_COLUMNS, prices, strict=True)), volume=volume)
    history.add_split(SPLIT)


def synthetic_site(folder: Path, symbols: int, sessions: int) -> Path:
    """Publish a synthetic market as of the morning after its last session, and return the folder."""
    with sqlite_engine() as engine:
        last = FilledMarket(engine, synthetic_bars(symbols, sessions)).load(range(sessions))
        publish_site(_context(engine), [EVERY_SYMBOL], next_session(last), FolderTarget(folder))
    return folder


def _context(engine: Engine, **provider: Any) -> RunContext:
    settings = Settings(_env_file=None, site="", **provider)
    return RunContext(settings, engine, Deadline(None, SystemClock()))
