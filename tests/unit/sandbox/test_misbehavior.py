"""The stand-in misbehaves as real providers do, in the ways and for as long as it is told."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from commands.options import MISBEHAVIORS
from domain.models import Split
from sandbox.misbehavior import FORMS, Half, Misbehavior, Rename, Restate, Stall, WrongTicker, parse_misbehavior

TODAY = date(2013, 2, 27)
WEEK = "/v2/aggs/ticker/IBM/range/1/day/2013-02-20/2013-03-01"
GROUPED = "/v2/aggs/grouped/locale/us/market/stocks/{}"
SPLITS = "/stocks/v1/splits"


def closes(document: dict) -> list[float]:
    return [bar["c"] for bar in document.get("results", [])]


@pytest.fixture
def tell(client, market):
    market.today = TODAY

    def told(*forms: str) -> None:
        answer = client.anonymous("/sandbox/misbehave", "POST", json={"misbehave": forms})
        assert answer.json() == {"misbehave": list(forms)}

    return told


def test_a_stall_of_two_mornings_hides_the_latest_sessions_of_every_symbol_and_ends(client, market, tell) -> None:
    tell("stall:2")

    assert (client.json(WEEK)["resultsCount"], client.json(GROUPED.format("2013-02-26"))["resultsCount"]) == (4, 0)
    market.today = date(2013, 2, 28)
    assert client.json(WEEK)["resultsCount"] == 4
    market.today = date(2013, 3, 1)
    assert client.json(WEEK)["resultsCount"] == 7


def test_a_late_symbol_lacks_its_latest_bars_and_the_others_have_theirs(client, market, tell) -> None:
    tell("late:IBM:1")

    assert client.json(WEEK)["resultsCount"] == 4
    assert [bar["T"] for bar in client.json(GROUPED.format("2013-02-26"))["results"]] == ["AAPL", "FB", "GOOG", "MSFT"]
    market.today = date(2013, 2, 28)
    assert client.json(WEEK)["resultsCount"] == 6


def test_a_short_answer_says_more_than_it_has_and_a_half_one_does_not(client, tell) -> None:
    tell("short:IBM", "half:*")

    week, grouped = client.json(WEEK), client.json(GROUPED.format("2013-02-26"))
    assert (week["resultsCount"], len(week["results"])) == (5, 4)
    assert (grouped["resultsCount"], len(grouped["results"])) == (2, 2)


def test_bars_are_corrected_withdrawn_and_garbled(client, tell) -> None:
    before = client.json(WEEK)["results"]
    tell("correct:IBM:2013-02-20", "withdraw:IBM:2013-02-21", "garble:IBM:2013-02-22:1")

    after = client.json(WEEK)["results"]
    assert len(after) == 4
    assert after[0]["c"] == round(before[0]["c"] * 1.01, 4)
    assert after[0]["l"] <= after[0]["c"] <= after[0]["h"]
    assert after[1]["h"] < after[1]["l"]
    assert after[2:] == before[3:]


def test_a_restatement_adjusts_history_and_is_listed_late(client, market, tell) -> None:
    before = closes(client.json(WEEK))
    tell("restate:IBM:2:3")

    assert closes(client.json(WEEK)) == [pytest.approx(close / 2, abs=1e-6) for close in before]
    assert client.json(SPLITS, ticker="IBM")["results"] == []
    market.today = date(2013, 3, 2)
    (split,) = client.json(SPLITS, ticker="IBM")["results"]
    assert (split["execution_date"], split["split_from"], split["split_to"]) == ("2013-02-27", 1, 2)
    tell()
    assert closes(client.json(WEEK))[:5] == before


def test_another_tickers_bars_and_a_renamed_ticker(client, tell) -> None:
    grouped = GROUPED.format("2013-02-26")
    before, others = closes(client.json(WEEK)), closes(client.json(WEEK.replace("IBM", "MSFT")))
    tell("wrong-ticker:IBM:MSFT")
    assert (client.json(WEEK)["ticker"], closes(client.json(WEEK))) == ("MSFT", others)

    tell("rename:IBM:NEW")
    assert client.json(WEEK)["resultsCount"] == 0
    assert closes(client.json(WEEK.replace("IBM", "NEW"))) == before
    assert [bar["T"] for bar in client.json(grouped)["results"]] == ["AAPL", "FB", "GOOG", "NEW", "MSFT"]


def test_days_beyond_the_plan_are_refused(client, market, tell) -> None:
    tell("reach:2013-02-21")

    client.assert_error(client.get(WEEK), 403, "plan")
    client.assert_error(client.get(GROUPED.format("2013-02-20")), 403, "plan")
    assert client.json(GROUPED.format("2013-02-21"))["resultsCount"] == 5
    assert market.calls == {"refused": 2, "grouped": 1}


def test_bad_split_records_come_with_the_good_ones(client, market, tell) -> None:
    good = client.json(SPLITS)["results"]
    tell("bad-splits")

    records = client.json(SPLITS)["results"]
    assert records[: len(good)] == good
    assert [(record["ticker"], record["execution_date"]) for record in records[len(good) :]] == [
        ("IBM", "2013-02-27"),
        ("IBM", ""),
        (None, "2013-02-27"),
    ]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("stall:1", Stall(date(2013, 2, 25), until=date(2013, 2, 28))),
        ("stall:3", Stall(date(2013, 2, 25), until=date(2013, 3, 2))),
        ("half:*", Half("*")),
        ("restate:IBM:2", Restate(Split("IBM", TODAY, 1, 2))),
        ("wrong-ticker:IBM:MSFT", WrongTicker("IBM", "MSFT")),
        ("rename:FB:META", Rename("FB", "META")),
    ],
)
def test_a_short_form_means(form: str, expected: Misbehavior) -> None:
    assert parse_misbehavior(form, TODAY) == expected


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("", "is no misbehavior; valid is stall:MORNINGS, late:SYMBOL:MORNINGS"),
        ("sleep", "'sleep' is no misbehavior"),
        ("stall", "'stall' is not stall:MORNINGS: the number of values is wrong"),
        ("stall:0", "'0' is not a number from 1 to 999"),
        ("stall:1:2", "the number of values is wrong"),
        ("late::1", "a symbol is empty"),
        ("correct:IBM:yesterday", "Invalid isoformat string"),
        ("restate:IBM:2.5", "'2.5' is not a number from 1 to 999"),
    ],
)
def test_a_malformed_one_is_refused_in_one_line(client, market, form: str, words: str) -> None:
    response = client.anonymous("/sandbox/misbehave", "POST", json={"misbehave": [form]})

    client.assert_error(response, 400, words)
    assert "\n" not in response.json()["error"]
    assert market.misbehaviors == ()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"misbehave": "stall:1"}', b'{"misbehave": [1]}'])
def test_a_malformed_body_is_refused(client, body: bytes) -> None:
    client.assert_error(client.anonymous("/sandbox/misbehave", "POST", data=body), 400, '{"misbehave": [')


def test_the_command_lines_help_names_every_form() -> None:
    assert tuple(FORMS) == MISBEHAVIORS


def test_the_recipe_names_every_form() -> None:
    recipes = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([^`]+)` \|", recipes.partition("misbehaves")[2], re.MULTILINE) == list(FORMS)
