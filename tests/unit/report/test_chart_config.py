import io
import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from PIL import Image, ImageColor

from report.chart_config import (
    AVERAGE,
    CHART_SESSIONS,
    FALL,
    FLOOR,
    GRID,
    LABEL_SIZE,
    RISE,
    UNCHANGED,
    VOLUME,
    WIDTH,
    alt_text,
    chart_request,
)
from sandbox.renderer import Renderer, RendererUnavailable

WHITE = "#FFFFFF"
RISING = (100, 108, 98, 106)  # open, high, low, close
FALLING = (106, 107, 99, 101)
FLAT = (103, 106, 100, 103)


def bars(*prices, volume=1000.0, average=math.nan, start="2013-01-17"):
    frame = pd.DataFrame(prices, columns=["open", "high", "low", "close"], dtype=float)
    dates = pd.bdate_range(start, periods=len(frame))
    return frame.assign(symbol="GOOG", date=dates, volume=volume, rolling_avg=average)


def datasets(frame):
    average, bodies, wicks, volume = chart_request("GOOG", frame)["chart"]["data"]["datasets"]
    return {"average": average, "bodies": bodies, "wicks": wicks, "volume": volume}


def axes(frame):
    """The y axes: those that place prices and volume, and the labels on the right and on the left."""
    return {axis["id"]: axis for axis in chart_request("GOOG", frame)["chart"]["options"]["scales"]["yAxes"]}


def labels(frame):
    """The labels of prices and of volume, from top to bottom."""
    found = axes(frame)
    floor = found["right"]["gridLines"]["color"].index(FLOOR)
    return found["right"]["labels"][: floor + 1], found["right"]["labels"][floor + 1 :]


def price_limits(frame):
    ticks = axes(frame)["price"]["ticks"]
    return ticks["min"], ticks["max"]


def test_a_request_asks_for_a_sharp_white_png_from_chart_js_2():
    request = chart_request("GOOG", bars(RISING))
    del request["chart"]
    assert request == {
        "version": "2.9.4",
        "width": 560,
        "height": 360,
        "devicePixelRatio": 2,
        "backgroundColor": "#FFFFFF",
        "format": "png",
    }


def test_candles_are_bodies_and_wicks_colored_by_direction():
    drawn = datasets(bars(RISING, FALLING, FLAT, average=[math.nan, 102, 104], volume=[10, math.nan, 30]))
    assert drawn["bodies"]["data"] == [[100, 106], [106, 101], [103, 103]]
    assert drawn["wicks"]["data"] == [[98, 108], [99, 107], [100, 106]]
    assert drawn["bodies"]["backgroundColor"] == drawn["wicks"]["backgroundColor"] == [RISE, FALL, UNCHANGED]
    assert drawn["average"]["data"] == [None, 102, 104]
    assert drawn["volume"]["data"] == [10, None, 30]


def test_bodies_wicks_and_volume_are_stacked_on_axes_of_their_own():
    drawn = datasets(bars(RISING))
    assert len({drawn[name]["xAxisID"] for name in ("bodies", "wicks", "volume")}) == 3


def test_the_chart_shows_thirty_sessions_and_dates_every_sixth_up_to_the_last():
    labels = chart_request("GOOG", bars(*[RISING] * 40))["chart"]["data"]["labels"]
    assert len(labels) == CHART_SESSIONS == 30
    assert [label for label in labels if label] == ["Feb 7", "Feb 15", "Feb 25", "Mar 5", "Mar 13"]
    assert labels[5] == "Feb 7"
    assert labels[-1] == "Mar 13"


def test_every_one_of_a_few_sessions_has_its_date():
    assert chart_request("GOOG", bars(RISING, FALLING))["chart"]["data"]["labels"] == ["Jan 17", "Jan 18"]


def test_the_title_shows_the_last_close():
    options = chart_request("BRK.A", bars((1, 500_000, 1, 123_456.789)))["chart"]["options"]
    assert options["title"]["text"] == "BRK.A  $123,456.79"


def test_labels_are_readable_on_a_phone():
    phone = 343  # CSS pixels for a chart on a screen of 375
    assert LABEL_SIZE * phone / WIDTH >= 11


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        (RISING, ["110", "108", "106", "104", "102", "100", "98"]),
        ((27.0, 28.2, 26.9, 28.0), ["28.25", "28.00", "27.75", "27.50", "27.25", "27.00", "26.75"]),
        ((480_000, 500_000, 470_000, 490_000), [f"{n},000" for n in range(505, 469, -5)]),
        ((0.00011, 0.00013, 0.0001, 0.00012), [f"0.{n:06}" for n in range(135, 99, -5)]),
        ((5, 90, 1, 60), ["100", "80", "60", "40", "20", "0"]),
        ((12.5, 12.5, 12.5, 12.5), ["12.65", "12.60", "12.55", "12.50", "12.45", "12.40", "12.35"]),
        ((0, 0, 0, 0), ["0.6", "0.5", "0.4", "0.3", "0.2", "0.1", "0.0"]),
    ],
)
def test_prices_are_labeled_in_round_steps_around_them(prices, expected):
    assert labels(bars(prices))[0] == expected


