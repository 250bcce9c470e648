"""Recorded months and years, updated one morning after another, end as one load at the end would."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import Engine

from domain.calendar import sessions_between
from sandbox.server import MarketServer
from tests.conftest import Job
from tests.support import oracle
from tests.support.tables import rows, stock_data

SYMBOLS = ["AAPL", "MSFT"]
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("database_url", "first", "last"),
    [
        pytest.param("sqlite", date(2000, 5, 22), date(2000, 7, 14), id="AAPL split on 2000-06-21"),
        pytest.param("postgresql", date(2003, 1, 21), date(2003, 3, 14), id="MSFT split on 2003-02-18", marks=SLOW),
        pytest.param("postgresql", date(2005, 2, 1), date(2005, 4, 8), id="AAPL split on 2005-02-28"),
    ],
    indirect=["database_url"],
)
def test_a_daily_update_each_morning_for_weeks_equals_one_load_at_the_end(
    job: Job, market: MarketServer, engine: Engine, first: date, last: date
) -> None:
    update_each_morning(job, market, engine, first, last)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("database_url", "first", "last"),
    [
        ("sqlite", date(2000, 3, 1), date(2006, 12, 29)),
        ("postgresql", date(2002, 12, 2), date(2005, 6, 30)),
    ],
    indirect=["database_url"],
)
def test_a_daily_update_each_morning_for_years_equals_one_load_at_the_end(
    job: Job, market: MarketServer, engine: Engine, first: date, last: date
) -> None:
    update_each_morning(job, market, engine, first, last)


def update_each_morning(job: Job, market: MarketServer, engine: Engine, first: date, last: date) -> None:
    """Load the first session, update on the morning after each other one, and account for every row and call."""
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
    # Each morning makes one call for splits and a range call per symbol: two symbols, and up to four sessions, the new
    # one and those that are not settled yet. On the morning after a split one of them restates a history.
    mornings = len(sessions) - 1
    assert dict(market.calls) == {"splits": mornings, "range": 2 * mornings}
    assert [line.partition(":")[0][:4] for line in restated] == [split[0] for split in splits]
    covered = (
        "SELECT symbol, min(first_session), max(last_session), count(*) FROM coverage GROUP BY symbol ORDER BY symbol"
    )
    for (symbol, begin, end, ranges), expected in zip(rows(engine, covered), SYMBOLS, strict=True):
        assert (symbol, str(begin), str(end)) == (expected, str(first), str(last))
        assert ranges <= 3 + (last - first).days / 90  # a handful per year
    assert not rows(engine, "SELECT * FROM bar_revisions WHERE cause <> 'restated'")
