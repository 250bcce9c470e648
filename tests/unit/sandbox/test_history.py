import csv
import gzip
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.models import Split
from sandbox.bars import RECORDED_FILE, recorded_bars, synthetic_bars
from sandbox.history import PriceHistory, exists, scaled

AFTER_ALL = date(2013, 3, 2)
NUMBERS = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 100}


@pytest.fixture(scope="module")
def source() -> list[dict[str, str]]:
    with gzip.open(RECORDED_FILE, "rt", encoding="ascii", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def history() -> PriceHistory:
    return PriceHistory.recorded()


def moment(bar: dict[str, int]) -> str:
    return datetime.fromtimestamp(bar["t"] / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def test_the_file_holds_the_bars_its_readme_says(source):
    assert len(source) == 12_154
    assert Counter(row["symbol"] for row in source) == {
        "AAPL": 3270,
        "FB": 196,
        "GOOG": 2148,
        "IBM": 3270,
        "MSFT": 3270,
    }
    first = {row["symbol"]: row["date"] for row in reversed(source)}
    assert first == dict.fromkeys(("AAPL", "IBM", "MSFT"), "2000-03-01") | {"FB": "2012-05-18", "GOOG": "2004-08-19"}
    assert {row["symbol"]: row["date"] for row in source} == dict.fromkeys(first, "2013-03-01")
    assert source == sorted(source, key=lambda row: (row["symbol"], row["date"]))
    readme = (Path(RECORDED_FILE).parent / "README.md").read_text(encoding="utf-8")
    assert "12,154" in readme
    assert "public domain" in readme


def test_recorded_prices_come_out_as_the_decimals_they_were_recorded_as(source, history):
    served = {
        (symbol, moment(bar)[:10]): tuple(Decimal(str(bar[key])) for key in "ohlcv")
        for symbol in history.symbols
        for bar in history.range_bars(symbol, date.min, date.max, adjusted=False, today=AFTER_ALL)
    }
    fields = ("open", "high", "low", "close", "volume")
    assert served == {(r["symbol"], r["date"]): tuple(Decimal(r[name]) for name in fields) for r in source}


def test_recorded_knows_its_symbols_sessions_and_splits(history):
    assert history.symbols == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert (history.first, history.last) == (date(2000, 3, 1), date(2013, 3, 1))
    assert history.splits == [
        Split("AAPL", date(2000, 6, 21), 1, 2),
        Split("MSFT", date(2003, 2, 18), 1, 2),
        Split("AAPL", date(2005, 2, 28), 1, 2),
    ]


def test_a_range_bar_is_stamped_with_the_midnight_that_starts_it_across_a_change_of_clocks(history):
    bars = history.range_bars("MSFT", date(2005, 4, 1), date(2005, 4, 4), adjusted=True, today=AFTER_ALL)
    assert [bar["t"] for bar in bars] == [1112331600000, 1112587200000]
    assert [moment(bar) for bar in bars] == ["2005-04-01 05:00", "2005-04-04 04:00"]


def test_a_grouped_bar_is_stamped_with_the_close_that_ends_it_across_a_change_of_clocks(history):
    def end(session: date) -> str:
        return moment(history.grouped_bars(session, adjusted=True, today=AFTER_ALL)[0])

    assert end(date(2005, 4, 1)) == "2005-04-01 21:00"
    assert end(date(2005, 4, 4)) == "2005-04-04 20:00"
    history.put_bar("IBM", date(2020, 10, 14), **NUMBERS)
    (bar,) = history.grouped_bars(date(2020, 10, 14), adjusted=True, today=date(2020, 10, 15))
    assert bar["t"] == 1602705600000


def test_both_calls_tell_the_same_of_a_bar(history):
    session = date(2004, 9, 1)
    for grouped in history.grouped_bars(session, adjusted=True, today=AFTER_ALL):
        symbol = grouped.pop("T")
        (single,) = history.range_bars(symbol, session, session, adjusted=True, today=AFTER_ALL)
        assert {**grouped, "t": 0} == {**single, "t": 0}
        assert set(single) == {"v", "vw", "o", "c", "h", "l", "t", "n"}


@pytest.mark.parametrize(
    ("symbol", "session", "ratio"),
    [
        ("AAPL", date(2000, 6, 20), 4),
        ("AAPL", date(2000, 6, 21), 2),
        ("AAPL", date(2005, 2, 25), 2),
        ("AAPL", date(2005, 2, 28), 1),
        ("MSFT", date(2003, 2, 14), 2),
        ("MSFT", date(2003, 2, 18), 1),
        ("IBM", date(2000, 3, 1), 1),
    ],
)
def test_adjusted_divides_prices_and_multiplies_volume_by_every_later_split(history, symbol, session, ratio):
    (raw,) = history.range_bars(symbol, session, session, adjusted=False, today=AFTER_ALL)
    (bar,) = history.range_bars(symbol, session, session, adjusted=True, today=AFTER_ALL)
    for key in ("o", "h", "l", "c", "vw"):
        assert Decimal(str(bar[key])) == round(Decimal(str(raw[key])) / ratio, 6)
    assert bar["v"] == raw["v"] * ratio
    assert (bar["n"], bar["t"]) == (raw["n"], raw["t"])


def test_a_split_restates_history_from_its_execution_date_on_and_not_before(history):
    eve = date(2005, 2, 25)

    def close(today: date) -> float:
        return history.range_bars("AAPL", eve, eve, adjusted=True, today=today)[0]["c"]

    assert close(date(2005, 2, 27)) == 88.99
    assert close(date(2005, 2, 28)) == 44.495


def test_a_reverse_split_makes_volume_fractional(history):
    history.add_split(Split("IBM", date(2013, 2, 28), 3, 1))
    session = date(2013, 2, 27)
    (raw,) = history.range_bars("IBM", session, session, adjusted=False, today=AFTER_ALL)
    (bar,) = history.range_bars("IBM", session, session, adjusted=True, today=AFTER_ALL)
    assert Decimal(str(bar["v"])) == round(Decimal(raw["v"]) / 3, 6)
    assert Decimal(str(bar["c"])) == Decimal(str(raw["c"])) * 3


@given(value=st.decimals(0, 10**9, places=4), old=st.integers(1, 50), new=st.integers(1, 50))
def test_scaling_is_exact_to_six_decimals(value, old, new):
    result = scaled(float(value), old, new)
    assert abs(Decimal(str(result)) - value * old / new) <= Decimal("0.0000005001")


@pytest.mark.parametrize("value", [None, "abc", True, float("inf")])
def test_what_is_no_number_is_not_scaled(value):
    assert scaled(value, 1, 2) is value


@pytest.mark.parametrize("value", [1e300, -1e300, 5e-324])
def test_any_finite_number_can_be_scaled(value):
    assert float(str(scaled(value, 1, 2))) == pytest.approx(value / 2, abs=1e-6)


def test_split_ratios_are_positive():
    with pytest.raises(ValueError, match="0 into 2"):
        Split("IBM", date(2013, 1, 2), 0, 2)


def test_a_session_exists_from_the_next_day_on(history):
    session = date(2013, 2, 28)
    assert not exists(session, session)
    assert exists(session, date(2013, 3, 1))
    assert history.grouped_bars(session, adjusted=True, today=session) == []
    assert history.range_bars("IBM", session, session, adjusted=True, today=session) == []
    assert len(history.grouped_bars(session, adjusted=True, today=date(2013, 3, 1))) == 5
    assert len(history.range_bars("IBM", session, date(2013, 3, 1), adjusted=True, today=date(2013, 3, 1))) == 1


def test_a_day_without_trading_and_an_unknown_symbol_have_no_bars(history):
    assert history.grouped_bars(date(2013, 2, 18), adjusted=True, today=AFTER_ALL) == []
    assert history.range_bars("ibm", date.min, date.max, adjusted=True, today=AFTER_ALL) == []
    assert history.range_bars("FB", date.min, date(2012, 5, 17), adjusted=True, today=AFTER_ALL) == []


def test_splits_between_includes_both_ends_and_hides_what_is_to_come(history):
    def between(first: date, last: date, today: date = AFTER_ALL, **more: object) -> list[str]:
        return [split.symbol for split in history.splits_between(first, last, today=today, **more)]

    assert between(date(2000, 6, 21), date(2005, 2, 28)) == ["AAPL", "MSFT", "AAPL"]
    assert between(date(2000, 6, 22), date(2005, 2, 27)) == ["MSFT"]
    assert between(date.min, date.max, symbols={"AAPL", "IBM"}) == ["AAPL", "AAPL"]
    assert between(date.min, date.max, today=date(2003, 2, 17)) == ["AAPL"]
    assert between(date.min, date.max, today=date(2003, 2, 18)) == ["AAPL", "MSFT"]


def test_put_bar_corrects_and_adds_in_order(history):
    history.put_bar("IBM", date(2013, 2, 27), **NUMBERS)
    history.put_bar("IBM", date(2013, 3, 4), **NUMBERS | {"open": Decimal("10.5")})
    history.put_bar("BRK.B", date(2013, 2, 28), **NUMBERS)
    bars = history.range_bars("IBM", date(2013, 2, 26), date.max, adjusted=True, today=date(2013, 3, 5))
    assert [bar["o"] for bar in bars] == [198.63, 10.0, 202.18, 200.65, 10.5]
    assert "vw" not in bars[1]
    grouped = history.grouped_bars(date(2013, 2, 28), adjusted=True, today=AFTER_ALL)
    assert [bar["T"] for bar in grouped] == ["AAPL", "BRK.B", "FB", "GOOG", "IBM", "MSFT"] == history.symbols
    assert history.last == date(2013, 3, 4)


def test_malformed_values_pass_through_splits_as_they_are(history):
    session = date(2000, 3, 1)
    history.put_bar("AAPL", session, open=None, high="abc", low=-4.0, close=8.0, volume=None)
    (bar,) = history.range_bars("AAPL", session, session, adjusted=True, today=AFTER_ALL)
    assert [bar[key] for key in "ohlcv"] == [None, "abc", -1, 2, None]


def test_remove_bar_takes_it_from_both_calls(history):
    session = date(2013, 2, 28)
    history.remove_bar("IBM", session)
    assert history.range_bars("IBM", session, session, adjusted=True, today=AFTER_ALL) == []
    assert "IBM" not in {bar["T"] for bar in history.grouped_bars(session, adjusted=True, today=AFTER_ALL)}


def test_histories_share_their_tape_but_not_their_changes(history):
    history.put_bar("IBM", date(2013, 2, 28), **NUMBERS)
    history.add_split(Split("IBM", date(2013, 2, 28), 1, 2))
    other = PriceHistory.recorded()
    assert other.range_bars("IBM", date(2013, 2, 28), date.max, adjusted=True, today=AFTER_ALL)[0]["o"] == 202.18
    assert len(other.splits) == 3
    assert not recorded_bars().volumes.flags.writeable


def test_synthetic_is_the_same_for_the_same_seed_only():
    one, same, other = (synthetic_bars(20, 30, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.prices, same.prices)
    assert np.array_equal(one.volumes, same.volumes)
    assert not np.array_equal(one.prices, other.prices)


def test_synthetic_prices_are_plainly_named_and_well_formed():
    arrays = synthetic_bars(300, 40)
    opens, highs, lows, closes = arrays.prices
    assert arrays.symbols[:2] == ("SYN00000", "SYN00001")
    assert (lows <= np.minimum(opens, closes)).all()
    assert (highs >= np.maximum(opens, closes)).all()
    assert arrays.prices.min() >= 100
    assert arrays.volumes.min() >= 0


def test_synthetic_sessions_follow_the_exchange_calendar():
    history = PriceHistory.synthetic(2, 3, end=date(2024, 7, 6))
    bars = history.range_bars("SYN00001", date.min, date.max, adjusted=True, today=date(2024, 7, 7))
    assert [moment(bar)[:10] for bar in bars] == ["2024-07-02", "2024-07-03", "2024-07-05"]
    assert PriceHistory.synthetic(1, 500).last == date(2025, 12, 31)


@pytest.mark.parametrize(("symbols", "sessions"), [(0, 5), (5, 0)])
def test_synthetic_wants_at_least_one_of_each(symbols, sessions):
    with pytest.raises(ValueError, match="at least 1"):
        PriceHistory.synthetic(symbols, sessions)
