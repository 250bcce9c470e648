"""The market's pages in a real browser, under the content policy that they are served with."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Download, Locator, Page, expect

from sandbox.bars import recorded_bars
from sandbox.npm import NodeUnavailable, install
from tests.browser.chromium import HOME, PURPOSE
from tests.browser.site import recorded_site, synthetic_site
from tests.browser.test_pages import TEXTS, contrast
from web.build import build_assets
from web.server import SiteServer

PHONE, DESKTOP, WIDE = 375, 900, 1400
ADDRESSES = {
    "overview": "#/",
    "screener": "#/screener?rsi_14=..60&sort=-change_1m",
    "symbol": "#/symbol/AAPL?with=GOOG",
    "data": "#/data?symbol=FB",
}
SCREENS = [
    (PHONE, "dark"),
    (WIDE, "light"),
    *(
        pytest.param(width, scheme, marks=pytest.mark.slow)
        for width, scheme in ((PHONE, "light"), (DESKTOP, "light"), (DESKTOP, "dark"), (WIDE, "dark"))
    ),
]
DEMO_SESSIONS = 71  # to 2013-03-01
MANY = 1_500
REQUESTED: dict[Page, list[str]] = {}  # the URLs that each page has asked for
WORST = """
async () => {
  const index = await (await fetch("index.json")).json();
  const { worst } = await (await fetch(index.files.summary.path)).json();
  return worst.map((row) => [row.change_1d, row.symbol]);
}
"""


@pytest.fixture(scope="session")
def assets() -> Path:
    """The built script and style."""
    try:
        return build_assets()
    except NodeUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def site(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the five recorded symbols; tests that damage it take a copy."""
    return recorded_site(tmp_path_factory.mktemp("site") / "five")


@pytest.fixture(scope="session")
def url(site: Path) -> Iterator[str]:
    with SiteServer(site) as server:
        yield server.url


@pytest.fixture(scope="session")
def many(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a market of more symbols than fit on a screen."""
    with SiteServer(synthetic_site(tmp_path_factory.mktemp("site") / "many", MANY, 60)) as server:
        yield server.url


@pytest.fixture
def broken(site: Path, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A copy of the site to damage, and its URL."""
    copy = tmp_path / "broken"
    shutil.copytree(site, copy)
    with SiteServer(copy) as server:
        yield copy, server.url


@pytest.fixture(scope="session")
def axe() -> str:
    try:
        install(HOME, PURPOSE)
    except NodeUnavailable as error:
        pytest.skip(str(error))
    return (HOME / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Any]:
    """Opens pages; at the end no page may have logged an error or asked another origin."""
    contexts, problems, tabs = [], [], []

    def opened(
        address: str,
        *,
        width: int = DESKTOP,
        scheme: Any = "light",
        errors: bool = False,
        before: Any = None,
        **options: Any,
    ) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        tabs.append((page, urlsplit(address).netloc))
        REQUESTED[page] = []
        page.on("request", lambda request: REQUESTED[page].append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        if not errors:  # the browser logs failed requests as errors
            page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        if before:
            before(page)
        page.goto(address)
        ready(page)
        return page

    yield opened
    for page, host in tabs:
        others = [asked for asked in REQUESTED[page] if urlsplit(asked).netloc not in (host, "")]
        assert others == []
    for context in contexts:
        context.close()
    assert problems == []


def wait_for(page: Page, condition: str, arg: Any = None) -> None:
    """Wait until a condition holds; the browser's own way would need the policy to allow eval."""
    for _ in range(200):
        if page.evaluate(condition, arg):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"{condition} does not hold after 5 s")


def ready(page: Page) -> None:
    """Wait until nothing on the page is loading."""
    wait_for(page, "document.querySelector('main')?.children.length > 0 && !document.querySelector('[aria-busy]')")


def go(page: Page, hash_: str) -> None:
    page.evaluate("hash => { location.hash = hash }", hash_)
    page.wait_for_timeout(50)
    ready(page)


def view(page: Page) -> list[float]:
    """The first and the last row that the chart shows."""
    wait_for(page, "document.querySelector('.price .stage')?.dataset.view")
    return [float(end) for end in page.locator(".price .stage").get_attribute("data-view").split()]


def rows_of(table: Locator) -> list[list[str]]:
    return table.evaluate(
        "t => [...t.tBodies[0].rows].filter(r => !r.ariaHidden).map(r => [...r.cells].map(c => c.innerText))"
    )


def saved(download: Download) -> list[dict[str, str]]:
    return list(csv.DictReader(download.path().read_text(encoding="utf-8").splitlines()))


# -- Every page


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
@pytest.mark.parametrize("name", ADDRESSES)
def test_a_page_fits_the_screen_and_is_accessible(
    open_page: Any, url: str, axe: str, name: str, width: int, scheme: str
) -> None:
    page = open_page(url + ADDRESSES[name], width=width, scheme=scheme)
    if name == "overview":
        page.get_by_text("As a table").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    texts = page.evaluate(TEXTS)
    assert len(texts) > 30
    assert [text for text in texts if text["size"] < 12] == []
    # The letters of a pressed button stand on its own color; its ring of the average has no text.
    assert [text for text in texts if contrast(text["ink"], text["paper"]) < 4.5] == []
    page.evaluate(axe + ";0")
    found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, ...v.nodes.map(n => n.html)]))")
    assert found == []


