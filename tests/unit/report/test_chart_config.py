import io
import json
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import requests
from PIL import Image, ImageColor

from report.chart_config import AVERAGE, CHART_SESSIONS, FALL, GRID, RISE, UNCHANGED, VOLUME, alt_text, chart_request
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


def price_ticks(frame):
    ticks = chart_request("GOOG", frame)["chart"]["options"]["scales"]["yAxes"][0]["ticks"]
    return ticks["min"], ticks["max"], ticks["stepSize"]


def test_a_request_asks_for_a_sharp_white_png_from_chart_js_2():
    request = chart_request("GOOG", bars(RISING))
    del request["chart"]
    assert request == {
        "version": "2.9.4",
        "width": 560,
        "height": 320,
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


def test_the_chart_shows_thirty_sessions_and_dates_every_fifth_up_to_the_last():
    labels = chart_request("GOOG", bars(*[RISING] * 40))["chart"]["data"]["labels"]
    assert len(labels) == CHART_SESSIONS == 30
    assert [label for label in labels if label] == ["Feb 6", "Feb 13", "Feb 20", "Feb 27", "Mar 6", "Mar 13"]
    assert labels[4] == "Feb 6"
    assert labels[-1] == "Mar 13"


def test_every_one_of_a_few_sessions_has_its_date():
    assert chart_request("GOOG", bars(RISING, FALLING))["chart"]["data"]["labels"] == ["Jan 17", "Jan 18"]


def test_the_title_shows_the_last_close_and_the_caption_explains_the_chart():
    options = chart_request("BRK.A", bars((1, 500_000, 1, 123_456.789), average=9, start="2013-03-01"))["chart"][
        "options"
    ]
    assert options["title"]["text"] == "BRK.A  $123,456.79"
    assert options["scales"]["xAxes"][0]["scaleLabel"]["labelString"] == "1 session on Mar 1, 2013  ·  grey: volume"
    options = chart_request("GOOG", bars(RISING, FALLING, average=100, volume=math.nan))["chart"]["options"]
    caption = "2 sessions to Jan 18, 2013  ·  line: 5-session average"
    assert options["scales"]["xAxes"][0]["scaleLabel"]["labelString"] == caption


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        (RISING, (94, 110, 2)),
        ((27.0, 28.2, 26.9, 28.0), (26.5, 28.5, 0.5)),
        ((480_000, 500_000, 470_000, 490_000), (460_000, 505_000, 5_000)),
        ((0.00011, 0.00013, 0.0001, 0.00012), (0.00009, 0.000135, 0.000005)),
        ((5, 90, 1, 60), (0, 100, 20)),  # never below zero
        ((12.5, 12.5, 12.5, 12.5), (12.4, 12.55, 0.05)),  # never of zero height
        ((0, 0, 0, 0), (0, 0.2, 0.2)),
    ],
)
def test_the_price_axis_fits_the_prices_with_round_ticks_and_leaves_room_for_volume(prices, expected):
    assert price_ticks(bars(prices)) == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_the_price_axis_includes_the_average():
    low, high, _ = price_ticks(bars(RISING, RISING, average=[70, 140]))
    assert low < 70
    assert high > 140


def test_the_highest_volume_takes_a_fifth_of_the_height():
    axis = chart_request("GOOG", bars(RISING, FALLING, volume=[100, 400]))["chart"]["options"]["scales"]["yAxes"][1]
    assert axis["ticks"] == {"min": 0, "max": 2000}
    assert axis["display"] is False


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
        grid = (np.asarray(self.image) == ImageColor.getrgb(GRID)).all(axis=2)
        rows = np.flatnonzero(grid.sum(axis=1) > self.image.width / 8)
        columns = np.flatnonzero(grid[rows[0]])
        self.left, self.right = columns[0], columns[-1] + 1
        self.lines = 1 + np.count_nonzero(np.diff(rows) > 1)
        self.top, self.bottom = rows[0] + 1, rows[-1]
        self.low, self.high, _ = price_ticks(frame)
        self.sessions = len(frame)

    def at(self, session, price, aside=0):
        """The color at the middle of a session, or `aside` pixels from it, as ``#RRGGBB``."""
        x = self.left + (self.right - self.left) * (session + 0.5) / self.sessions + aside
        y = self.bottom - (self.bottom - self.top) * (price - self.low) / (self.high - self.low)
        return "#{:02X}{:02X}{:02X}".format(*self.image.getpixel((round(x), round(y))))

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
    assert picture.image.size == (1120, 640)
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
    low, high, step = price_ticks(frame)
    assert Picture(url, frame).lines == round((high - low) / step) + 1


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
