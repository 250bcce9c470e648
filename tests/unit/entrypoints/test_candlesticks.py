"""Candlesticks of characters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoints.candlesticks import FALL, RISE, draw_candles


def bars_of(*prices: tuple[float, float, float, float]) -> pd.DataFrame:
    """Bars of consecutive days with these opens, highs, lows and closes."""
    bars = pd.DataFrame(prices, columns=["open", "high", "low", "close"], dtype=float)
    return bars.assign(date=pd.date_range("2013-01-02", periods=len(prices)), volume=range(1, len(prices) + 1))


def test_a_body_reaches_from_open_to_close_and_a_wick_from_low_to_high() -> None:
    lines = draw_candles(bars_of((2.5, 4, 0, 1.5), (1.5, 3.5, 1.5, 3.5)), width=40, height=4)

    marks = [line.plain[6:] for line in lines[:4]]
    assert marks == ["│ █", "▒ █", "▒ █", "│  "]
    assert {str(span.style) for span in lines[1].spans} >= {RISE, FALL}


def test_prices_stand_beside_the_rows_and_volume_and_dates_below() -> None:
    *_, volume, dates = draw_candles(bars_of(*[(1, 2, 1, 2)] * 20), width=80, height=4)

    assert volume.plain.split()[::19] == ["▁", "█"]
    assert len(volume.plain.split()) == 20
    assert dates.plain.split() == ["2013-01-02", "2013-01-21"]


@pytest.mark.parametrize("bars", [bars_of(), bars_of((np.nan, 2, 1, 2))], ids=["no bars", "no open"])
def test_what_cannot_be_drawn_is_left_out(bars: pd.DataFrame) -> None:
    assert draw_candles(bars, width=80, height=5) == []


def test_prices_that_are_all_the_same_are_drawn_in_the_middle() -> None:
    lines = draw_candles(bars_of((5, 5, 5, 5)), width=80, height=5)

    assert [line.plain[-1] for line in lines[:5]] == [" ", " ", "█", " ", " "]


@given(
    prices=st.lists(st.tuples(*[st.floats(1e-6, 1e6)] * 4), min_size=1, max_size=90),
    width=st.integers(1, 120),
    height=st.integers(1, 30),
)
def test_no_line_is_wider_than_the_terminal_and_every_row_has_one(
    prices: list[tuple[float, ...]], width: int, height: int
) -> None:
    candles = [
        (opened, max(opened, closed, a, b), min(opened, closed, a, b), closed) for opened, a, b, closed in prices
    ]

    lines = draw_candles(bars_of(*candles), width=width, height=height)

    assert len(lines) in (0, height + 2)
    assert all(line.cell_len <= width for line in lines)
