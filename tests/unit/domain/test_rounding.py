"""Binary arithmetic rounds as decimal arithmetic on the exact inputs would, at ties as well."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.rounding import BLOCK, SCALE, exact_decimal, round_exactly

SIX = Decimal("0.000001")


def quotients(tops: list[float], bottoms: list[float], first: int = 0) -> tuple[list[float], list[int]]:
    """Rounded quotients, and the indices of which the exact value was asked for."""
    top, bottom = np.array(tops), np.array(bottoms)
    asked: list[int] = []

    def scaled(block: slice, values: np.ndarray) -> None:
        np.multiply(top[block], SCALE, out=values)
        values /= bottom[block]

    def exact(i: int) -> Decimal:
        asked.append(i)
        return exact_decimal(tops[i]) / exact_decimal(bottoms[i])

    with np.errstate(all="ignore"):
        return round_exactly(len(tops), scaled, exact, first=first).tolist(), asked


def by_decimal(top: float, bottom: float) -> float:
    return float((Decimal(repr(top)) / Decimal(repr(bottom))).quantize(SIX, ROUND_HALF_EVEN))


@pytest.mark.parametrize("number", [0.1, 1e-9, 806.19, 1e15, 5e-324, 123456789.123456])
def test_a_float_is_the_decimal_that_was_received(number: float) -> None:
    assert exact_decimal(number) == Decimal(repr(number))
    assert exact_decimal(np.float64(number)) == Decimal(repr(number))


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.0000005, 0.0),
        (0.0000015, 0.000002),
        (0.0000025, 0.000002),
        (0.0000035, 0.000004),
        (-0.0000015, -0.000002),
        (1.0000005, 1.0),
        (1.0000015, 1.000002),
        (2.6750005, 2.675),
        (0.00000149, 0.000001),
        (0.00000151, 0.000002),
    ],
)
def test_a_tie_is_rounded_to_the_even_neighbor(value: float, rounded: float) -> None:
    assert quotients([value], [1.0])[0] == [rounded]


@given(st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 10**4), st.integers(0, 6)), min_size=1, max_size=30))
def test_it_is_what_decimal_arithmetic_gives(pairs: list[tuple[int, int, int]]) -> None:
    tops = [top / 10**places for top, _, places in pairs]
    bottoms = [float(bottom) for _, bottom, _ in pairs]
    assert quotients(tops, bottoms)[0] == [by_decimal(*pair) for pair in zip(tops, bottoms, strict=True)]


@given(st.lists(st.integers(-(10**10), 10**10), min_size=1, max_size=30))
def test_every_tie_is_decided_by_decimal_arithmetic(halves: list[int]) -> None:
    values = [(2 * half + 1) / 2e6 for half in halves]
    found, asked = quotients(values, [1.0] * len(values))
    assert found == [by_decimal(value, 1.0) for value in values]
    assert asked == list(range(len(values)))


def test_decimal_arithmetic_decides_little_else() -> None:
    random = np.random.default_rng(1)
    tops, bottoms = random.uniform(1, 1000, 20_000).tolist(), random.uniform(1, 1000, 20_000).tolist()
    found, asked = quotients(tops, bottoms)
    assert found == [by_decimal(*pair) for pair in zip(tops, bottoms, strict=True)]
    assert len(asked) < 5


def test_blocks_join_without_a_seam() -> None:
    size = 2 * BLOCK + 3
    values = [n + 0.1234565 for n in range(size)]
    assert quotients(values, [1.0] * size)[0] == [by_decimal(value, 1.0) for value in values]


def test_what_is_not_finite_stays_so_and_spoils_no_other() -> None:
    found, _ = quotients([1.0, 0.0, 0.0000015, 2.0], [0.0, 0.0, 1.0, 3.0])
    assert np.isinf(found[0])
    assert np.isnan(found[1])
    assert found[2:] == [0.000002, 0.666667]


def test_nothing_is_computed_before_the_first_index() -> None:
    _, asked = quotients([0.0000015] * 5, [1.0] * 5, first=3)
    assert asked == [3, 4]


def test_nothing_is_rounded_to_nothing() -> None:
    assert quotients([], []) == ([], [])
