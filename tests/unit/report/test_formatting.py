import math

import pytest

from report.formatting import change, decimal_text, direction, percent, price, ratio, single_line, trend

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (806.19, "806.19"),
        (1234567.5, "1,234,567.50"),
        (28.1164, "28.12"),
        (2.675, "2.68"),  # a tie as received; the float is slightly less
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
def test_a_price_has_cents_and_below_a_dollar_the_decimals_it_needs(value, shown):
    assert price(value) == shown


@pytest.mark.parametrize(
    ("value", "shown", "expected"),
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
def test_a_change_has_a_sign_and_a_direction_that_agree(value, shown, expected):
    assert (change(value), direction(value)) == (shown, expected)


def test_binary_noise_does_not_change_how_a_tie_rounds():
    computed = (2.20 - 2.16) / 1.6 * 100  # 2.5 exactly, 2.5000000000000022 in binary
    assert decimal_text(computed, 0) == "2"
    assert decimal_text((100.355 - 100) / 100 * 100, 2) == "0.36"  # 0.355 exactly, 0.35499999999999... in binary


def test_an_unknown_number_is_a_dash_in_the_report_and_empty_in_the_csv():
    assert (percent(NAN), ratio(NAN), decimal_text(NAN, 2)) == ("–", "–", "")
    assert ratio(math.inf) == "–"


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
def test_a_trend_scales_from_lowest_to_highest_and_keeps_both_ends(values, cells, shown):
    assert trend(values, cells) == shown


def test_single_line_text_has_no_line_breaks_or_direction_marks():
    assert single_line("A\r\nB\tC\x00D\u202eE") == "A  B C D E"
