"""Every bar that the provider sends is either accepted or rejected with a reason."""

import json
import math
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.calendar import sessions_between
from domain.errors import EnvelopeError
from domain.models import BAR_COLUMNS, RejectedBar
from domain.validation import MAX_JSON, MAX_REJECTED, validate_bars
from transformations import add_metrics, clean

SESSIONS = sessions_between(date(2013, 2, 25), date(2013, 3, 1))
START = {
    session: int(datetime(session.year, session.month, session.day, 5, tzinfo=UTC).timestamp()) * 1000
    for session in SESSIONS
}
END = {session: start + 16 * 3_600_000 for session, start in START.items()}
FRIDAY = SESSIONS[-1]
NO_BARS = pd.DataFrame({"symbol": [], "date": pd.to_datetime([]), "close": []})


def bar(**changes):
    """A good bar of GOOG of Friday with some fields changed, or left out if ``...``."""
    values = {"T": "GOOG", "o": 797.8, "h": 807.14, "l": 796.15, "c": 806.19, "v": 2175400, "t": END[FRIDAY], **changes}
    return {key: value for key, value in values.items() if value is not ...}


def reason(wrong):
    """Why a bar is rejected, alone and in the company of good ones."""
    alone, company = validate_bars([wrong], SESSIONS), validate_bars([bar(T="A"), wrong, bar(T="Z")], SESSIONS)
    for (accepted, rejected), good in ((alone, 0), (company, 2)):
        assert len(accepted) == good
        assert len(rejected) == 1
    assert alone[1] == company[1]
    assert alone[1][0].bar == json.dumps(wrong, sort_keys=True)
    return alone[1][0].reason


class TestAccepted:
    def test_good_bars_become_a_frame_in_the_order_received(self):
        accepted, rejected = validate_bars([bar(), bar(T="AAPL", o=798, v=2.5)], SESSIONS)
        assert rejected == []
        assert list(accepted.columns) == BAR_COLUMNS
        assert accepted["symbol"].tolist() == ["GOOG", "AAPL"]
        assert accepted["date"].tolist() == [pd.Timestamp(FRIDAY)] * 2
        assert accepted["date"].dtype == "datetime64[s]"
        assert accepted["open"].tolist() == [797.8, 798.0]
        assert accepted["volume"].tolist() == [2175400.0, 2.5]
        assert set(accepted[BAR_COLUMNS[2:]].dtypes) == {np.dtype("float64")}

    def test_range_bars_are_stamped_with_the_start_of_their_session(self):
        bars = [bar(T=..., t=START[session]) for session in SESSIONS]
        accepted, rejected = validate_bars(bars, SESSIONS, symbol="GOOG")
        assert rejected == []
        assert accepted["date"].tolist() == [pd.Timestamp(session) for session in SESSIONS]
        assert set(accepted["symbol"]) == {"GOOG"}

    def test_no_bars_are_an_empty_frame(self):
        some, _ = validate_bars([bar()], SESSIONS)
        for wanted in (SESSIONS, []):
            accepted, rejected = validate_bars([], wanted, symbol="GOOG")
            assert (len(accepted), list(accepted.columns), rejected) == (0, BAR_COLUMNS, [])
            assert (accepted.dtypes == some.dtypes).all()

    @pytest.mark.parametrize(
        "changes",
        [
            {"v": 0},
            {"v": 25933.6},
            {"v": 2**62},
            {"o": 1, "h": 1, "l": 1, "c": 1},
            {"o": 0.0001, "h": 0.0001, "l": 0.0001, "c": 0.0001},
            {"o": 4e13, "h": 4.5e13, "l": 3e13, "c": 3.4e13},  # restated by seven reverse splits, as real ones are
            {"o": 550_000.5, "h": 550_001, "l": 549_000, "c": 549_000},
            {"h": 806.19},
            {"l": 797.8},
            {"vw": ..., "n": ...},
            {"vw": None, "n": "many", "otc": True, "x": {"y": []}},
            {"T": "BRK.B"},
            {"T": "KIMpL"},
            {"T": "A" * 10},
        ],
    )
    def test_an_unusual_bar_is_accepted(self, changes):
        accepted, rejected = validate_bars([bar(**changes)], SESSIONS)
        assert (len(accepted), rejected) == (1, [])

    def test_the_frame_is_numbered_from_zero_whatever_was_rejected(self):
        accepted, _ = validate_bars([bar(o=None), bar(T="A"), bar(o=None), bar(T="Z")], SESSIONS)
        assert accepted.index.tolist() == [0, 1]


