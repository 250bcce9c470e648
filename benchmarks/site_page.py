"""The market's pages in a headless Chromium, over loopback: the first page, a chart and the screener's filters.

The site is that of a synthetic market of 11,000 symbols over 500 sessions. The first page is opened with an empty
cache; it counts as interactive once all its parts are drawn. A chart is opened from there, with none of its data at
hand, and counts as drawn after the frame that paints it; its requests are those of the prices, and what the page loads
below it afterwards is not counted. A filter is measured from the keystroke to the laid-out rows, and scrolling by its
longest frame. Limits are 1 s and 1 MB for the first page, 150 ms, 3 requests and 0.3 MB for a chart, and 50 ms for a
filter; ratios are limit / measured, so a limit holds if its ratio is 1 or more. A small site is fetched with the first
page: its charts need no request, and have no such ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.common import machine, show
from tests.browser.chromium import browser
from tests.browser.site import synthetic_site
from web.build import build_assets
from web.server import SiteServer

LIMITS = {
    "first_seconds": 1.0,
    "first_mb": 1.0,
    "chart_seconds": 0.15,
    "chart_requests": 3,
    "chart_mb": 0.3,
    "filter_seconds": 0.05,
}
WIDTH, HEIGHT = 1400, 900
SYMBOL_FILTERS = ("SYN0", "7", "42", "")
FILTERS = ("rsi_14=..30", "change_1m=5..&volume_ratio=1.5..", "place_52w=0.9..&sort=-change_1y", "q=7&sort=-volume", "")

# Each is run in the page and answers milliseconds.
READY = """
async () => {
  while (!performance.getEntriesByName("ready").length) await new Promise(requestAnimationFrame);
  return performance.getEntriesByName("ready")[0].startTime;
}
"""
CHART = """
async (hash) => {
  performance.clearMeasures();
  const started = performance.now();
  location.hash = hash;
  while (!performance.getEntriesByName("chart").length) await new Promise(requestAnimationFrame);
  await new Promise((painted) => setTimeout(painted));  // in the frame that the loop ended in, the chart is painted
  const drawn = performance.now() - started;
  const canvas = document.querySelector(".price canvas");
  const picture = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  if (new Set(new Uint32Array(picture.data.buffer)).size < 5) throw new Error("the chart is not painted");
  return drawn;
}
"""
FILTER = """
async (text) => {
  const field = document.querySelector("#filter-symbol");
  const started = performance.now();
  field.value = text;
  field.dispatchEvent(new Event("input"));
  document.querySelector(".scroller").getBoundingClientRect();
  return performance.now() - started;
}
"""
SCROLL = """
async () => {
  const table = document.querySelector(".scroller");
  const frames = [];
  let last = performance.now();
  for (let frame = 0; frame < 120; frame++) {
    table.scrollTop += 900;
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
  }
  return Math.max(...frames.slice(1));
}
"""


class Traffic:
    """The requests of a page and their bytes, headers included, since the last look."""

    def __init__(self, page: Page) -> None:
        self._requests: dict[str, str] = {}
        self._bytes: dict[str, int] = {}
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.requestWillBeSent", lambda e: self._requests.update({e["requestId"]: e["request"]["url"]}))
        session.on("Network.loadingFinished", lambda e: self._bytes.update({e["requestId"]: e["encodedDataLength"]}))

    def taken(self, *parts: str) -> tuple[int, float]:
        """The number of requests whose URL holds one of the parts, and their megabytes; then start again."""
        found = [number for number, url in self._requests.items() if any(part in url for part in parts)]
        size = sum(self._bytes.get(number, 0) for number in found)
        self._requests.clear()
        self._bytes.clear()
        return len(found), size / 1e6


def first_page(chromium: Browser, url: str) -> dict[str, float]:
    """Open the overview with an empty cache."""
    context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    traffic = Traffic(page)
    page.goto(url)
    seconds = page.evaluate(READY) / 1000
    requests, megabytes = traffic.taken(url)
    context.close()
    return {"seconds": seconds, "requests": requests, "mb": megabytes}


def chart(chromium: Browser, url: str, symbol: str) -> dict[str, float]:
    """Open a symbol's chart from the overview, with none of its data at hand."""
    context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    traffic = Traffic(page)
    page.goto(url)
    page.evaluate(READY)
    page.wait_for_timeout(500)
    traffic.taken()
    seconds = page.evaluate(CHART, f"#/symbol/{symbol}") / 1000
    requests, megabytes = traffic.taken("/data/history-", "/data/recent-")
    context.close()
    return {"seconds": seconds, "requests": requests, "mb": megabytes}


def screener(chromium: Browser, url: str, repeats: int) -> dict[str, float]:
    """Filter and sort all symbols in every way of FILTERS, and scroll through them; the slowest way counts."""
    context = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    page.goto(f"{url}#/screener")
    opened = page.evaluate(READY) / 1000
    slowest = 0.0
    for query in FILTERS:
        page.evaluate("hash => { location.hash = hash }", f"#/screener?{query}")
        page.wait_for_timeout(500)
        times = [page.evaluate(FILTER, text) for _ in range(repeats) for text in SYMBOL_FILTERS]
        slowest = max(slowest, statistics.median(times) / 1000)
    frames = [page.evaluate(SCROLL) / 1000 for _ in range(3)]
    context.close()
    return {"opened_seconds": opened, "filter_seconds": slowest, "longest_frame_seconds": statistics.median(frames)}


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _rounded(figures: dict[str, float]) -> dict[str, Any]:
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--symbols", type=int, default=11_000)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    build_assets()
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        site = synthetic_site(Path(folder), options.symbols, options.sessions)
        with SiteServer(site) as server:
            url = server.url
            first_page(chromium, url)  # the browser's own start is not measured
            first = _medians([first_page(chromium, url) for _ in range(options.repeats)])
            step = options.symbols // options.repeats
            charts = _medians([chart(chromium, url, f"SYN{n * step:05}") for n in range(options.repeats)])
            filters = screener(chromium, url, options.repeats)
    results = [
        {"way": "first page, empty cache", **_rounded(first)},
        {"way": "chart from the first page", **_rounded(charts)},
        {"way": "screener", **_rounded(filters)},
    ]
    measured = {
        "first_seconds": first["seconds"],
        "first_mb": first["mb"],
        "chart_seconds": charts["seconds"],
        "chart_requests": charts["requests"],
        "chart_mb": charts["mb"],
        "filter_seconds": filters["filter_seconds"],
    }
    ratios = {name: round(limit / measured[name], 2) for name, limit in LIMITS.items() if measured[name]}
    show({**machine("playwright"), "results": results, "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
