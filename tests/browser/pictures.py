"""Take the documentation's pictures of the demo: ``python -m tests.browser.pictures``, or ``make pictures``.

``docs/report.png`` shows the report on a desktop, ``docs/report-phone.png`` on a phone in light and in dark mode, and
``docs/outbox.png`` the index of the outbox. Install the usual fonts of mail programs, or Liberation instead, for the
best result.
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
GAP = 24  # between the phones
COLORS = 128

Scheme = Literal["light", "dark"]


def take(chromium: Browser, page: Path, size: tuple[int, int], scheme: Scheme) -> Image.Image:
    """Take the first screen of a page, at twice the resolution."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, device_scale_factor=SCALE
    )
    tab = context.new_page()
    tab.goto(page.as_uri())
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


def save(picture: Image.Image, name: str) -> None:
    """Write a picture with a reduced palette, which takes a fifth of the bytes."""
    few = picture.quantize(COLORS, dither=Image.Dither.NONE)
    few.save(DOCS / name, optimize=True)
    print(f"docs/{name}: {picture.width} × {picture.height}, {(DOCS / name).stat().st_size // 1000} kB")


def main() -> None:
    """Run the demo and take the pictures."""
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        outbox = demo(Path(folder))
        page = outbox / f"{DEMO}.html"
        save(take(chromium, page, DESKTOP, "light"), "report.png")
        phones = [take(chromium, page, PHONE, scheme) for scheme in get_args(Scheme)]
        save(side_by_side(phones, GAP * SCALE), "report-phone.png")
        add_reports(Path(folder))
        save(take(chromium, outbox / "index.html", INDEX, "light"), "outbox.png")


if __name__ == "__main__":
    main()