class TestReasons:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"T": ...}, "its symbol is not text of 1 to 10 ASCII characters"),
            ({"T": None}, "its symbol is not text of 1 to 10 ASCII characters"),
            ({"T": 5}, "its symbol is not text of 1 to 10 ASCII characters"),
            ({"T": ["GOOG"]}, "its symbol is not text of 1 to 10 ASCII characters"),
            ({"T": ""}, "its symbol is not text of 1 to 10 ASCII characters"),
            ({"T": "ABCDEFGHIJK"}, "its symbol is not text of 1 to 10 ASCII characters"),
            ({"t": ...}, "its timestamp is missing or not milliseconds since 1970"),
            ({"t": None}, "its timestamp is missing or not milliseconds since 1970"),
            ({"t": "1362171600000"}, "its timestamp is missing or not milliseconds since 1970"),
            ({"t": -1}, "its timestamp is missing or not milliseconds since 1970"),
            ({"t": 10**13}, "its timestamp is missing or not milliseconds since 1970"),
            ({"t": 10**400}, "its timestamp is missing or not milliseconds since 1970"),
            ({"t": math.nan}, "its timestamp is missing or not milliseconds since 1970"),
            ({"t": True}, "its timestamp is missing or not milliseconds since 1970"),
            ({"t": START[FRIDAY] - 1}, None),  # the end of Thursday, which was asked for too
            ({"t": START[FRIDAY] + 24 * 3_600_000}, "2013-03-02 is not a session that was asked for"),
            ({"t": END[SESSIONS[0]] - 3 * 86_400_000}, "2013-02-22 is not a session that was asked for"),
            ({"t": 0}, "1969-12-31 is not a session that was asked for"),
            ({"o": ...}, "its open is missing or not a number"),
            ({"h": None}, "its high is missing or not a number"),
            ({"l": "796.15"}, "its low is missing or not a number"),
            ({"c": math.nan}, "its close is missing or not a number"),
            ({"o": False}, "its open is missing or not a number"),
            ({"c": [806.19]}, "its close is missing or not a number"),
            ({"c": {"usd": 806.19}}, "its close is missing or not a number"),
            ({"o": 0}, "its open 0.0 is not above 0"),
            ({"h": -807.14}, "its high -807.14 is not above 0"),
            ({"l": 0.0}, "its low 0.0 is not above 0"),
            ({"c": -0.01}, "its close -0.01 is not above 0"),
            ({"l": -math.inf}, "its low -inf is not above 0"),
            ({"h": 1, "l": 2, "o": 1.5, "c": 1.5}, "its high 1.0 is below its low 2.0"),
            ({"h": 806.18}, "its high 806.18 is below its open or close 806.19"),
            ({"o": 810}, "its high 807.14 is below its open or close 810.0"),
            ({"l": 797.81}, "its low 797.81 is above its open or close 797.8"),
            ({"c": 700}, "its low 796.15 is above its open or close 700.0"),
            ({"v": ...}, "its volume is missing or not a number"),
            ({"v": None}, "its volume is missing or not a number"),
            ({"v": "many"}, "its volume is missing or not a number"),
            ({"v": math.nan}, "its volume is missing or not a number"),
            ({"v": -1}, "its volume -1.0 is not a count of shares"),
            ({"v": math.inf}, "its volume inf is not a count of shares"),
            ({"v": 2**63}, "its volume 9.223372036854775807e+18 is not a count of shares"),
            ({"v": 10**400}, "its volume inf is not a count of shares"),
        ],
    )
    def test_a_bar_that_breaks_a_rule_is_rejected_with_its_reason(self, changes, expected):
        if expected is None:
            assert validate_bars([bar(**changes)], SESSIONS)[1] == []
        elif "9.22" in expected:
            assert reason(bar(**changes)).startswith("its volume 9.22")
        else:
            assert reason(bar(**changes)) == expected

    @pytest.mark.parametrize("field", ["o", "h", "l", "c", "v", "t"])
    @pytest.mark.parametrize("value", [True, False])
    def test_true_and_false_are_no_numbers_even_among_numbers(self, field, value):
        assert "is missing or not" in reason(bar(**{field: value}))

    @pytest.mark.parametrize("field", ["o", "h", "l", "c", "v", "t"])
    @pytest.mark.parametrize("value", [[], [1.5], [1.5, 2.5], {}, {"a": 1}, "", "1", None])
    def test_no_other_kind_of_value_is_a_number_even_among_numbers(self, field, value):
        assert "is missing or not" in reason(bar(**{field: value}))

    @pytest.mark.parametrize("field", ["o", "h", "l", "c"])
    @pytest.mark.parametrize("value", [math.inf, 10**400])
    def test_an_endless_price_is_rejected(self, field, value):
        assert "inf" in reason(bar(**{field: value}))

    @pytest.mark.parametrize("wrong", [None, 5, "bar", [], True, {}])
    def test_what_is_no_bar_at_all_is_rejected(self, wrong):
        for symbol, expected in ((None, "its symbol is not"), ("GOOG", "its timestamp is missing")):
            accepted, (rejected,) = validate_bars([wrong], SESSIONS, symbol=symbol)
            assert len(accepted) == 0
            assert rejected.reason.startswith(expected)
            assert (rejected.symbol, rejected.date) == ("GOOG" if symbol == "GOOG" else json.dumps(symbol), None)
            assert json.loads(rejected.bar) == wrong

    def test_the_first_rule_that_a_bar_breaks_is_its_reason(self):
        breaks: list[tuple[str, dict]] = [
            ("its symbol is not text", {"T": ""}),
            ("its timestamp is missing", {"t": None}),
            ("its open is missing", {"o": None}),
            ("its high -1.0 is not above 0", {"h": -1}),
            ("its low is missing", {"l": "low"}),
            ("its close 0.0 is not above 0", {"c": 0}),
            ("its volume is missing", {"v": None}),
        ]
        for first in range(len(breaks)):
            changes = {key: value for _, change in breaks[first:] for key, value in change.items()}
            assert reason(bar(**changes)).startswith(breaks[first][0])

    def test_a_session_that_was_not_asked_for_comes_before_its_prices(self):
        assert "is not a session that was asked for" in reason(bar(t=0, o=None, h=None))

    def test_high_below_low_comes_before_high_below_open(self):
        assert reason(bar(h=1)) == "its high 1.0 is below its low 796.15"

    def test_where_nothing_was_asked_for_nothing_is_accepted(self):
        accepted, rejected = validate_bars([bar()], [])
        assert (len(accepted), rejected[0].reason) == (0, "2013-03-01 is not a session that was asked for")

    def test_a_rejected_bar_is_kept_as_it_came(self):
        wrong = bar(o=None, vw=800.123456789, extra="ü")
        _, (rejected,) = validate_bars([wrong], SESSIONS)
        assert rejected == RejectedBar(
            symbol="GOOG",
            date=FRIDAY,
            reason="its open is missing or not a number",
            bar=json.dumps(wrong, sort_keys=True),
        )

    @pytest.mark.parametrize("much", [{"extra": "x" * MAX_JSON}, {"extra": ["ü"] * MAX_JSON}, {"T": "x" * MAX_JSON}])
    def test_of_a_rejected_bar_that_is_too_long_the_size_is_kept(self, much):
        wrong = bar(o=None, **much)
        _, (rejected,) = validate_bars([wrong], SESSIONS)
        assert json.loads(rejected.bar) == f"{len(json.dumps(wrong)):,} characters, too many to keep"
        assert rejected.symbol in ("GOOG", '"20,002 characters, too many to keep"')

    def test_an_answer_with_too_much_to_reject_is_refused(self):
        accepted, rejected = validate_bars([bar(), *[bar(o=None)] * MAX_REJECTED], SESSIONS)
        assert (len(accepted), len(rejected)) == (1, MAX_REJECTED)
        said = "10,001 bars that cannot be stored, more than 10,000: of the first, its open is missing or not a number"
        with pytest.raises(EnvelopeError, match=said):
            validate_bars([bar(), *[bar(o=None)] * (MAX_REJECTED + 1)], SESSIONS)

    def test_a_rejected_range_bar_has_the_symbol_that_was_asked_for(self):
        _, (rejected,) = validate_bars([bar(T=..., o=None)], SESSIONS, symbol="MSFT")
        assert rejected.symbol == "MSFT"

    def test_a_bar_without_a_usable_timestamp_has_no_date(self):
        _, (rejected,) = validate_bars([bar(t=-5)], SESSIONS)
        assert rejected.date is None