@pytest.mark.parametrize("name", ADDRESSES)
def test_the_theme_changes_at_a_click_and_is_remembered(open_page: Any, url: str, name: str) -> None:
    page = open_page(url + ADDRESSES[name])
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Switch to dark colors").click()
    dark = page.evaluate(paper)
    assert dark != light
    page.reload()
    ready(page)
    assert page.evaluate(paper) == dark
    page.get_by_role("button", name="Switch to light colors").click()
    assert page.evaluate(paper) == light


def test_pages_are_reached_with_the_keyboard_alone(open_page: Any, url: str) -> None:
    page = open_page(url)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("combobox", name="Find a symbol")).to_be_focused()
    page.keyboard.type("m")
    expect(page.get_by_role("option", name="MSFT")).to_be_visible()
    page.keyboard.press("Backspace")
    page.keyboard.type("goo")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", name="GOOG")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("GOOG")
    assert urlsplit(page.url).fragment == "/symbol/GOOG"
    assert page.title() == "GOOG – Market"


def test_back_returns_to_the_page_before(open_page: Any, url: str) -> None:
    page = open_page(url)
    page.get_by_role("link", name="IBM").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("IBM")
    ready(page)
    page.get_by_role("button", name="3m").click()
    page.get_by_role("button", name="Log").click()
    assert urlsplit(page.url).fragment == "/symbol/IBM?range=3m&scale=log"
    page.go_back()
    expect(page.get_by_role("heading", name="Symbols")).to_be_visible()


# -- Overview


def test_the_overview_of_five_symbols_shows_each_with_its_figures(open_page: Any, url: str) -> None:
    page = open_page(url)
    cards = page.locator(".symbol-card")
    assert [text.split("\n")[0] for text in cards.all_inner_texts()] == ["FB", "IBM", "GOOG", "MSFT", "AAPL"]
    apple = cards.last.inner_text()
    assert "430.47" in apple
    assert "−2.48%" in apple
    assert cards.last.get_by_role("img").first.get_attribute("aria-label").startswith("60 closes, from ")


def test_the_overview_of_a_market_shows_its_ends_and_leads_to_the_screener(open_page: Any, many: str) -> None:
    page = open_page(many)
    for title, count in (("Best", 10), ("Worst", 10), ("Most unusual volume", 10)):
        assert page.get_by_role("region", name=title, exact=True).locator("li").count() == count
    page.get_by_role("link", name="All by worst").click()
    ready(page)
    first = page.locator(".virtual tbody tr").first
    worst = min(page.evaluate(WORST))
    expect(first.locator("a")).to_have_text(worst[1])


def test_breadth_has_a_table_beside_its_chart(open_page: Any, url: str) -> None:
    page = open_page(url)
    page.get_by_text("As a table").click()
    rows = rows_of(page.get_by_role("table", name="Breadth by session, the latest first"))
    assert len(rows) == DEMO_SESSIONS
    assert rows[0][:4] == ["2013-03-01", "4", "1", "0"]


