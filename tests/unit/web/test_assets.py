"""The page loads files by their hashed names, or holds everything itself; no text in the data ends a script."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import web.assets
from web.assets import SCRIPT_TAG, STYLE_TAG, Assets, read_assets
from web.files import digest, publish_bytes

LICENSES_TAG = '<meta name="licenses" content="assets/licenses.txt">'
PAGE = f"<html><head>{LICENSES_TAG}{STYLE_TAG}</head><body>{SCRIPT_TAG}</body></html>"
ASSETS = Assets(PAGE, "run()", "body{}", "MIT")


class Scripts(HTMLParser):
    """What a browser finds inside each script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._open: str | None = None

    def handle_starttag(self, tag, attrs):
        self._open = dict(attrs).get("id", tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.found[self._open] = data


def test_the_page_loads_its_files_by_their_hashed_names(tmp_path: Path) -> None:
    files, page = ASSETS.publish(tmp_path)
    assert {name: file.source.read_text() for name, file in files.items()} == {
        "app": "run()",
        "style": "body{}",
        "licenses": "MIT",
    }
    for file in files.values():
        assert f'"{file.path}"' in page.decode()
        assert digest(file.source) in file.path
    assert not re.search(r"assets/(app|style|licenses)\.", page.decode())


def test_the_single_page_holds_everything(tmp_path: Path) -> None:
    nasty = {"text": "</script><script>alert(1)</script><!--", "name": "<b>"}
    files = [publish_bytes(tmp_path, "state", ".json", json.dumps(nasty).encode())]
    files.append(publish_bytes(tmp_path, "history", ".parquet", b"PAR1\x00\xff"))
    assets, _ = ASSETS.publish(tmp_path)
    page = ASSETS.single({"version": 1, "note": "</script>"}, [*assets.values(), *files]).decode()
    scripts = Scripts()
    scripts.feed(page)
    assert json.loads(scripts.found["data-index"]) == {"version": 1, "note": "</script>"}
    assert json.loads(scripts.found[f"data-{files[0].path}"]) == nasty
    assert base64.b64decode(json.loads(scripts.found[f"data-{files[1].path}"])) == b"PAR1\x00\xff"
    assert scripts.found["script"] == "run()"
    assert scripts.found["style"] == "body{}"
    assert len(scripts.found) == 5
    assert "src=" not in page
    assert "alert(1)</script>" not in page


def test_a_page_that_was_not_built_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.assets, "FOLDER", tmp_path)
    assert read_assets() is None
    for name in ("index.html", "app.js", "style.css"):
        (tmp_path / name).write_text(name)
    assert read_assets() is None
    (tmp_path / "licenses.txt").write_text("licenses.txt")
    assert read_assets() == Assets("index.html", "app.js", "style.css", "licenses.txt")