class TestRepetition:
    def test_of_two_bars_of_a_session_the_later_one_counts(self):
        accepted, rejected = validate_bars([bar(c=800), bar(T="AAPL"), bar(c=801)], SESSIONS)
        assert accepted[["symbol", "close"]].to_numpy().tolist() == [["AAPL", 806.19], ["GOOG", 801.0]]
        assert [(r.symbol, r.reason) for r in rejected] == [
            ("GOOG", "the provider sent another bar of this symbol and session after it")
        ]
        assert json.loads(rejected[0].bar)["c"] == 800

    def test_a_bad_bar_does_not_replace_a_good_one(self):
        accepted, rejected = validate_bars([bar(c=800), bar(c=None)], SESSIONS)
        assert accepted["close"].tolist() == [800.0]
        assert [r.reason for r in rejected] == ["its close is missing or not a number"]

    def test_start_and_end_of_a_session_are_the_same_session(self):
        accepted, rejected = validate_bars([bar(t=START[FRIDAY]), bar(t=END[FRIDAY])], SESSIONS)
        assert (len(accepted), len(rejected)) == (1, 1)

    def test_symbols_differ_by_case(self):
        accepted, rejected = validate_bars([bar(T="KIMpL"), bar(T="KIMPL")], SESSIONS)
        assert (len(accepted), rejected) == (2, [])