# -- Screener


def test_filters_and_sorting_are_kept_in_the_address(open_page: Any, many: str) -> None:
    page = open_page(many + "#/screener")
    page.get_by_label("Add a filter").select_option("rsi_14")
    page.keyboard.type("30")
    page.keyboard.press("Tab")
    page.keyboard.type("45.5")
    page.get_by_label("Symbol holds").fill("syn00")
    page.get_by_role("button", name="RSI 14", exact=True).click()
    page.get_by_text("Columns").click()
    page.get_by_label("Volatility").uncheck()
    page.get_by_label("Avg. 50", exact=True).check()
    address = page.url
    assert urlsplit(address).fragment == (
        "/screener?q=syn00&rsi_14=30..45.5&sort=-rsi_14&columns=close,change_1d,change_1w,change_1m,change_ytd,"
        "volume,volume_ratio,place_52w,rsi_14,sma_50"
    )
    other = open_page(address)
    shown = rows_of(other.locator(".virtual"))[:15]
    assert shown == rows_of(page.locator(".virtual"))[:15]
    assert other.locator(".total").inner_text() == page.locator(".total").inner_text()
    heads = other.locator(".virtual thead th").all_inner_texts()
    place = [head.strip(" ▾") for head in heads].index("RSI 14")
    strength = [float(row[place]) for row in shown]
    assert len(strength) > 5
    assert strength == sorted(strength, reverse=True)
    assert all(30 <= value <= 45.5 for value in strength)


def test_the_screener_saves_its_result_with_every_digit(open_page: Any, url: str) -> None:
    page = open_page(url + "#/screener?change_1d=..1.5&sort=-change_1d&columns=close,volume,rsi_14")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = saved(download.value)
    assert [row["symbol"] for row in rows] == ["IBM", "GOOG", "MSFT", "AAPL"]
    assert list(rows[0]) == ["symbol", "close", "volume", "rsi_14"]
    assert (rows[1]["close"], rows[1]["volume"]) == ("806.19", "4346400")


def test_the_screener_draws_only_the_rows_in_view(open_page: Any, many: str) -> None:
    page = open_page(many + "#/screener")
    table = page.locator(".virtual")
    assert table.get_attribute("aria-rowcount") == str(MANY + 1)
    assert page.locator(".virtual tbody tr").count() < 60
    page.locator(".scroller").evaluate("e => { e.scrollTop = e.scrollHeight }")
    expect(page.get_by_role("link", name=f"SYN{MANY - 1:05}")).to_be_in_viewport()
    assert page.locator(".virtual tbody tr").count() < 60


@pytest.mark.parametrize("address", ["#/screener?columns=close,change_ytd,high_52w,volume", "#/symbol/SYN00010"])
def test_no_number_is_cut_off(open_page: Any, many: str, address: str) -> None:
    page = open_page(many + address, width=PHONE)
    cells = page.locator(".virtual td.number")
    cells.first.wait_for()
    widths = cells.evaluate_all("cells => cells.map(cell => [cell.scrollWidth, cell.clientWidth])")
    assert len(widths) > 40
    assert all(inside <= cell for inside, cell in widths)


def test_arrows_walk_through_the_rows_of_the_screener(open_page: Any, many: str) -> None:
    page = open_page(many + "#/screener")
    page.get_by_role("link", name="SYN00000").focus()
    page.keyboard.press("End")
    expect(page.get_by_role("link", name=f"SYN{MANY - 1:05}")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"SYN{MANY - 2:05}")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("rsi_14=abc", "The filter rsi_14=abc is left out; valid is a range such as 5..10, 5.. or ..10."),
        ("nonsense=1..2", "There is no figure “nonsense” to filter by."),
        ("sort=-%3Cimg%3E", "There is no figure “<img>” to sort by."),
        ("columns=close,foo", "There is no figure “foo” to show."),
    ],
)
def test_a_wrong_address_of_the_screener_is_told_and_the_rest_of_it_counts(
    open_page: Any, url: str, query: str, message: str
) -> None:
    page = open_page(f"{url}#/screener?{query}&q=oo")
    expect(page.get_by_role("alert")).to_have_text(message)
    expect(page.locator(".total")).to_have_text("1 of 5 symbols")