def test_the_price_axis_includes_the_average():
    shown = [float(label) for label in labels(bars(RISING, RISING, average=[70, 140]))[0]]
    assert min(shown) < 70
    assert max(shown) > 140


@pytest.mark.parametrize(
    ("most", "label"),
    [
        (400, "300"),
        (0.2, "0.15"),
        (1_000, "800"),
        (2_500_000, "2M"),
        (123_456_789, "100M"),
        (3e9, "2.5B"),
        (9e15, "8000T"),
    ],
)
def test_volume_has_a_band_of_its_own_below_the_prices_with_a_label_of_its_own(most, label):
    frame = bars(RISING, FALLING, volume=[most / 4, most])
    prices, volume = labels(frame)
    assert volume == [label, ""]
    lines = axes(frame)
    steps, top = len(prices) + len(volume) - 1, lines["volume"]["ticks"]["max"]
    assert 1 < most / (top / steps) <= 1.4
    assert lines["left"]["labels"].index("Volume") == len(prices) - 1


def test_without_volume_the_prices_have_the_whole_height():
    for volume in (0, math.nan):
        frame = bars(RISING, volume=volume)
        assert labels(frame)[1] == []
        assert price_limits(frame) == (98, 110)
        assert set(axes(frame)["left"]["labels"]) == {""}


@pytest.mark.parametrize("hole", [math.nan, math.inf, None])
def test_a_request_is_strict_json_with_any_value_missing(hole):
    frame = bars(RISING, FALLING, FLAT).astype({"volume": object, "rolling_avg": object})
    frame.loc[0, ["volume", "rolling_avg"]] = hole
    frame["high"] = [108, hole, 106]
    request = chart_request("GOOG", frame)
    assert len(request["chart"]["data"]["labels"]) == 2  # a session without its high has no candle
    assert json.loads(json.dumps(request, allow_nan=False)) == request


def test_prices_may_be_decimals_from_the_database():
    frame = bars(RISING).astype({"close": object})
    frame["close"] = [Decimal("106.50")]
    assert datasets(frame)["bodies"]["data"] == [[100, 106.5]]


def test_the_bars_are_left_unchanged():
    frame = bars(RISING, FALLING)
    before = frame.copy()
    chart_request("GOOG", frame)
    pd.testing.assert_frame_equal(frame, before)


def test_bars_without_a_complete_session_are_an_error():
    with pytest.raises(ValueError, match="no session has all of open, high, low and close"):
        chart_request("GOOG", bars((1, math.nan, 1, 1)))


def test_alt_text_describes_the_chart_in_a_sentence():
    assert alt_text("GOOG", bars(RISING, FALLING, FLAT)) == (
        "GOOG, 3 sessions from Jan 17 to Jan 21, 2013: closed at $103.00, between $98.00 and $108.00."
    )
    assert alt_text("TINY", bars((0.00011, 0.00013, 0.0001, 0.5))) == (
        "TINY, 1 session on Jan 17, 2013: closed at $0.50, between $0.0001 and $0.00013."
    )


@pytest.fixture(scope="module")
def url():
    try:
        with Renderer() as renderer:
            yield renderer.url
    except RendererUnavailable as error:
        pytest.skip(str(error))


class Picture:
    """A rendered chart whose pixels are read by session and price, located by its grid lines."""

    def __init__(self, url, frame):
        answer = requests.post(url, json=chart_request("GOOG", frame), timeout=10)
        assert (answer.status_code, answer.headers.get("X-quickchart-error")) == (200, None)
        self.size = len(answer.content)
        self.image = Image.open(io.BytesIO(answer.content)).convert("RGB")
        pixels = np.asarray(self.image)
        lines = [(pixels == ImageColor.getrgb(color)).all(axis=2) for color in (GRID, FLOOR)]
        rows = np.flatnonzero(np.any([line.sum(axis=1) > self.image.width / 8 for line in lines], axis=0))
        columns = np.flatnonzero(lines[0][rows[0]])
        self.left, self.right = columns[0], columns[-1] + 1
        self.lines = 1 + np.count_nonzero(np.diff(rows) > 1)
        self.top, self.bottom = rows[0] + 1, rows[-1]
        self.low, self.high = price_limits(frame)
        self.sessions = len(frame)

    def at(self, session, price, aside=0):
        """The color at the middle of a session, or `aside` pixels from it, as ``#RRGGBB``."""
        x = self.left + (self.right - self.left) * (session + 0.5) / self.sessions + aside
        y = self.bottom - (self.bottom - self.top) * (price - self.low) / (self.high - self.low)
        pixel: Any = self.image.getpixel((round(x), round(y)))
        red, green, blue = pixel
        return f"#{red:02X}{green:02X}{blue:02X}"

    def wick(self, session, price):
        """The colors of the three middle pixels; the outer ones of so thin a line may be blurred."""
        return {self.at(session, price, aside) for aside in (-1, 0, 1)}

    def around(self, session, price, aside=0):
        """The colors within five pixels above and below."""
        step = (self.high - self.low) / (self.bottom - self.top)
        return {self.at(session, price + n * step, aside) for n in range(-5, 6)}


