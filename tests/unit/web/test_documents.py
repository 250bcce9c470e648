"""The documents say what the tables say, and nothing where nothing is known."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pandas as pd
import pytest

from domain.calendar import sessions_between
from domain.figures import BREADTH
from pipeline.market import history_end
from web import documents
from web.documents import LETTERS, Completeness


def counts(**columns: list[int]) -> pd.DataFrame:
    size = len(next(iter(columns.values())))
    table = pd.DataFrame({name: columns.get(name, [0] * size) for name in BREADTH})
    return table.set_index(pd.DatetimeIndex(pd.date_range("2013-02-28", periods=size, unit="s"), name="date"))


def figures(*changes: float | None, last: str = "2013-03-01", volume_ratio: float = 1.0) -> pd.DataFrame:
    """Symbols S0, S1, … with these changes of a day."""
    return pd.DataFrame(
        {
            "symbol": pd.Series([f"S{n}" for n in range(len(changes))], dtype="str"),
            "last": pd.Timestamp(last),
            "close": 10.0,
            "change_1d": pd.Series(changes, dtype="float64"),
            "volume_ratio": volume_ratio,
            "cross_date": pd.NaT,
        }
    )


def summary(table: pd.DataFrame) -> dict:
    sparks = np.full((len(table), 60), np.nan)
    sparks[:, -2:] = [1.0, 2.0]
    last = counts(advancers=[1, 2], with_50=[0, 4], over_50=[0, 1])
    return json.loads(documents.to_json(documents.summary(table, last, sparks, Completeness(3, 4))))


def test_breadth_is_a_share_where_anything_has_an_average() -> None:
    shown = documents.breadth(
        counts(with_50=[0, 4], over_50=[0, 1], new_highs=[0, 2], with_year=[0, 3], advancers=[1, 0])
    )
    assert shown["date"] == ["2013-02-28", "2013-03-01"]
    assert shown["above_50"] == [None, 0.25]
    assert shown["above_200"] == [None, None]
    assert shown["new_highs"] == [None, 2]
    assert shown["new_lows"] == [None, 0]
    assert shown["advancers"] == [1, 0]


def test_the_summary_has_the_tiles_of_the_last_session() -> None:
    tiles = summary(figures(1.0, -1.0))["tiles"]
    assert tiles == {
        "symbols": 2,
        "last_session": "2013-03-01",
        "advancers": 2,
        "decliners": 0,
        "unchanged": 0,
        "above_50": 0.25,
        "above_200": None,
        "new_highs": None,
        "new_lows": None,
        "completeness": {"missing": 3, "read_again": 4},
    }


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 19, 20, 21, 50])
def test_no_symbol_is_among_the_best_and_the_worst(size: int) -> None:
    found = summary(figures(*(float(n) for n in range(size))))
    best, worst = ([row["symbol"] for row in found[end]] for end in ("best", "worst"))
    ranked = [f"S{n}" for n in reversed(range(size))]
    assert best == ranked[: len(best)]
    assert worst == ranked[::-1][: len(worst)]
    assert not set(best) & set(worst)
    assert len(best) + len(worst) == min(size, 20)


def test_symbols_without_a_bar_of_the_last_session_are_in_no_ranking() -> None:
    table = pd.concat([figures(1.0, None), figures(9.0, last="2013-02-28")], ignore_index=True)
    found = summary(table)
    assert [row["symbol"] for row in found["best"]] == ["S0"]
    assert len(found["symbols"]) == 3


def test_few_symbols_have_all_their_figures_and_a_line_of_closes() -> None:
    (row,) = summary(figures(1.0))["symbols"]
    assert row == {
        "symbol": "S0",
        "last": "2013-03-01",
        "close": 10.0,
        "change_1d": 1.0,
        "volume_ratio": 1.0,
        "cross_date": None,
        "spark": [1.0, 2.0],
    }
    assert "symbols" not in summary(figures(*[1.0] * 21))


def test_the_summary_of_the_whole_market_is_under_sixty_kilobytes() -> None:
    table = figures(*np.random.default_rng(1).normal(size=11_000).round(6)).assign(close=1234.5678)
    sparks = np.full((len(table), 60), 1234.567891)
    assert len(documents.to_json(documents.summary(table, counts(advancers=[1]), sparks, Completeness(0, 0)))) < 60_000


def grid(text: str) -> np.ndarray:
    return np.array([[letter == "1" for letter in row] for row in text.split()])


def test_states_by_what_is_known() -> None:
    found = documents.states(
        stored=grid("1110011"), unread=grid("0001110"), missing=grid("0001010"), unsettled=grid("0110000")
    )
    assert "".join(LETTERS[place] for place in found[0]) == "sppmoms"
    documents.mark_changes(found, corrected=([0, 0], [0, 3]), rejected=([0, 0, 0], [1, 3, 4]))
    assert "".join(LETTERS[place] for place in found[0]) == "cppmrms"


def test_a_read_session_without_a_bar_says_so() -> None:
    nothing = grid("00")
    found = documents.states(stored=nothing, unread=nothing, missing=nothing, unsettled=grid("01"))
    assert "".join(LETTERS[place] for place in found[0]) == "nn"


def test_the_calendar_shows_runs() -> None:
    states = np.array([[0, 0, 0, 6, 6], [0, 0, 2, 6, 6]], dtype=np.uint8)
    shown = documents.calendar(["A", "B"], states)
    assert shown["symbols"] == {"A": [("s", 3), ("p", 2)], "B": [("s", 2), ("m", 1), ("p", 2)]}
    assert shown["overall"] == [("s", 3), ("p", 2)]


def test_the_calendar_of_many_symbols_names_those_that_differ() -> None:
    states = np.zeros((201, 4), dtype=np.uint8)
    states[7, 2] = 3
    shown = documents.calendar([f"S{n}" for n in range(201)], states)
    assert shown == {"overall": [("s", 4)], "symbols": {"S7": [("s", 2), ("n", 1), ("s", 1)]}}


def test_the_calendar_of_nothing_is_empty() -> None:
    assert documents.calendar([], np.zeros((0, 0), dtype=np.uint8)) == {"overall": [], "symbols": {}}


SESSIONS = sessions_between(date(2013, 2, 11), date(2013, 3, 8))


@pytest.mark.parametrize(
    ("last", "settle", "end"),
    [
        (date(2013, 3, 1), 3, date(2013, 2, 22)),
        (date(2013, 3, 5), 3, date(2013, 2, 22)),
        (date(2013, 3, 6), 3, date(2013, 3, 1)),  # Friday is settled by Monday, Tuesday and Wednesday
        (date(2013, 3, 1), 0, date(2013, 3, 1)),
        (date(2013, 2, 14), 3, None),
        (date(2013, 2, 21), 3, date(2013, 2, 15)),  # Monday was a holiday
    ],
)
def test_history_ends_with_the_last_settled_week(last: date, settle: int, end: date | None) -> None:
    assert history_end([day for day in SESSIONS if day <= last], settle) == end