def test_a_filter_that_is_not_a_number_changes_nothing_and_says_so(open_page: Any, url: str) -> None:
    page = open_page(url + "#/screener?close=100..")
    field = page.get_by_label("Close from")
    field.fill("1x")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".total")).to_have_text("3 of 5 symbols")
    field.fill("0.5k")
    expect(page.locator(".total")).to_have_text("1 of 5 symbols")


# -- Symbol


def test_prices_are_shown_to_the_digit(open_page: Any, url: str) -> None:
    bars = recorded_bars()
    page = open_page(url + "#/symbol/AAPL")
    with page.expect_download() as download:
        page.get_by_role("region", name="Rows", exact=True).get_by_role("button", name="CSV").click()
    rows = saved(download.value)
    column = bars.columns["AAPL"]
    expected = bars.prices[:, -DEMO_SESSIONS:, column] / 10_000
    assert [row["date"] for row in rows] == [str(day) for day in bars.sessions[-DEMO_SESSIONS:]]
    for place, name in enumerate(("open", "high", "low", "close")):
        assert [float(row[name]) for row in rows] == expected[place].tolist()
    assert [int(row["volume"]) for row in rows] == bars.volumes[-DEMO_SESSIONS:, column].tolist()
    shown = {row[0]: row for row in rows_of(page.locator(".virtual"))}
    assert shown["Feb 12, 2013"][1:6] == ["479.51", "482.38", "467.744", "467.90", "21,751,900"]


def test_the_chart_has_the_colors_of_the_report(open_page: Any, url: str) -> None:
    for scheme, rise, fall in (("light", "#0072B2", "#D55E00"), ("dark", "#56B4E9", "#F58A45")):
        page = open_page(url + "#/symbol/AAPL", width=WIDE, scheme=scheme)
        picture = Image.open(io.BytesIO(page.locator(".price .canvas").screenshot())).convert("RGB")
        pixels = np.array(picture).reshape(-1, 3)
        for color in (rise, fall):
            wanted = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
            assert (np.abs(pixels - wanted).max(axis=1) <= 2).sum() > 500


def test_a_range_decides_what_the_chart_shows(open_page: Any, url: str) -> None:
    page = open_page(url + "#/symbol/GOOG?range=all")
    assert view(page)[0] <= 0
    sessions = [str(day) for day in recorded_bars().sessions[-DEMO_SESSIONS:]]
    first = next(n for n, day in enumerate(sessions) if day >= "2013-02-01")
    page.get_by_role("button", name="1m", exact=True).click()
    shown = "Math.round(parseFloat(document.querySelector('.price .stage').dataset.view) + 0.5)"
    wait_for(page, f"first => {shown} === first", first)
    assert urlsplit(page.url).fragment == "/symbol/GOOG?range=1m"


def test_the_wheel_zooms_and_the_mouse_pans(open_page: Any, url: str) -> None:
    page = open_page(url + "#/symbol/GOOG?range=3m", width=WIDE)
    first, last = view(page)
    box = page.locator(".price .canvas").bounding_box()
    page.mouse.move(box["x"] + 500, box["y"] + 150)
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(200)
    nearer = view(page)
    assert nearer[1] - nearer[0] < last - first
    page.mouse.down()
    page.mouse.move(box["x"] + 800, box["y"] + 150, steps=5)
    page.mouse.up()
    page.wait_for_timeout(200)
    panned = view(page)
    assert panned[0] < nearer[0]
    assert panned[1] - panned[0] == pytest.approx(nearer[1] - nearer[0], abs=1)
    assert page.locator(".segments [aria-pressed=true]", has_text="3m").count() == 0