@pytest.mark.parametrize("symbol", ["A\x00B", "A\nB", "\ud800", "A B", "GÖÖG", "\x7f"])
def test_a_symbol_that_no_table_or_mail_can_hold_is_rejected(symbol):
    accepted, rejected = validate_bars([bar(T=symbol), bar()], SESSIONS)
    assert accepted["symbol"].tolist() == ["GOOG"]
    assert [r.reason for r in rejected] == [reason(bar(T=symbol))]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 10**15, 10**30, 10**400, 2**63, 2**63 - 1, 2**64])
    | st.floats()
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
prices = st.sampled_from([1, 1.5, 2, 806.19])
stamps = st.sampled_from([*START.values(), *END.values()])
likely_bars = st.builds(
    bar,
    T=st.sampled_from(["GOOG", "MSFT"]) | json_values,
    o=prices | json_values,
    h=prices.map(lambda price: price + 1000) | json_values,
    l=st.just(0.5) | json_values,
    c=prices | json_values,
    v=st.integers(0, 10**9) | json_values,
    t=stamps | json_values,
)


@settings(max_examples=150, deadline=None)
@example(bars=[bar(o=1e300, h=1e300, l=1e300, c=1e300)], symbol=None)
@example(bars=[bar(o=1e58, h=1e58, l=1e58, c=1e58, t=END[session]) for session in SESSIONS], symbol=None)
@example(bars=[bar(o=1, h=1, l=5e-324, c=5e-324)], symbol=None)
@given(bars=st.lists(likely_bars | json_values, max_size=6), symbol=st.sampled_from([None, "GOOG"]))
def test_nothing_disappears_and_whatever_is_accepted_can_be_stored(bars, symbol):
    accepted, rejected = validate_bars(bars, SESSIONS, symbol=symbol)
    assert len(accepted) + len(rejected) == len(bars)
    assert all(one.reason.isprintable() and one.reason for one in rejected)
    assert not accepted.duplicated(["symbol", "date"]).any()
    assert set(accepted["date"].dt.date) <= set(SESSIONS)
    sent = sorted(json.dumps(one, sort_keys=True) for one in bars)
    kept = [one.bar for one in rejected]
    assert all(text in sent for text in kept)

    rows, _, _ = add_metrics(clean(accepted), NO_BARS)
    assert (rows["volume"] >= 0).all()
    assert np.isfinite(rows[["open", "high", "low", "close", "volatility"]].to_numpy()).all()
    for metric in ("rolling_avg", "daily_pct_change"):
        assert not np.isinf(rows[metric].to_numpy()).any()
