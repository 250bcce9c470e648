"""The report in a real browser: on a phone and a desktop, in light and dark mode."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from datetime import date
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from report.model import Week
from report.outbox import write_report
from sandbox.renderer import Renderer, RendererUnavailable
from tests.browser.pages import DEMO, demo, longest_report, write_longest
from tests.support.parse_report import body, html_figures

PHONE, DESKTOP, WIDE = 375, 900, 1400
WEEK = Week(date(2013, 2, 25), date(2013, 3, 1), 5)
PAGES = {"report": 5, "longest": 9, "index": 0}  # the number of pictures on each

# Every text node with its font size, its color and the color behind it; the small bars of trends do not count.
TEXTS = """
() => {
  const parse = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color.slice(0, 3);
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    const text = walker.currentNode.textContent.replace(/[\\s\\u00a0]/g, "");
    if (!text || !element.getClientRects().length || element.closest("[aria-hidden], [role=img], style")) continue;
    found.push({text, size: parseFloat(style.fontSize), ink: parse(style.color).slice(0, 3), paper: behind(element)});
  }
  return found;
}
"""

# The rows of the tables of figures: each cell's text, its edges, those of its first line, and whether the text fits.
CELLS = """
() => [...document.querySelectorAll("tr")].filter((row) => row.querySelector(":scope > td.figure")).map((row) =>
  [...row.cells].map((cell) => {
    const edges = (node) => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return range.getBoundingClientRect();
    };
    const box = cell.getBoundingClientRect(), all = edges(cell), first = edges(cell.firstElementChild);
    return {text: cell.innerText, left: all.left, right: all.right, flush: first.right, inside: all.right <= box.right,
            table: [...document.querySelectorAll("table")].indexOf(row.closest("table"))};
  }))
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages under test, by name."""
    try:
        with Renderer():
            outbox = demo(tmp_path_factory.mktemp("demo"))
    except RendererUnavailable as error:
        pytest.skip(str(error))
    report = outbox / f"{DEMO}.html"
    picture = base64.b64decode(
        re.search(r"data:image/png;base64,([^\"]+)", report.read_text(encoding="utf-8")).group(1)
    )
    longest = write_longest(outbox, WEEK, picture)
    for name in ("weekly-report-2013-02-22", f"{DEMO}-preview", f"{DEMO}-BRK"):  # more to show in the index
        write_report(outbox, name, page=longest.read_text(encoding="utf-8"))
    return {"report": report, "longest": longest, "index": outbox / "index.html"}


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[PHONE, DESKTOP, WIDE])
def width(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=PAGES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def requested() -> list[str]:
    """The addresses that the page asks for."""
    return []


@pytest.fixture
def shown(
    chromium: Browser, pages: dict[str, Path], name: str, width: int, scheme: Any, requested: list[str]
) -> Iterator[Page]:
    """The page on a screen of that width and color scheme."""
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, device_scale_factor=2)
    page = context.new_page()
    page.on("request", lambda request: requested.append(request.url))
    page.goto(pages[name].as_uri())
    yield page
    context.close()


def luminance(color: list[float]) -> float:
    """Relative luminance as defined by WCAG 2."""
    parts = [c / 255 for c in color]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: list[float], paper: list[float]) -> float:
    lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_nothing_overflows_the_screen(shown: Page, width: int) -> None:
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    edges = shown.evaluate("[...document.body.querySelectorAll('*')].map(e => e.getBoundingClientRect().right)")
    assert max(edges) <= width


def test_every_picture_is_sharp_and_the_page_requests_nothing_else(
    shown: Page, name: str, pages: dict[str, Path], requested: list[str]
) -> None:
    pictures = shown.evaluate("[...document.images].map(i => [i.complete && i.naturalWidth, i.width, i.alt])")
    assert len(pictures) == PAGES[name]
    for pixels, across, alt in pictures:
        assert across >= 340
        assert pixels >= 2 * across
        assert "closed at $" in alt
    assert {url for url in requested if not url.startswith("data:")} == {pages[name].as_uri()}


def test_every_text_is_large_enough_and_has_contrast_in_light_and_dark(shown: Page, scheme: str) -> None:
    texts = shown.evaluate(TEXTS)
    assert len(texts) > 3
    assert [text for text in texts if text["size"] < 12] == []
    assert [text for text in texts if contrast(text["ink"], text["paper"]) < 4.5] == []
    assert {luminance(text["paper"]) < 0.05 for text in texts} == {scheme == "dark"}


@pytest.mark.parametrize("name", ["report"], indirect=True)
def test_charts_have_the_color_of_the_page_and_candles_with_contrast(shown: Page, scheme: str) -> None:
    picture = Image.open(io.BytesIO(shown.locator(".chart").first.screenshot())).convert("RGB")
    counts: Any = picture.getcolors(1 << 24)
    colors = {color: count for count, color in counts}
    paper = max(colors, key=colors.__getitem__)
    sheet = shown.evaluate("getComputedStyle(document.querySelector('.sheet')).backgroundColor")
    assert np.abs(np.array(paper) - [int(part) for part in re.findall(r"\d+", sheet)]).max() <= 1
    candles = [color for color, count in colors.items() if count > 300 and max(color) - min(color) > 90]
    blue, orange = (
        max((color for color in candles if color[first] > color[second]), key=colors.__getitem__)
        for first, second in ((2, 0), (0, 2))
    )
    assert contrast(list(blue), list(paper)) >= 3
    assert contrast(list(orange), list(paper)) >= 3


@pytest.mark.parametrize(("name", "scheme"), [("report", "light")], indirect=True)
def test_charts_stand_side_by_side_where_there_is_room(shown: Page, width: int) -> None:
    places = shown.evaluate("[...document.images].map(i => i.getBoundingClientRect()).map(r => [r.left, r.width])")
    assert len({left for left, _ in places}) == {PHONE: 1, DESKTOP: 2, WIDE: 2}[width]
    assert all(340 <= across < 480 for _, across in places)


@pytest.mark.parametrize("name", ["report", "longest"], indirect=True)
def test_table_cells_do_not_overlap_and_figures_are_flush_right(shown: Page, name: str) -> None:
    rows = shown.evaluate(CELLS)
    assert len(rows) == {"report": 5, "longest": 20}[name]
    for row in rows:
        assert all(cell["inside"] for cell in row)
        assert all(left["right"] < right["left"] for left, right in zip(row, row[1:]))
    for table in {row[0]["table"] for row in rows}:
        for column in range(1, 4):
            edges = [row[column]["flush"] for row in rows if row[0]["table"] == table]
            assert max(edges) - min(edges) < 1


@pytest.mark.parametrize(("name", "scheme", "width"), [("report", "light", DESKTOP)], indirect=True)
def test_the_browser_shows_the_figures_of_the_mail(shown: Page, pages: dict[str, Path]) -> None:
    mail = message_from_bytes(pages["report"].with_suffix(".eml").read_bytes(), policy=policy.strict)
    figures = html_figures(body(mail, "html"))
    for cells, (symbol, expected) in zip(shown.evaluate(CELLS), figures.items(), strict=True):
        lines = [line.replace("\xa0", " ") for cell in cells for line in cell["text"].split("\n")]
        assert lines[0] == symbol
        shown_figures = [lines[2], lines[4].lstrip("▲▼ "), lines[5], *lines[3].split(" – "), *lines[6:]]
        assert shown_figures == list(expected.values())


def test_a_report_of_five_symbols_is_a_small_mail(pages: dict[str, Path]) -> None:
    mail = pages["report"].with_suffix(".eml")
    assert mail.stat().st_size < 1_500_000
    parts = [part.get_content_type() for part in message_from_bytes(mail.read_bytes()).walk()]
    assert parts.count("image/png") == 5


def test_the_longest_report_is_not_clipped_by_gmail() -> None:
    report = longest_report(WEEK, b"")
    assert report.csv is not None
    assert len(report.html.encode()) < 102_000
