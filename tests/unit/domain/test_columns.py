"""Whatever is read by column is exactly what is read bar by bar."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.columns import MOST_BYTES, BarColumns, read_columns
from domain.errors import EnvelopeError
from domain.models import RejectedBar
from domain.validation import MAX_REJECTED, validate_bars

FRIDAY = date(2013, 3, 1)
STAMP = int(datetime(2013, 3, 1, 21, tzinfo=UTC).timestamp()) * 1000
GOOD = {"T": '"GOOG"', "o": "797.8", "h": "807.14", "l": "796.15", "c": "806.19", "v": "2175400", "t": str(STAMP)}


def bar(**changes: str) -> str:
    """A good bar of GOOG of Friday in JSON, with the text of some values changed."""
    return "{" + ",".join(f'"{key}":{value}' for key, value in {**GOOD, **changes}.items() if value) + "}"


def answer(*bars: str, before: str = '"status":"OK",', after: str = "") -> bytes:
    return f'{{{before}"results":[{",".join(bars)}]{after}}}'.encode(errors="surrogateescape")


def outcome(bars: Sequence[Any]) -> tuple[pd.DataFrame | None, list[RejectedBar] | str]:
    try:
        return validate_bars(bars, [FRIDAY])
    except EnvelopeError as error:
        return None, str(error)


def check(body: bytes) -> None:
    """Where an answer is read by column, nothing in it differs from what is read bar by bar."""
    found = read_columns(body)
    if found is None:
        return
    expected = orjson.loads(body)
    assert repr({**found, "results": list(found["results"])}) == repr(expected)
    (accepted, rejected), (accepted_singly, rejected_singly) = outcome(found["results"]), outcome(expected["results"])
    assert rejected == rejected_singly
    assert (accepted is None) == (accepted_singly is None)
    if accepted is not None and accepted_singly is not None:
        pd.testing.assert_frame_equal(accepted, accepted_singly, check_exact=True)
        assert repr(accepted.to_numpy().tolist()) == repr(accepted_singly.to_numpy().tolist())


def test_a_regular_answer_is_read_by_column_and_accepted_whole():
    bars = [bar(), bar(T='"KIMpL"', vw="800.5", n="12", v="2.5"), bar(T='"BRK.B"', otc="true", o="8e2")]
    found = read_columns(answer(*bars, after=',"resultsCount":3'))

    assert found is not None
    assert isinstance(found["results"], BarColumns)
    assert (found["status"], found["resultsCount"], len(found["results"])) == ("OK", 3, 3)
    accepted, rejected = validate_bars(found["results"], [FRIDAY])
    assert accepted["symbol"].tolist() == ["GOOG", "KIMpL", "BRK.B"]
    assert accepted["volume"].tolist() == [2175400.0, 2.5, 2175400.0]
    assert rejected == []
    check(answer(*bars))


@pytest.mark.parametrize(
    "number",
    [
        *["0.1", "1e-9", "12345678901234567", "0.30000000000000004441", "806.1900000000000000001", "9007199254740993"],
        *["1E2", "2.675", "1.0000000000000002", "999999999999999.9", "123456789012345678", "1" + "0" * 20 + "e-20"],
    ],
)
def test_a_price_is_the_double_that_is_nearest_to_its_decimal(number):
    found = read_columns(answer(bar(o=number, h=number, l=number, c=number)))

    assert found is not None
    assert found["results"].columns["o"].to_pylist() == [float(number)]
    check(answer(bar(o=number, h=number, l=number, c=number)))


IRREGULAR_VALUES = ["null", "true", '"1"', "[1]", "{}", "-1", "-0", "-0.0", "NaN", "-NaN", "Inf", "Infinity", "1e400"]
IRREGULAR_VALUES += ["9" * 400, "9" * 5000, "", "01", "1.", ".5", "+1", "0x1", "1_0", "1\0", "nul", "1 1", "1,", "//"]


@pytest.mark.parametrize("value", IRREGULAR_VALUES)
@pytest.mark.parametrize("field", ["o", "c", "v", "t", "T"])
def test_an_irregular_value_leaves_the_answer_to_the_parser_of_single_bars(field, value):
    if field == "T" and value == '"1"':
        value = "1"
    assert read_columns(answer(bar(), bar(**{"T": '"A"', field: value}))) is None


@pytest.mark.parametrize("value", [value for value in IRREGULAR_VALUES if value not in ("null", "")])
@pytest.mark.parametrize("field", ["vw", "n", "new"])
def test_so_does_one_in_a_field_that_is_not_stored(field, value):
    assert read_columns(answer(bar(), bar(T='"A"', **{field: value}))) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"results":null}',
        b'{"results":5}',
        answer(),
        answer("null"),
        answer("7"),
        answer("{}"),
        answer(bar(), "null"),
        answer(bar() + bar()),
        answer(bar(), ""),
        answer(bar())[:-1],
        answer(bar())[:-2],
        answer(bar()) + b" null",
        answer(bar()) + answer(bar()),
        answer(bar()) + b"\0",
        answer(bar()[:-1]),
        answer(bar(T='"Ü"')),
        answer(bar(T=r'"\u0041"')),
        answer(bar(T='"A[B"')),
        answer(bar(T='"A]B"')),
        answer(bar(T='"],"'), bar(T='":1}"')),
        answer(before='"x":[' + bar() + "],"),
        answer(bar(**{'o":1,"o': "2"})),
        answer(bar(), before='"splits":[],'),
        answer(bar(), before='"next_url":"/2",'),
        answer(bar(), before=f'"status":"{"x" * MOST_BYTES}",'),
        answer(bar(), before='"status":"ü",'),
        answer(bar(), before='"count":1e400,'),
        answer(bar(), before='"results":null,', after=',"results":null'),
        b'{"x":{"results":[' + bar().encode() + b']},"results":null}',
        b"]" + answer(bar())[:-3] + b"[",
    ],
)
def test_an_irregular_answer_is_left_to_the_parser_of_single_bars(body):
    assert read_columns(body) is None


@pytest.mark.parametrize(
    "bars",
    [
        [bar(o="0"), bar(T='"A"')],
        [bar(T='""'), bar(T='"A"')],
        [bar(T='"A B"'), bar(T='"A\x7f"'), bar(T='"ABCDEFGHIJK"')],
        [bar(h="1")],
        [bar(t="0"), bar(t="5000000000000")],
        [bar(v="9223372036854775808")],
        [bar(), bar(c="800"), bar(T='"A"')],
        [bar(o="0")] * (MAX_REJECTED + 1),
    ],
)
def test_what_cannot_be_stored_is_rejected_as_bar_by_bar(bars):
    assert read_columns(answer(*bars)) is not None
    check(answer(*bars))


volumes = st.one_of(
    st.integers(0, 10**20).map(str),
    st.floats(0, 1e300).map(abs).map(repr),
    st.decimals(0, 10**17, allow_nan=False).map(abs).map(str),
    st.sampled_from(["1.7976931348623157e308", "4.9e-324", "2.2250738585072011e-308", "2.5E-0324", "1" * 300]),
)
values = st.one_of(
    volumes, st.floats().map(repr), st.sampled_from(IRREGULAR_VALUES), st.text(max_size=12).map(json.dumps)
)
prices = st.decimals("0.01", 2000, places=4).map(str)
symbols = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"\\[]'), min_size=1, max_size=11
)
stamps = st.sampled_from([str(STAMP), str(STAMP), f"{STAMP}.0", str(STAMP - 57_600_000), "0", str(STAMP + 86_400_000)])
regular_bars = st.tuples(symbols, prices, prices, prices, volumes, stamps).map(
    lambda of: bar(
        T=f'"{of[0]}"',
        o=of[1],
        c=of[2],
        h=max(of[1:4], key=float),
        l=min(of[1:4], key=float),
        v=of[4],
        t=of[5],
    )
)
irregular_bars = st.dictionaries(st.sampled_from([*GOOD, "vw", "n", "otc", "new", "O"]), values).map(
    lambda changes: bar(**changes)
)
spaces = st.sampled_from(["", "", "", " ", "\n", "\r\n\t", "\x0b", "\0"])
fields = st.tuples(st.sampled_from(["status", "count", "results", "next_url", "x"]), values).map(
    lambda pair: f'"{pair[0]}":{pair[1]},'
)
bodies = st.builds(
    lambda bars, before, after, space: answer(*bars, before=before, after="," * bool(after) + after[:-1]).replace(
        b",", f"{space},".encode()
    ),
    st.lists(regular_bars, min_size=1, max_size=4) | st.lists(regular_bars | irregular_bars | values, max_size=4),
    st.just('"status":"OK",') | fields,
    st.just("") | fields,
    spaces,
)


@settings(deadline=None, max_examples=200)
@given(bodies)
@example(answer(bar(v="0"), bar(T='"A"', v="0.0")))
def test_what_is_read_by_column_is_what_is_read_bar_by_bar(body):
    check(body)


@settings(deadline=None, max_examples=100)
@given(st.lists(regular_bars, min_size=1, max_size=6))
def test_regular_bars_are_always_read_by_column(bars):
    assert read_columns(answer(*bars)) is not None


@settings(deadline=None, max_examples=200)
@given(
    st.lists(regular_bars, min_size=1, max_size=2).map(lambda bars: answer(*bars)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.sampled_from(b'{}[]",:0-.eE nN\\\0\n\xff')), max_size=3),
)
def test_a_damaged_answer_is_read_by_column_only_if_it_is_the_same_bar_by_bar(body, damages):
    for share, length, byte in damages:
        place = int(share * len(body))
        body = body[:place] + bytes([byte]) + body[place + length :]
    check(body)
