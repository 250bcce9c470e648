from datetime import date, timedelta

import pandas as pd
import pytest

from domain.models import Revision, Split
from report.notices import absences, closures, rejections, revisions, splits

WEEK = [date(2013, 2, 25) + timedelta(days=n) for n in range(5)]
HURRICANE = [date(2012, 10, 31), date(2012, 11, 1), date(2012, 11, 2)]
MONDAY, TUESDAY, WEDNESDAY, _, FRIDAY = WEEK
BAR = (200.0, 205.0, 199.5, 201.09)
NONE = (None,) * 4


def history(**sessions):
    """Stored rows, as ``symbol=sessions``."""
    pairs = [(symbol, day) for symbol, days in sessions.items() for day in days]
    return pd.DataFrame(pairs, columns=["symbol", "date"]).astype({"symbol": "str", "date": "datetime64[s]"})


@pytest.mark.parametrize(
    ("sessions", "sentences"),
    [
        (WEEK, []),
        (WEEK[1:], ["The exchange was closed on Monday."]),
        (
            [date(2012, 10, 31), date(2012, 11, 1), date(2012, 11, 2)],
            ["The exchange was closed on Monday and Tuesday."],
        ),
        ([date(2001, 9, 10)], ["The exchange was closed on Tuesday, Wednesday, Thursday and Friday."]),
    ],
)
def test_a_short_week_names_the_days_on_which_the_exchange_was_closed(sessions, sentences):
    assert closures(sessions) == sentences


def test_a_complete_week_has_no_notices():
    assert absences(WEEK, ["A", "B"], history(A=WEEK, B=WEEK)) == []


def test_symbols_that_lack_the_same_bars_share_a_sentence_and_the_most_missing_come_first():
    stored = history(A=WEEK[:4], B=WEEK[:4], C=WEEK[2:], D=WEEK)
    assert absences(WEEK, ["A", "B", "C", "D", "E"], stored) == [
        "E has no bar this week.",
        "C has no bar for Monday and Tuesday.",
        "A and B have no bar for Friday.",
    ]


def test_a_symbol_without_a_bar_this_week_has_its_last_session_named():
    assert absences(WEEK, ["A"], history(A=[date(2013, 2, 14), date(2013, 2, 15)])) == [
        "A has no bar this week; its last is from 15 February 2013."
    ]


def test_a_rejected_bar_is_not_reported_as_missing_too():
    assert absences(WEEK, ["A"], history(A=WEEK[:3]), [("A", FRIDAY)]) == ["A has no bar for Thursday."]
    assert rejections([("A", FRIDAY, "its high 1 is below its low 2")]) == [
        "The bar of A for Friday was rejected: its high 1 is below its low 2."
    ]


@pytest.mark.parametrize(
    ("split", "adjusted", "sentence"),
    [
        (Split("AAPL", MONDAY, 1, 2), True, "AAPL split 2 for 1 on Monday; all its prices are adjusted for the split."),
        (Split("X", TUESDAY, 10, 1), True, "X split 1 for 10 on Tuesday; all its prices are adjusted for the split."),
        (
            Split("Y", TUESDAY, 2, 3.5),
            False,
            "Y split 3.5 for 2 on Tuesday; its prices are not adjusted for the split yet, ",
        ),
    ],
)
def test_a_split_notice_says_whether_the_prices_are_adjusted(split, adjusted, sentence):
    (notice,) = splits([(split, adjusted)])
    assert notice.startswith(sentence)


