"""Take the documentation's pictures of the demo: ``python -m tests.browser.pictures``, or ``make pictures``.

``docs/report.png`` shows the report on a desktop, ``docs/report-phone.png`` on a phone in light and in dark mode, and
``docs/outbox.png`` the index of the outbox; ``docs/market-overview.png`` and ``docs/market-symbol.png`` show the
market's pages. Install the usual fonts of mail programs, or Liberation instead, for the best result.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Literal, get_args

from PIL import Image
from playwright.sync_api import Browser

from tests.browser.chromium import browser
from tests.browser.pages import DEMO, ROOT, add_reports, demo

DOCS = ROOT / "docs"
SCALE = 2
DESKTOP, INDEX, PHONE = (1400, 1020), (1240, 1240), (375, 985)
DRAWN = 1_000  # milliseconds after which charts are drawn
GAP = 24  # between the phones
COLORS, MANY_COLORS = 128, 256

Scheme = Literal["light", "dark"]

MARKET: dict[str, tuple[tuple[int, int], Scheme, str]] = {
    "market-overview.png": ((1400, 1080), "light", "#/"),
    "market-symbol.png": ((1400, 905), "dark", "#/symbol/GOOG"),
}


def take(chromium: Browser, page: Path, size: tuple[int, int], scheme: Scheme, address: str = "") -> Image.Image:
    """Take the first screen of a page, at the resolution of the browser."""
    context = chromium.new_context(no_viewport=True, color_scheme=scheme)
    tab = context.new_page()
    # Scale 0 leaves that of the browser; charts do not notice an emulated one, and would be blurred.
    view = {"width": size[0], "height": size[1], "deviceScaleFactor": 0, "mobile": False}
    context.new_cdp_session(tab).send("Emulation.setDeviceMetricsOverride", view)
    tab.goto(page.as_uri() + address)
    tab.wait_for_timeout(DRAWN if address else 0)
    shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    context.close()
    return shot


def side_by_side(shots: list[Image.Image], gap: int) -> Image.Image:
    """Join pictures of equal height in a row, on white."""
    width = sum(shot.width for shot in shots) + gap * (len(shots) - 1)
    row = Image.new("RGB", (width, shots[0].height), "white")
    left = 0
    for shot in shots:
        row.paste(shot, (left, 0))
        left += shot.width + gap
    return row


def save(picture: Image.Image, name: str, colors: int = COLORS) -> None:
    """Write a picture with a reduced palette, which takes a fifth of the bytes."""
    few = picture.quantize(colors, dither=Image.Dither.NONE)
    few.save(DOCS / name, optimize=True)
    print(f"docs/{name}: {picture.width} × {picture.height}, {(DOCS / name).stat().st_size // 1000} kB")


def main() -> None:
    """Run the demo and take the pictures."""
    with tempfile.TemporaryDirectory() as folder, browser(f"--force-device-scale-factor={SCALE}") as chromium:
        outbox = demo(Path(folder))
        page = outbox / f"{DEMO}.html"
        save(take(chromium, page, DESKTOP, "light"), "report.png")
        phones = [take(chromium, page, PHONE, scheme) for scheme in get_args(Scheme)]
        save(side_by_side(phones, GAP * SCALE), "report-phone.png")
        for name, (size, scheme, address) in MARKET.items():
            save(take(chromium, outbox / "market.html", size, scheme, address), name, MANY_COLORS)
        add_reports(Path(folder))
        save(take(chromium, outbox / "index.html", INDEX, "light"), "outbox.png")


if __name__ == "__main__":
    main()