def test_two_fingers_zoom_and_one_finger_scrolls_the_page(open_page: Any, url: str) -> None:
    page = open_page(url + "#/symbol/GOOG?range=all", width=PHONE, has_touch=True, is_mobile=True)
    first, last = view(page)
    box = page.locator(".price .canvas").bounding_box()
    x, y = box["x"] + 130, box["y"] + 120
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        session.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": px, "y": py, "id": n} for n, (px, py) in enumerate(points)]},
        )

    touch("touchStart", (x - 20, y), (x + 20, y))
    for step in range(1, 9):
        touch("touchMove", (x - 20 - 8 * step, y), (x + 20 + 8 * step, y))
        page.wait_for_timeout(20)
    touch("touchEnd")
    page.wait_for_timeout(200)
    nearer = view(page)
    assert nearer[1] - nearer[0] < (last - first) * 0.7
    touch("touchStart", (x, y + 60))
    for step in range(1, 9):
        touch("touchMove", (x, y + 60 - 12 * step))
        page.wait_for_timeout(20)
    touch("touchEnd")
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") > 30
    assert view(page) == nearer


def test_the_chart_is_read_and_moved_by_keys(open_page: Any, url: str) -> None:
    page = open_page(url + "#/symbol/AAPL?range=all")
    stage = page.get_by_role("application", name=re.compile("AAPL: daily candles"))
    stage.focus()
    live = page.locator(".price [aria-live]")
    page.keyboard.press("ArrowLeft")
    expect(live).to_contain_text("Mar 1, 2013: Open 438.00, High 438.1799, Low 429.98, Close 430.47")
    page.keyboard.press("ArrowLeft")
    expect(live).to_contain_text("Feb 28, 2013: ")
    page.keyboard.press("Home")
    expect(live).to_contain_text("Nov 16, 2012: ")
    before = view(page)
    page.keyboard.press("+")
    page.wait_for_timeout(100)
    nearer = view(page)
    assert nearer[1] - nearer[0] < before[1] - before[0]
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_timeout(100)
    assert view(page)[0] > nearer[0]
    page.keyboard.press("0")
    page.wait_for_timeout(100)
    assert view(page)[0] <= 0


def test_two_symbols_are_compared_in_percent(open_page: Any, url: str) -> None:
    page = open_page(url + "#/symbol/GOOG")
    page.get_by_role("combobox", name=re.compile("Compare")).fill("aapl")
    page.keyboard.press("Enter")
    expect(page.locator(".price .legend")).to_contain_text("AAPL 430.47")
    expect(page.get_by_role("button", name="Log")).to_be_disabled()
    assert urlsplit(page.url).fragment == "/symbol/GOOG?with=AAPL"
    other = open_page(page.url)
    expect(other.locator(".price .legend")).to_contain_text("AAPL 430.47")
    go(other, "#/symbol/GOOG?with=NOPE")
    expect(other.get_by_text("No prices of NOPE are stored.")).to_be_visible()


def test_splits_and_corrections_are_listed_with_the_symbol(open_page: Any, url: str) -> None:
    page = open_page(url + "#/symbol/IBM")
    expect(page.locator(".events li")).to_have_text(["2013-02-01corrected: close 204.00 → 205.18"])
    go(page, "#/symbol/AAPL")
    expect(page.locator(".events li")).to_have_text(
        [
            "2013-01-17Split 2 for 1; earlier prices are adjusted.",
            "2013-01-15restated with 39 earlier bars: close 971.84 → 485.92",
        ]
    )


@pytest.mark.parametrize(
    ("symbol", "named"),
    [("NOPE", "NOPE"), ("%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", "<img src=x onerror=alert(1)>"), ("%", "%")],
)
def test_a_symbol_that_does_not_exist_is_told(open_page: Any, url: str, symbol: str, named: str) -> None:
    page = open_page(f"{url}#/symbol/{symbol}")
    expect(page.locator("main")).to_contain_text(f"No prices of {named} are stored.")
    assert page.locator("main img").count() == 0
    expect(page.get_by_role("heading", level=1)).to_have_text(named)


def test_an_address_without_a_page_is_told(open_page: Any, url: str) -> None:
    page = open_page(url + "#/constructor")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")


# -- Data


