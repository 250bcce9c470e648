import math

import pytest

from report.formatting import change, fixed, percent, plain, price, times, trend, way

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (806.19, "806.19"),
        (1234567.5, "1,234,567.50"),
        (28.1164, "28.12"),
        (2.675, "2.68"),  # the float is a little less, the decimal that was received is a tie
        (2.665, "2.66"),  # half to even
        (1.0, "1.00"),
        (0.5, "0.50"),
        (0.9999, "0.9999"),
        (0.123456789, "0.123457"),
        (0.00012, "0.00012"),
        (0.0000012345, "0.000001234"),
        (0.0, "0.00"),
        (NAN, "–"),
    ],
)
def test_a_price_is_in_cents_and_below_a_dollar_has_the_digits_it_needs(value, shown):
    assert price(value) == shown


@pytest.mark.parametrize(
    ("value", "shown", "direction"),
    [
        (8.525, "+8.52%", "rise"),
        (8.535, "+8.54%", "rise"),
        (-5.151482, "−5.15%", "fall"),
        (1234.5, "+1,234.50%", "rise"),
        (0.004, "0.00%", "flat"),
        (-0.004, "0.00%", "flat"),
        (-0.0, "0.00%", "flat"),
        (NAN, "–", "flat"),
    ],
)
def test_a_change_has_a_sign_and_a_direction_that_agree(value, shown, direction):
    assert (change(value), way(value)) == (shown, direction)


def test_binary_noise_does_not_turn_a_tie():
    computed = (2.20 - 2.16) / 1.6 * 100  # 2.5 exactly, 2.5000000000000022 in binary
    assert fixed(computed, 0) == "2"
    assert fixed((100.355 - 100) / 100 * 100, 2) == "0.36"  # 0.355 exactly, 0.35499999999999... in binary


def test_what_is_unknown_is_a_dash_on_paper_and_empty_in_a_spreadsheet():
    assert (percent(NAN), times(NAN), fixed(NAN, 2)) == ("–", "–", "")
    assert times(math.inf) == "–"


@pytest.mark.parametrize(
    ("values", "cells", "shown"),
    [
        ([1.0, 2.0, 4.0], 12, "▁▃█"),
        ([4.0, 1.0], 12, "█▁"),
        ([5.0], 12, "▄"),
        ([7.0, 7.0, 7.0], 12, "▄▄▄"),
        ([NAN, 1.0, 2.0], 12, "▁█"),
        ([], 12, ""),
        ([float(n) for n in range(30)], 10, "▁▂▂▃▄▅▆▇▇█"),
    ],
)
def test_a_trend_runs_from_the_lowest_to_the_highest_and_keeps_both_ends(values, cells, shown):
    assert trend(values, cells) == shown


def test_text_loses_what_could_break_a_line_or_turn_its_direction():
    assert plain("A\r\nB\tC\x00D\u202eE") == "A  B C D E"
