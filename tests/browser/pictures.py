"""Takes the README's pictures of the report: ``python -m tests.browser.pictures``, or ``make pictures``.

What comes in: the report that the demo leaves. What goes out: ``docs/report.png``, as a desktop shows it, its beginning
beside its continuation, and ``docs/report-phone.png``, as a phone shows it by day and by night. They look best where
the usual fonts of mail programs, or Liberation in their place, are installed.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from tests.browser.chromium import browser
from tests.browser.pages import DEMO, ROOT, demo

DOCS = ROOT / "docs"
SCALE = 2
DESKTOP, PHONE = (640, 690), (375, 905)
GAP = 24  # between the phones
COLOURS = 128


def take(chromium: Browser, page: Path, size: tuple[int, int], scheme: str, top: int = 0) -> Image.Image:
    """A part of a page, from `top` on, at twice its size."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, device_scale_factor=SCALE
    )
    tab = context.new_page()
    tab.goto(page.as_uri())
    part = {"x": 0, "y": top, "width": size[0], "height": size[1]}
    shot = Image.open(io.BytesIO(tab.screenshot(full_page=True, clip=part))).convert("RGB")
    context.close()
    return shot


def side_by_side(shots: list[Image.Image], gap: int) -> Image.Image:
    """Pictures of one height in a row, on white."""
    width = sum(shot.width for shot in shots) + gap * (len(shots) - 1)
    row = Image.new("RGB", (width, shots[0].height), "white")
    left = 0
    for shot in shots:
        row.paste(shot, (left, 0))
        left += shot.width + gap
    return row


def save(picture: Image.Image, name: str) -> None:
    """Write a picture with few colours, which is a fifth of the bytes."""
    few = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(DOCS / name, optimize=True)
    print(f"docs/{name}: {picture.width} × {picture.height}, {(DOCS / name).stat().st_size // 1000} kB")


def main() -> None:
    """Run the demo and take the pictures."""
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        page = demo(Path(folder)) / f"{DEMO}.html"
        desktop = [take(chromium, page, DESKTOP, "light", top) for top in (0, DESKTOP[1])]
        save(side_by_side(desktop, 0), "report.png")
        phones = [take(chromium, page, PHONE, scheme) for scheme in ("light", "dark")]
        save(side_by_side(phones, GAP * SCALE), "report-phone.png")


if __name__ == "__main__":
    main()
