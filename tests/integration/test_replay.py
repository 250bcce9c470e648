"""Recorded years, lived through one morning after another, end as one load at the end does."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import Engine

from sandbox.market import MarketServer
from sessions import sessions_between
from tests import independent
from tests.conftest import Job
from tests.database_rows import rows, stock_data

FIRST, LAST = date(2000, 3, 1), date(2006, 12, 29)
SYMBOLS = ["AAPL", "MSFT"]


def test_a_daily_update_each_morning_of_seven_years_equals_one_load_at_the_end(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    """AAPL and MSFT through the splits of 2000-06-21, 2003-02-18 and 2005-02-28; every call is accounted for."""
    sessions = sessions_between(FIRST, LAST)
    market.today = sessions[0] + timedelta(days=1)
    job("initialize", symbols=SYMBOLS, start=str(FIRST), as_of=str(market.today))
    assert dict(market.calls) == {"grouped": 1}
    market.reset_calls()

    restated = []
    for session in sessions[1:]:
        market.today = session + timedelta(days=1)
        result = job("daily_update", symbols=SYMBOLS, as_of=str(market.today))
        assert result["status"] == "ok"
        restated += result["splits"]

    chosen = [bar for bar in independent.recorded_bars() if bar.symbol in SYMBOLS and FIRST <= bar.session <= LAST]
    assert stock_data(engine) == independent.table(independent.adjusted(chosen, market.today))
    # A morning asks once for splits and once for both symbols' bars. On the three mornings after a split, the symbol
    # that split is fetched again whole, which brings its missing session too: the other one comes by a range call.
    mornings = len(sessions) - 1
    assert dict(market.calls) == {"splits": mornings, "grouped": mornings - 3, "range": 6}
    assert [line.partition(":")[0][:4] for line in restated] == ["AAPL", "MSFT", "AAPL"]
    assert rows(engine, "SELECT symbol, first_session, last_session FROM coverage ORDER BY symbol") == [
        (symbol, *(str(day) if engine.dialect.name == "sqlite" else day for day in (FIRST, LAST))) for symbol in SYMBOLS
    ]
