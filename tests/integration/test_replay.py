"""Recorded years, lived through one morning after another, end as one load at the end does."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import Engine

from domain.calendar import sessions_between
from sandbox.server import MarketServer
from tests.conftest import Job
from tests.support import oracle
from tests.support.tables import rows, stock_data

# All that is recorded of both, and on the slower PostgreSQL the years around two of their three splits.
YEARS = {
    "sqlite": (date(2000, 3, 1), date(2006, 12, 29)),
    "postgresql": (date(2002, 12, 2), date(2005, 6, 30)),
}
SYMBOLS = ["AAPL", "MSFT"]


def test_a_daily_update_each_morning_for_years_equals_one_load_at_the_end(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    """AAPL and MSFT through the splits of 2000-06-21, 2003-02-18 and 2005-02-28; every call is accounted for."""
    first, last = YEARS[engine.dialect.name]
    splits = [split for split in oracle.SPLITS if first < split[1] <= last]
    sessions = sessions_between(first, last)
    market.today = sessions[0] + timedelta(days=1)
    job("initialize", symbols=SYMBOLS, start=str(first), as_of=str(market.today))
    assert dict(market.calls) == {"grouped": 1}
    market.reset_calls()

    restated = []
    for session in sessions[1:]:
        market.today = session + timedelta(days=1)
        result = job("daily_update", symbols=SYMBOLS, as_of=str(market.today))
        assert result["status"] == "ok"
        restated += result["splits"]

    chosen = [bar for bar in oracle.recorded_bars() if bar.symbol in SYMBOLS and first <= bar.session <= last]
    assert stock_data(engine) == oracle.table(oracle.adjusted(chosen, market.today))
    # A morning asks once for splits and once for both symbols' bars. On the mornings after a split, the symbol
    # that split is fetched again whole, which brings its missing session too: the other one comes by a range call.
    mornings = len(sessions) - 1
    assert dict(market.calls) == {"splits": mornings, "grouped": mornings - len(splits), "range": 2 * len(splits)}
    assert [line.partition(":")[0][:4] for line in restated] == [split[0] for split in splits]
    assert rows(engine, "SELECT symbol, first_session, last_session FROM coverage ORDER BY symbol") == [
        (symbol, *(str(day) if engine.dialect.name == "sqlite" else day for day in (first, last))) for symbol in SYMBOLS
    ]
