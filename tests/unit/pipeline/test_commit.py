"""When an answer is doubted."""

from __future__ import annotations

import pytest

from pipeline.commit import is_doubtful


@pytest.mark.parametrize(
    ("stored", "lacking"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (70, 4), (79, 4), (100, 6), (11_000, 551)]
)
def test_an_answer_that_lacks_all_or_more_than_three_and_over_five_percent_is(stored: int, lacking: int) -> None:
    assert is_doubtful(stored, lacking)


@pytest.mark.parametrize(
    ("stored", "lacking"), [(0, 0), (1, 0), (2, 1), (4, 3), (70, 3), (80, 4), (100, 5), (11_000, 550)]
)
def test_an_answer_that_lacks_a_few_is_not(stored: int, lacking: int) -> None:
    assert not is_doubtful(stored, lacking)