@pytest.mark.parametrize(
    ("cause", "old", "new", "sentence"),
    [
        (
            "corrected",
            BAR,
            (*BAR[:3], 204.5),
            "IBM's close of Tuesday was corrected from 201.09 to 204.50 on Wednesday.",
        ),
        (
            "corrected",
            BAR,
            (200.0, 206.0, 199.0, 204.5),
            "IBM's bar of Tuesday was corrected on Wednesday:"
            " high from 205.00 to 206.00, low from 199.50 to 199.00 and close from 201.09 to 204.50.",
        ),
        ("corrected", (*BAR[:3], None), BAR, "IBM's close of Tuesday was corrected from – to 201.09 on Wednesday."),
        ("withdrawn", BAR, NONE, "IBM's bar of Tuesday, with a close of 201.09, was withdrawn on Wednesday."),
        ("appeared", NONE, BAR, "IBM's bar of Tuesday appeared on Wednesday, with a close of 201.09."),
        ("restated", BAR, tuple(price / 2 for price in BAR), "All prices of IBM were restated on Wednesday."),
        ("rescaled", BAR, tuple(price / 2 for price in BAR), "All prices of IBM were restated on Wednesday."),
    ],
)
def test_a_changed_bar_is_reported_with_what_was_stored_before(cause, old, new, sentence):
    assert revisions([Revision("IBM", TUESDAY, cause, WEDNESDAY, old, new)], WEEK) == [sentence]


def test_days_outside_the_week_are_named_by_their_date():
    friday, march = date(2013, 2, 22), date(2013, 3, 11)
    changes = [
        Revision("IBM", friday, "corrected", MONDAY, BAR, (*BAR[:3], 204.5)),
        Revision("IBM", TUESDAY, "withdrawn", march, BAR, NONE),
    ]
    assert revisions(changes, WEEK) == [
        "IBM's close of 22 February 2013 was corrected from 201.09 to 204.50 on Monday.",
        "IBM's bar of Tuesday, with a close of 201.09, was withdrawn on 11 March 2013.",
    ]


def test_a_correction_below_a_cent_is_not_reported():
    assert revisions([Revision("IBM", TUESDAY, "corrected", WEDNESDAY, BAR, (*BAR[:3], 201.0901))], WEEK) == []


def test_a_restatement_is_reported_once_and_not_beside_its_split():
    half = tuple(price / 2 for price in BAR)
    changes = [Revision(symbol, day, "restated", WEDNESDAY, BAR, half) for day in WEEK for symbol in ("AAPL", "IBM")]
    assert revisions(changes, WEEK) == [
        f"All prices of {symbol} were restated on Wednesday." for symbol in ("AAPL", "IBM")
    ]
    assert revisions(changes, WEEK, {"AAPL"}) == ["All prices of IBM were restated on Wednesday."]


@pytest.mark.parametrize(
    ("count", "last"), [(11, "1 more change of stored prices."), (3000, "2,990 more changes of stored prices.")]
)
def test_of_many_changes_ten_are_reported_and_the_others_counted(count, last):
    many = [Revision(f"S{n:04}", MONDAY, "withdrawn", WEDNESDAY, BAR, NONE) for n in range(count)]
    sentences = revisions(many, WEEK)
    assert len(sentences) == 11
    assert sentences[-1] == last


def test_three_thousand_symbols_get_few_and_short_sentences():
    symbols = [f"S{n:04}" for n in range(3000)]
    many = [
        *absences(WEEK, symbols, history(**dict.fromkeys(symbols, WEEK[:4]))),
        *rejections([(symbol, MONDAY, "x" * 5000) for symbol in symbols]),
        *splits([(Split(symbol, MONDAY, 1, 2), True) for symbol in symbols]),
    ]
    assert many[0] == "S0000, S0001, S0002, S0003, S0004, S0005, S0006 and 2,993 more have no bar for Friday."
    assert many[11] == "2,990 more bars were rejected."
    assert many[-1] == "2,990 more symbols split this week."
    assert len(many) == 23
    assert max(map(len, many)) < 300


def test_a_count_of_one_is_singular():
    assert rejections([("A", MONDAY, "r")] * 11)[-1] == "1 more bar was rejected."
    assert splits([(Split("A", MONDAY, 1, 2), True)] * 11)[-1] == "1 more symbol split this week."
