"""Every figure equals an independent calculation in decimal arithmetic, over real and over generated histories."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import sessions_between
from domain.figures import Histories, market_breadth, symbol_figures
from tests.support import figures_oracle
from tests.support.oracle import Bar, adjusted, recorded_bars

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
SPLIT_DAYS = [("AAPL", date(2000, 6, 21)), ("MSFT", date(2003, 2, 18)), ("AAPL", date(2005, 2, 28))]
LISTINGS = [("GOOG", date(2004, 8, 19)), ("FB", date(2012, 5, 18))]
DAYS = sessions_between(date(2011, 1, 3), date(2012, 12, 31))


@lru_cache(maxsize=8)
def recorded(today: date) -> dict[str, list[Bar]]:
    """The recorded histories as they were published on a day."""
    bars = [bar for bar in adjusted(recorded_bars(), today) if bar.session < today]
    return {symbol: sorted(bar for bar in bars if bar.symbol == symbol) for symbol in SYMBOLS}


def histories(of: Sequence[Sequence[Bar]]) -> Histories:
    """The bars of several symbols as the figures take them."""
    bars = [bar for history in of for bar in history]
    code = np.repeat(np.arange(len(of)), [len(history) for history in of])
    numbers = (np.array([float(getattr(bar, name)) for bar in bars]) for name in ("high", "low", "close", "volume"))
    return Histories(code, np.array([bar.session for bar in bars], dtype="datetime64[D]"), *numbers)


def shown(row: dict[Hashable, Any]) -> dict[Hashable, Any]:
    """A row of figures as the independent calculation has it."""

    def plain(name: Hashable, value: Any) -> Any:
        if pd.isna(value):
            return None
        if name in ("first", "last", "cross_date"):
            return value.date()
        if name in ("sessions", "streak", "cross"):
            return value
        return figures_oracle.places(Decimal(repr(float(value))))

    return {name: plain(name, value) for name, value in row.items()}


def check(of: Sequence[Sequence[Bar]]) -> None:
    """Compare the figures of several symbols with the independent ones."""
    for row, history in zip(symbol_figures(histories(of)).to_dict("records"), of, strict=True):
        assert shown(row) == figures_oracle.figures(history), (history[-1].symbol, history[-1].session)


@pytest.mark.parametrize("year", range(2001, 2013))
def test_figures_at_the_turn_of_a_year_equal_decimal_arithmetic(year: int) -> None:
    """The last sessions of a year and the first of the next: 12 years × 3 to 5 symbols × 4 sessions."""
    for day in [
        *sessions_between(date(year - 1, 12, 30), date(year - 1, 12, 31))[-1:],
        date(year, 1, 2),
        date(year, 1, 4),
    ]:
        today = day + timedelta(days=1)
        known = [history for history in recorded(today).values() if history]
        check(known)


@pytest.mark.parametrize(("symbol", "day"), SPLIT_DAYS)
@pytest.mark.parametrize("offset", [-1, 0, 1, 2, 30, 300])
def test_figures_around_a_split_equal_decimal_arithmetic(symbol: str, day: date, offset: int) -> None:
    check([recorded(day + timedelta(days=offset))[symbol]])


@pytest.mark.parametrize(("symbol", "listed"), LISTINGS)
def test_figures_of_a_new_listing_equal_decimal_arithmetic(symbol: str, listed: date) -> None:
    """Whatever its length: each window is full for the first time at one of these."""
    history = recorded(date(2013, 3, 2))[symbol]
    for length in (1, 2, 5, 6, 14, 15, 16, 19, 20, 21, 22, 49, 50, 51, 62, 64, 199):
        check([history[:length]])
    longer = [length for length in (200, 201, 252, 253, 254, 300) if length <= len(history)]
    check([history[:length] for length in longer or [len(history)]])
    assert history[0].session == listed


def test_figures_of_random_days_equal_decimal_arithmetic() -> None:
    everything = recorded(date(2013, 3, 2))
    choose = random.Random(17)
    for _ in range(30):
        chosen = [everything[symbol] for symbol in SYMBOLS]
        check([history[: choose.randint(1, min(len(history), 1_500))] for history in chosen])


def walk(name: str, moves: Sequence[int], *, start: int = 500, halts: Sequence[int] = ()) -> list[Bar]:
    """A history of cents by their moves; a symbol is halted in some sessions."""
    level, bars = start, []
    for n, (day, move) in enumerate(zip(DAYS, moves, strict=False)):
        level = max(level + move, 1)
        if n not in halts:
            high, low, close = level + 2 + n % 3, max(level - 1, 1), level
            open_, high_, low_, close_ = (Decimal(cents) / 100 for cents in (close, high, low, close))
            bars.append(Bar(name, day, open_, high_, low_, close_, Decimal(1_000 + (n * 7919) % 500)))
    return bars


@pytest.mark.parametrize(
    ("moves", "index"),
    [([1] * 30, 100), ([0] * 30, 50), ([-1] * 30, 0), ([0] * 29 + [1], 100), ([0] * 29 + [-1], 0), ([1, -1] * 15, 50)],
)
def test_relative_strength_where_gains_or_losses_lack(moves: list[int], index: int) -> None:
    history = walk("AAA", [0, *moves])
    check([history])
    if moves != [1, -1] * 15:
        assert symbol_figures(histories([history]))["rsi_14"].item() == index


def test_equal_averages_are_no_cross() -> None:
    """A price that never moves crosses nothing, and a touch without passing does not either."""
    flat, up = walk("AAA", [0] * 300), walk("BBB", [0] * 260 + [1] * 40)
    table = symbol_figures(histories([flat, up]))
    assert table["cross"].isna().all()
    check([flat, up])


def test_golden_and_death_cross_are_dated() -> None:
    golden = walk("AAA", [-1] * 230 + [3] * 60, start=2_000)
    death = walk("BBB", [1] * 230 + [-3] * 60, start=2_000)
    table = symbol_figures(histories([golden, death]))
    assert table["cross"].tolist() == ["golden", "death"]
    check([golden, death])


def life(seed: int, length: int, spread: int, halted: int) -> list[Bar]:
    """A random history; one number decides it."""
    chance = random.Random(seed)
    moves = [chance.randint(-spread, spread) for _ in range(length)]
    return walk("AAA", moves, halts=sorted({chance.randrange(length) for _ in range(halted)} - {0}))


lives = st.tuples(
    st.integers(0, 10_000), st.integers(1, 420), st.sampled_from([0, 1, 3, 40]), st.sampled_from([0, 0, 1, 30])
)


@hypothesis.settings(max_examples=40)
@given(st.lists(lives, min_size=1, max_size=4))
def test_figures_of_any_histories_equal_decimal_arithmetic(given: list[tuple[int, int, int, int]]) -> None:
    check([life(*each) for each in given])


@hypothesis.settings(max_examples=40)
@given(st.lists(lives, min_size=1, max_size=4), st.data())
def test_breadth_of_any_histories_equals_decimal_arithmetic(
    given: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    of = [life(*each) for each in given]
    table = market_breadth(histories(of))
    for day in data.draw(st.lists(st.sampled_from(table.index.tolist()), min_size=1, max_size=6)):
        assert table.loc[day].to_dict() == figures_oracle.breadth(of, day.date())


@pytest.mark.parametrize(
    "day", [date(2004, 8, 19), date(2008, 10, 10), date(2009, 3, 9), date(2012, 12, 31), date(2013, 3, 1)]
)
def test_breadth_of_the_recorded_market_equals_decimal_arithmetic(day: date) -> None:
    known = [history for history in recorded(day + timedelta(days=1)).values() if history]
    assert market_breadth(histories(known)).loc[pd.Timestamp(day)].to_dict() == figures_oracle.breadth(known, day)


def test_breadth_of_parts_adds_up_to_that_of_all() -> None:
    known = list(recorded(date(2013, 3, 2)).values())
    parts = pd.concat([market_breadth(histories([history])) for history in known]).groupby(level=0).sum()
    pd.testing.assert_frame_equal(parts, market_breadth(histories(known)))