def test_the_calendar_shows_the_state_of_each_session(open_page: Any, url: str) -> None:
    page = open_page(url + "#/data")
    march = page.get_by_role("table", name="March 2013")
    expect(march.locator("td:has(.cell)")).to_have_text(["1 Provisional"])
    february = page.get_by_role("table", name="February 2013")
    assert "18" in february.locator("td.closed").all_inner_texts()  # a holiday
    page.get_by_role("combobox", name="Symbol of the calendar").fill("goog")
    page.keyboard.press("Enter")
    expect(february.locator(".missing")).to_have_text(["19 Missing"])
    assert urlsplit(page.url).fragment == "/data?symbol=GOOG"
    page.get_by_role("combobox", name="Symbol of the calendar").fill("")
    page.keyboard.press("Enter")
    expect(february.locator(".missing")).to_have_count(0)


def test_corrections_rejected_bars_and_runs_are_listed(open_page: Any, url: str) -> None:
    page = open_page(url + "#/data")
    (rejected,) = rows_of(page.get_by_role("table", name="The last rejected bars"))
    assert rejected[:3] == ["FB", "2013-02-14", "its high 27.1 is below its low 27.6"]
    bar = json.loads(rejected[3])
    assert [bar[name] for name in "ohlcv"] == [27.4, 27.1, 27.6, 27.5, 35_000_000]
    runs = rows_of(page.get_by_role("table", name="The last runs"))
    assert [run[1:6] for run in runs[:3]] == [
        ["daily_update", "2013-03-02", "ok", "5", "20"],
        ["daily_update", "2013-03-02", "failed", "1", "0"],
        ["initialize", "2013-03-02", "ok", "6", "40"],
    ]
    assert "the provider refused the key" in runs[1][6]
    assert rows_of(page.get_by_role("table", name="The last corrections")) == [
        ["IBM", "2013-02-01", "2013-02-06", "corrected: close 204.00 → 205.18"],
        ["AAPL", "2013-01-15", "2013-02-05", "restated with 39 earlier bars: close 971.84 → 485.92"],
    ]
    strips = page.get_by_role("table", name="The data by symbol").get_by_role("link", name=re.compile("IBM: "))
    assert "2013-02-01 corrected" in strips.get_attribute("aria-label")


# -- What goes wrong


@contextmanager
def changed_index(folder: Path) -> Iterator[dict[str, Any]]:
    index = json.loads((folder / "index.json").read_text())
    yield index
    (folder / "index.json").write_text(json.dumps(index))


def data_file(folder: Path, name: str) -> Path:
    (path,) = (folder / "data").glob(f"{name}-*")
    return path


