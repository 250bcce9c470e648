"""Metrics equal exact decimal arithmetic, whatever the prices, their order and what is stored already."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import oracle
from tests.support.oracle import Bar
from transformations import add_metrics, clean, compute_metrics, last_closes, weekly_performance

DAY = date(2020, 1, 1)
NUMBERS = ("open", "high", "low", "close", "volume")
EMPTY = pd.DataFrame({"symbol": pd.Series(dtype="str"), "date": pd.Series(dtype="datetime64[s]"), "close": []})

prices = st.decimals(Decimal("0.1"), Decimal(500_000), places=4) | st.decimals(Decimal("0.1"), Decimal(9), places=4)
# Closes of n * 2^k cents make exact ties at the sixth decimal: 0.01 / 1.28 * 100 = 0.78125, / 12.8 = 0.078125 …
ties = st.builds(lambda n, k: Decimal(n * 2**k) / 100, st.integers(1, 9), st.integers(7, 14))


def bars_of(histories: dict[str, list[tuple[Decimal, Decimal]]]) -> list[Bar]:
    """Bars of the given closes and spreads, one per day."""
    return [
        Bar(symbol, DAY + timedelta(days=n), close, close + spread, close, close, Decimal(100))
        for symbol, history in histories.items()
        for n, (close, spread) in enumerate(history)
    ]


def frame(bars: list[Bar]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": pd.Series([bar.symbol for bar in bars], dtype="str"),
            "date": np.array([bar.session for bar in bars], dtype="datetime64[s]"),
            **{
                name: [float(getattr(bar, name)) for bar in bars] for name in ("open", "high", "low", "close", "volume")
            },
        }
    )


def values(rows: pd.DataFrame, name: str) -> list[Decimal | None]:
    return [None if pd.isna(value) else Decimal(repr(float(value))) for value in rows[name]]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["A", "BRK.B", "ZZ"]),
        st.lists(st.tuples(prices | ties, st.sampled_from([Decimal("0.01"), Decimal("0.07"), Decimal(0)])), max_size=9),
    ),
    st.randoms(),
)
def test_metrics_equal_exact_decimals_in_any_order(histories: dict[str, Any], random: Any) -> None:
    bars = bars_of(histories)
    expected = oracle.table(bars)
    random.shuffle(bars)

    rows, dependents, is_stored = add_metrics(clean(frame(bars)), EMPTY)

    for name in ("volatility", "rolling_avg", "daily_pct_change"):
        assert values(rows, name) == [getattr(row, name) for row in expected]
    assert dependents.empty
    assert not is_stored.any()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(prices, st.just(Decimal(1))), min_size=6, max_size=16), st.data())
def test_a_late_bar_restates_exactly_what_depends_on_it(history: list[Any], data: Any) -> None:
    bars = bars_of({"A": history})
    late = data.draw(st.integers(0, len(bars) - 1))
    stored = bars[max(late - 4, 0) : late] + bars[late + 1 : late + 5]

    rows, dependents, is_stored = add_metrics(clean(frame([bars[late]])), frame(stored)[["symbol", "date", "close"]])

    expected = oracle.table(bars)
    assert values(rows, "rolling_avg") == [expected[late].rolling_avg]
    assert values(rows, "daily_pct_change") == [expected[late].daily_pct_change]
    after = expected[late + 1 : late + 5]
    assert [stamp.date() for stamp in dependents["date"]] == [row.session for row in after]
    assert values(dependents, "rolling_avg") == [row.rolling_avg for row in after]
    assert values(dependents, "daily_pct_change") == [row.daily_pct_change for row in after]
    assert not is_stored.any()


@given(st.dictionaries(st.sampled_from(["A", "BRK.B", "ZZ"]), st.lists(st.booleans(), max_size=9)), st.randoms())
def test_the_last_closes_are_those_of_new_bars_and_of_stored_ones_without_one(
    histories: dict[str, list[bool]], random: Any
) -> None:
    """True is a stored session that a new bar replaces; of the others, the older half is stored and the rest is new."""
    stored, new = list[Bar](), list[Bar]()
    for symbol, history in histories.items():
        for n, is_replaced in enumerate(history):
            bar = Bar(symbol, DAY + timedelta(days=n), *[Decimal(n + 1)] * 5)
            if is_replaced or n < len(history) // 2:
                stored.append(bar._replace(close=Decimal(99)) if is_replaced else bar)
            if is_replaced or n >= len(history) // 2:
                new.append(bar)
    random.shuffle(stored)

    closes = last_closes(frame(stored)[["symbol", "date", "close"]], clean(frame(new)))

    expected = {symbol: list(range(1, len(history) + 1))[-4:] for symbol, history in histories.items() if history}
    assert {str(symbol): rows.tolist() for symbol, rows in closes.groupby("symbol")["close"]} == expected


def test_a_bar_that_is_stored_already_is_counted_and_replaced() -> None:
    bars = bars_of({"A": [(Decimal(n), Decimal(1)) for n in (10, 11, 12)]})

    rows, dependents, is_stored = add_metrics(clean(frame(bars[1:])), frame(bars[:2])[["symbol", "date", "close"]])

    assert is_stored.tolist() == [True, False]
    assert values(rows, "daily_pct_change") == [Decimal(10), Decimal("9.090909")]
    assert dependents.empty


def test_metrics_are_right_across_the_blocks_they_are_computed_in() -> None:
    rng = np.random.default_rng(1)
    closes = np.round(rng.uniform(1, 900, 40_000), 2)
    code = np.repeat(np.arange(40), 1_000)

    volatility, average, change = compute_metrics(code, closes + 1, closes, closes)

    for i in [
        0,
        4,
        5,
        999,
        1_000,
        1_003,
        1_004,
        *rng.integers(0, 40_000, 200).tolist(),
        16_383,
        16_384,
        16_385,
        39_999,
    ]:
        close = [Decimal(repr(float(price))) for price in closes[max(i - 4, 0) : i + 1]]
        in_symbol = i % 1_000
        assert Decimal(repr(float(volatility[i]))) == _rounded(
            (Decimal(repr(float(closes[i] + 1))) - close[-1]) / close[-1] * 100
        )
        assert np.isnan(average[i]) if in_symbol < 4 else Decimal(repr(float(average[i]))) == _rounded(sum(close) / 5)
        if in_symbol == 0:
            assert np.isnan(change[i])
        else:
            assert Decimal(repr(float(change[i]))) == _rounded((close[-1] - close[-2]) / close[-2] * 100)


def _rounded(value: Any) -> Decimal:
    return Decimal(value).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)


def test_an_adopted_price_of_zero_or_null_gives_no_change_instead_of_an_error() -> None:
    close = np.array([0.0, 5.0, np.nan, 5.0])

    bars = frame(bars_of({"A": [(Decimal(5), Decimal(0))] * 5})[4:])
    stored = frame(bars_of({"A": [(Decimal(1), Decimal(0))] * 4})).assign(close=close)

    rows, _, _ = add_metrics(clean(bars), stored[["symbol", "date", "close"]])
    zero, _, _ = add_metrics(clean(bars), stored.iloc[:1][["symbol", "date", "close"]])

    assert values(rows, "rolling_avg") == [None]  # one of the five is NULL
    assert values(rows, "daily_pct_change") == [Decimal(0)]
    assert values(zero, "daily_pct_change") == [None]


@pytest.mark.parametrize(("received", "stored"), [(25_933.6, 25_934), (2.5, 2), (3.5, 4), (0.0, 0)])
def test_volume_is_rounded_to_the_nearest_share(received: float, stored: int) -> None:
    bars = frame(bars_of({"A": [(Decimal(1), Decimal(0))]})).assign(volume=received)

    assert clean(bars)["volume"].tolist() == [stored]
    assert clean(bars)["volume"].dtype == np.int64


def test_weekly_performance_is_ordered_by_return_and_exact() -> None:
    history = frame(bars_of({"A": [(Decimal(100 + n), Decimal(2)) for n in range(8)]}))
    other = frame(bars_of({"B": [(Decimal(50), Decimal(1))] * 7 + [(Decimal(75), Decimal(1))]}))
    quiet = frame(bars_of({"C": [(Decimal(9), Decimal(1))] * 3}))
    table = pd.concat([history, other, quiet], ignore_index=True).assign(volatility=2.0)

    week = weekly_performance(table, pd.Timestamp(DAY + timedelta(days=3)))

    assert week["symbol"].tolist() == ["B", "A"]  # C did not trade in the week
    best, worst = week.to_dict("records")
    assert best["return_pct"] == 50.0  # (75 - 50) / 50
    assert best["range_pct"] == 52.0  # (76 - 50) / 50
    assert (worst["open"], worst["close"], worst["sessions"]) == (103.0, 107.0, 5)
    assert worst["return_pct"] == pytest.approx(float(Decimal(400) / 103))
    assert worst["closes"] == [100.0 + n for n in range(8)]
    assert worst["volume_ratio"] == 1.0


def test_a_week_without_trades_has_no_rows() -> None:
    nothing = pd.concat([frame([]), pd.DataFrame({"volatility": []})], axis=1)

    assert weekly_performance(nothing, pd.Timestamp(DAY)).empty


def test_metrics_of_the_recorded_prices_equal_decimal_arithmetic() -> None:
    bars = oracle.adjusted(oracle.recorded_bars(), date(2013, 3, 2))
    expected = oracle.table(bars)

    rows, dependents, is_stored = add_metrics(clean(frame(bars)), EMPTY)

    for name in ("volatility", "rolling_avg", "daily_pct_change"):
        wanted = [np.nan if getattr(row, name) is None else float(getattr(row, name)) for row in expected]
        np.testing.assert_array_equal(rows[name].to_numpy(), wanted)
    assert (len(dependents), is_stored.any()) == (0, False)


@pytest.mark.parametrize(
    ("previous", "close", "change"),
    [
        ("128", "128.0001", "7.8e-05"),  # 0.000078125
        ("6400", "6400.0001", "2e-06"),  # 0.0000015625
        ("20000", "20000.0001", "0.0"),  # 0.0000005, a tie: to the even 0
        ("20000", "20000.0003", "2e-06"),  # 0.0000015, a tie: to the even 2
        ("20000", "20000.0005", "2e-06"),  # 0.0000025, a tie: to the even 2
        ("20000", "19999.9999", "0.0"),  # a tie, and never a negative zero
        ("500000", "499999.9999", "0.0"),  # -0.00000002
        ("20000", "19999.9997", "-2e-06"),
        ("20000", "19999.9995", "-2e-06"),
        ("0.0001", "500000", "499999999900.0"),
        ("500000", "0.0001", "-100.0"),
        ("3", "5", "66.666667"),
    ],
)
def test_a_change_is_rounded_half_to_even(previous: str, close: str, change: str) -> None:
    bars = bars_of({"A": [(Decimal(previous), Decimal(0)), (Decimal(close), Decimal(0))]})

    rows, _, _ = add_metrics(clean(frame(bars)), EMPTY)

    assert repr(float(rows["daily_pct_change"].iloc[1])) == change


def test_only_stored_bars_after_a_new_one_of_their_symbol_are_dependents() -> None:
    bars = bars_of({symbol: [(Decimal(n), Decimal(1)) for n in range(10, 20)] for symbol in "CAB"})
    new = [bar for bar in bars if bar.symbol == "A" and bar.close in (12, 15)]
    stored = frame([bar for bar in bars if bar not in new])[["symbol", "date", "close"]]

    _, dependents, is_stored = add_metrics(clean(frame(new)), stored.sample(frac=1, random_state=1))

    expected = [row for row in oracle.table(bars) if row.symbol == "A" and row.close in (13, 14, 16, 17, 18, 19)]
    assert set(dependents["symbol"]) == {"A"}
    assert [stamp.date() for stamp in dependents["date"]] == [row.session for row in expected]
    assert values(dependents, "rolling_avg") == [row.rolling_avg for row in expected]
    assert values(dependents, "daily_pct_change") == [row.daily_pct_change for row in expected]
    assert not is_stored.any()


def test_a_bar_before_all_others_moves_the_nulls_back() -> None:
    bars = bars_of({"A": [(Decimal(n), Decimal(1)) for n in range(10, 17)]})

    rows, dependents, _ = add_metrics(clean(frame(bars[:1])), frame(bars[1:])[["symbol", "date", "close"]])

    assert values(rows, "daily_pct_change") == values(rows, "rolling_avg") == [None]
    assert values(dependents, "rolling_avg") == [None, None, None, 12, 13, 14]


def test_no_bars_have_no_metrics_and_restate_nothing() -> None:
    stored = frame(bars_of({"A": [(Decimal(1), Decimal(0))] * 9}))[["symbol", "date", "close"]]

    for neighbors in (EMPTY, stored):
        rows, dependents, is_stored = add_metrics(clean(frame([])), neighbors)
        assert (len(rows), len(dependents), len(is_stored)) == (0, 0, 0)
        assert {"volatility", "rolling_avg", "daily_pct_change"} <= set(rows.columns)


def test_the_week_of_the_recorded_prices_equals_exact_arithmetic() -> None:
    every = oracle.table(oracle.adjusted(oracle.recorded_bars(), date(2013, 3, 2)))
    symbols = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    rows = {symbol: [row for row in every if row.symbol == symbol][-30:] for symbol in symbols}
    kept = [row for symbol in symbols for row in rows[symbol]]
    table = frame([Bar(*row[:6], Decimal(row.volume)) for row in kept]).assign(
        volatility=[float(row.volatility) for row in kept]
    )

    performance = weekly_performance(table, pd.Timestamp("2013-02-25"))

    returns = {}
    for line in performance.to_dict("records"):
        week = rows[line["symbol"]][-5:]
        first, last = week[0].open, week[-1].close
        high, low = max(row.high for row in week), min(row.low for row in week)
        volume, usual = sum(row.volume for row in week) / 5, sum(row.volume for row in rows[line["symbol"]]) / 30
        returns[line["symbol"]] = (last - first) / first
        assert [line[name] for name in ("open", "close", "high", "low")] == [float(p) for p in (first, last, high, low)]
        assert (line["sessions"], line["closes"]) == (5, [float(row.close) for row in rows[line["symbol"]]])
        assert line["return_pct"] == pytest.approx(float((last - first) / first * 100), rel=1e-12)
        assert line["range_pct"] == pytest.approx(float((high - low) / low * 100), rel=1e-12)
        assert line["avg_volatility"] == pytest.approx(float(sum(row.volatility for row in week) / 5), rel=1e-12)
        assert (line["volume"], line["volume_ratio"]) == pytest.approx((volume, volume / usual), rel=1e-12)
    assert list(returns) == sorted(symbols, key=lambda symbol: -returns[symbol])


def test_equal_returns_are_ordered_by_symbol_and_no_volume_has_no_ratio() -> None:
    bars = bars_of({symbol: [(Decimal(10), Decimal(1))] * 2 for symbol in "BA"})
    table = frame(sorted(bars)).assign(volatility=1.0, volume=0.0)

    performance = weekly_performance(table, pd.Timestamp(DAY))

    assert performance["symbol"].tolist() == ["A", "B"]
    assert performance["volume_ratio"].isna().all()


def test_bars_after_a_withdrawn_one_get_the_metrics_of_a_history_without_it() -> None:
    bars = bars_of({"A": [(Decimal(n), Decimal(1)) for n in (10, 11, 12, 14, 15, 17)]})
    stored = frame(bars)[["symbol", "date", "close"]]
    withdrawn = np.array([False, True, False, False, False, False])

    rows, dependents, _ = add_metrics(clean(frame([])), stored, withdrawn)

    assert len(rows) == 0
    expected = [row for row in oracle.table(bars[:1] + bars[2:]) if row.session > bars[1].session]
    assert dependents["daily_pct_change"].tolist() == [float(row.daily_pct_change or 0) for row in expected]
    assert dependents["date"].dt.date.tolist() == [row.session for row in expected]
