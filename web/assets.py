"""The page itself: its script, style and licenses, as ``make site-assets`` builds them, and the data put into it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from web.files import PAGE, Published, publish_bytes

FOLDER = Path(__file__).parent / "assets"
STYLE, SCRIPT, LICENSES = "assets/style.css", "assets/app.js", "assets/licenses.txt"
STYLE_TAG = '<link rel="stylesheet" href="assets/style.css">'
SCRIPT_TAG = '<script src="assets/app.js" defer></script>'
MISSING = "the market page is left out: make site-assets, which needs Node.js, has not built it"


@dataclass(frozen=True)
class Assets:
    """The built files of the page, as text."""

    page: str
    script: str
    style: str
    licenses: str

    def publish(self, staging: Path) -> tuple[dict[str, Published], bytes]:
        """Put script, style and licenses into the staging folder; return them, and the page that loads them."""
        contents = {STYLE: self.style, SCRIPT: self.script, LICENSES: self.licenses}
        files, page = {}, self.page
        for path, content in contents.items():
            name, ending = Path(path).stem, Path(path).suffix
            files[name] = publish_bytes(staging, name, ending, content.encode(), folder="assets")
            page = page.replace(path, files[name].path)
        return files, page.encode()

    def single(self, index: Mapping[str, Any], files: Sequence[Published]) -> bytes:
        """Make the page with everything inside, which opens from a disk: no reader has to fetch anything.

        Parameters
        ----------
        index : mapping
        files : sequence of Published
            All that the index names.
        """
        scripts = [_data("index", index)]
        for file in files:
            content = file.source.read_bytes()
            if file.path.endswith(".json"):
                scripts.append(_data(file.path, json.loads(content)))
            elif file.path.endswith(".parquet"):
                scripts.append(_data(file.path, base64.b64encode(content).decode()))
        page = self.page.replace(STYLE_TAG, f"<style>{self.style}</style>")
        return page.replace(SCRIPT_TAG, "\n".join([*scripts, f"<script>{self.script}</script>"])).encode()


def _data(name: str, value: object) -> str:
    text = json.dumps(value).replace("<", "\\u003c")  # so that no text in it ends the element
    return f'<script type="application/json" id="data-{name}">{text}</script>'


def read_assets() -> Assets | None:
    """Read the built page; None if it has not been built."""
    names = (PAGE, "app.js", "style.css", "licenses.txt")
    try:
        return Assets(*((FOLDER / name).read_text(encoding="utf-8") for name in names))
    except FileNotFoundError:
        return None