DAMAGES = {
    "missing": (lambda path: path.unlink(), "could not be loaded: 404"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged"),
    "other bytes": (lambda path: path.write_bytes(b"\xff" * path.stat().st_size), "is damaged"),
}


@pytest.mark.parametrize("damage", ["missing", "cut short", pytest.param("other bytes", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "address", "still"),
    [
        ("breadth", "#/", "FB"),
        ("summary", "#/", "Breadth over time"),
        ("overview", "#/symbol/AAPL", "430.47"),
        ("recent", "#/symbol/AAPL", "468.22"),
        ("calendar", "#/data", "Last runs"),
        ("state", "#/symbol/AAPL", "430.47"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_of_the_page_works(
    broken: tuple[Path, str], open_page: Any, name: str, address: str, still: str, damage: str
) -> None:
    folder, url = broken
    path = data_file(folder, name)
    whole = path.read_bytes()
    harm, message = DAMAGES[damage]
    harm(path)
    page = open_page(url + address, errors=True)
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text(f"data/{path.name} {message}")
    expect(page.locator("main")).to_contain_text(still)
    path.write_bytes(whole)
    while (again := page.get_by_role("button", name="Try again").first).count():
        again.click()
        ready(page)
    expect(page.locator("main")).to_contain_text(still)


def test_a_page_older_than_its_data_asks_to_be_loaded_again(broken: tuple[Path, str], open_page: Any) -> None:
    folder, url = broken
    with changed_index(folder) as index:
        index["version"] = 2
    page = open_page(url)
    expect(page.get_by_role("alert")).to_contain_text("The data is of version 2, and this page knows version 1.")
    expect(page.locator(".symbol-card")).to_have_count(5)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"null"])
def test_a_damaged_index_is_told(broken: tuple[Path, str], open_page: Any, content: bytes) -> None:
    folder, url = broken
    whole = (folder / "index.json").read_bytes()
    (folder / "index.json").write_bytes(content)
    page = open_page(url, errors=True)
    expect(page.get_by_role("alert")).to_contain_text("index.json")
    (folder / "index.json").write_bytes(whole)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".symbol-card")).to_have_count(5)


def test_a_page_that_stays_open_takes_the_next_publication(broken: tuple[Path, str], open_page: Any) -> None:
    folder, url = broken
    old = (folder / "index.json").read_text()
    with changed_index(folder) as index:
        index["published_at"] = "2013-03-06T13:00:00Z"
        for name in ("calendar", "state"):
            file = index["files"][name]
            (folder / file["path"]).rename(folder / "data" / f"{name}-new.json")
            file["path"] = f"data/{name}-new.json"
    # The page has read the index before this publication, and looks for files that are no more.
    page = open_page(
        url, errors=True, before=lambda page: page.route("**/index.json", lambda r: r.fulfill(body=old), times=1)
    )
    go(page, "#/data")
    expect(page.get_by_role("table", name="March 2013")).to_be_visible()
    expect(page.get_by_text("Mar 6, 2013")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_small_site_goes_on_without_a_network(open_page: Any, url: str, site: Path) -> None:
    page = open_page(url, errors=True)
    files = len(list((site / "data").iterdir()))
    wait_for(
        page,
        "n => performance.getEntriesByType('resource').filter(e => e.name.includes('/data/')).length >= n",
        arg=files,
    )
    page.context.set_offline(True)
    asked = len(REQUESTED[page])
    for name, shown in (
        ("symbol/AAPL", "430.47"),
        ("screener", "5 of 5 symbols"),
        ("data", "Last runs"),
        ("", "Symbols"),
    ):
        go(page, f"#/{name}")
        expect(page.locator("main")).to_contain_text(shown)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert REQUESTED[page][asked:] == []


def test_without_a_network_a_large_site_shows_what_it_has(open_page: Any, many: str) -> None:
    page = open_page(many + "#/symbol/SYN00010", errors=True)
    page.get_by_role("region", name="History of the data").wait_for()
    ready(page)
    page.context.set_offline(True)
    go(page, "#/symbol/SYN00011")  # in the same part of the files
    expect(page.locator(".symbol-head .close")).to_be_visible()
    go(page, "#/")
    expect(page.get_by_role("alert").first).to_contain_text("could not be loaded: no answer from the network")
    go(page, "#/symbol/SYN00010")
    expect(page.locator(".symbol-head .close")).to_be_visible()


def test_the_single_page_opens_from_a_folder_without_a_request(open_page: Any, site: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(site / "market.html", tmp_path))
    page = open_page(path.as_uri())
    expect(page.locator(".symbol-card")).to_have_count(5)
    for name, shown in (("symbol/AAPL", "430.47"), ("screener", "5 of 5 symbols"), ("data", "Last runs")):
        go(page, f"#/{name}")
        expect(page.locator("main")).to_contain_text(shown)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert [asked for asked in REQUESTED[page] if not asked.startswith(("file:", "data:", "blob:"))] == []
    assert [asked for asked in REQUESTED[page] if asked.startswith("file:")] == [path.as_uri()]


def test_a_served_page_opened_from_a_folder_says_how_to_open_it(open_page: Any, site: Path) -> None:
    page = open_page((site / "index.html").as_uri(), errors=True)
    expect(page.get_by_role("alert")).to_contain_text("main.py site --open")


def test_a_chart_of_a_market_takes_three_requests(open_page: Any, many: str) -> None:
    page = open_page(many)
    page.wait_for_timeout(400)
    asked = len(REQUESTED[page])
    go(page, "#/symbol/SYN01234")
    wait_for(page, "performance.getEntriesByName('chart').length")
    prices = [request for request in REQUESTED[page][asked:] if "/history-" in request or "/recent-" in request]
    assert len(prices) <= 3