@pytest.mark.parametrize("scale", [0.000001, 0.01, 1, 5000])
def test_candles_stand_at_their_prices_in_their_colors(url, scale):
    rising, falling = (tuple(price * scale for price in prices) for prices in (RISING, FALLING))
    picture = Picture(url, bars(rising, falling))
    assert picture.image.size == (1120, 720)
    for session, color, body, wick in ((0, RISE, (100, 106), (98, 108)), (1, FALL, (101, 106), (99, 107))):
        for price in (body[0] + 0.3, 103.1, body[1] - 0.3):
            assert picture.at(session, price * scale) == color
            assert picture.at(session, price * scale, aside=12) == color
            assert picture.at(session, price * scale, aside=18) != color
        for price in (wick[0] + 0.3, body[0] - 0.3, body[1] + 0.3, wick[1] - 0.3):
            assert color in picture.wick(session, price * scale)
            assert picture.at(session, price * scale, aside=12) == WHITE
        for price in (wick[0] - 0.3, wick[1] + 0.3):
            assert picture.at(session, price * scale) == WHITE


def test_a_session_that_closed_where_it_opened_has_a_visible_body(url):
    picture = Picture(url, bars(RISING, FLAT))
    assert UNCHANGED in picture.around(1, 103, aside=12)
    assert UNCHANGED not in picture.around(1, 104.5, aside=12)
    assert UNCHANGED in picture.wick(1, 104.5)


@pytest.mark.parametrize("price", [0.0001, 12.5, 500_000])
def test_a_constant_price_is_drawn_as_a_line(url, price):
    picture = Picture(url, bars(*[(price,) * 4] * 3))
    assert all(UNCHANGED in picture.around(session, price) for session in range(3))


def test_a_single_session_is_centered_above_its_volume(url):
    picture = Picture(url, bars(RISING))
    assert picture.at(0, 103.1) == RISE
    assert picture.at(0, picture.low + (picture.high - picture.low) * 0.1) == VOLUME
    assert picture.at(0, picture.low + (picture.high - picture.low) * 0.21) == WHITE


def test_the_average_line_breaks_where_it_is_unknown(url):
    average = [104.5, 104.5, math.nan, math.nan, 104.5, 104.5]
    picture = Picture(url, bars(*[(101, 103, 100, 102)] * 6, average=average))
    assert AVERAGE in picture.around(0.5, 104.5)
    assert AVERAGE not in picture.around(2.5, 104.5)
    assert AVERAGE in picture.around(4.5, 104.5)


@pytest.mark.parametrize("price", [0.00009, 0.01, 2.77, 12.5, 500_000])
def test_no_tick_of_the_price_axis_is_lost_to_binary_fractions(url, price):
    frame = bars(*[(price,) * 4] * 3, volume=0)
    assert Picture(url, frame).lines == len(labels(frame)[0])


def test_a_price_gap_between_sessions_stays_empty(url):
    picture = Picture(url, bars((100, 102, 99, 101), (150, 152, 149, 151)))
    assert picture.at(0, 100.5) == RISE
    assert picture.at(1, 150.5) == RISE
    assert picture.at(0, 125.3) == picture.at(1, 125.3) == WHITE


def test_a_session_without_a_bar_takes_no_space(url):
    picture = Picture(url, bars(RISING, FALLING, RISING).drop(1))
    assert picture.sessions == 2
    assert [picture.at(session, 103.1) for session in range(2)] == [RISE, RISE]


def test_prices_from_a_hundredth_of_a_cent_to_half_a_million_share_a_chart(url):
    picture = Picture(url, bars((0.0001, 500_000, 0.0001, 250_000), (400_000, 400_000, 100_000, 200_000)))
    assert picture.at(0, 125_500) == RISE
    assert RISE in picture.wick(0, 450_500)
    assert picture.at(0, 450_500, aside=12) == WHITE
    assert picture.at(1, 300_500) == FALL
    assert FALL in picture.wick(1, 150_500)


def test_a_full_chart_is_small_enough_for_mail(url):
    waves = [(100 + 9 * math.sin(n), 112, 88, 100 + 9 * math.cos(n)) for n in range(30)]
    assert Picture(url, bars(*waves, average=100.0)).size < 80_000
