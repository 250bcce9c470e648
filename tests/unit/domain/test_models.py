"""The values that all layers share."""

from datetime import date

import pytest

from domain.models import Counts, Split


def test_a_split_prints_its_ratio_and_its_day():
    assert str(Split("AAPL", date(2005, 2, 28), 1, 2)) == "AAPL 2:1 on 2005-02-28"
    assert str(Split("X", date(2020, 1, 2), 10, 1.5)) == "X 1.5:10 on 2020-01-02"


@pytest.mark.parametrize(("split_from", "split_to"), [(0, 2), (1, 0), (-1, 2), (1, -2), (1e-300, 1e300)])
def test_a_split_without_a_positive_ratio_is_refused(split_from, split_to):
    with pytest.raises(ValueError, match="both must be positive"):
        Split("AAPL", date(2005, 2, 28), split_from, split_to)


def test_the_counts_of_two_loads_add_up():
    counts = Counts(inserted=1, updated=2, corrected=2)
    counts.add(Counts(inserted=10, updated=3, unchanged=20, rejected=30, corrected=1, withdrawn=4))
    assert counts == Counts(inserted=11, updated=5, unchanged=20, rejected=30, corrected=3, withdrawn=4)
