"""Build the script and the style of the market's pages with Node.js: ``python -m web.build``, or ``make site-assets``.

The sources are in ``web/app``. Its npm packages are installed from the lock file, beside it, without running their
install scripts. Nothing of theirs is in the repository; ``licenses.txt`` names them and holds their licenses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from domain.errors import StockTrackerError
from sandbox.npm import NodeUnavailable, find_node, install

APP = Path(__file__).parent / "app"
ASSETS = Path(__file__).parent / "assets"
PURPOSE = "the market's pages"
_OLDEST_NODE = (18, 0)
_BUILD_SECONDS = 120
_FILES = ("app.js", "index.html", "licenses.txt", "style.css")


class BuildError(StockTrackerError):
    """The pages cannot be built; the message holds the first line of the bundler's error."""


def is_built() -> bool:
    """Whether all files are built and none of the sources is newer."""
    built = [ASSETS / name for name in _FILES]
    if not all(path.is_file() for path in built):
        return False
    sources = [path for path in APP.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    return max(path.stat().st_mtime for path in sources) <= min(path.stat().st_mtime for path in built)


def build_assets() -> Path:
    """Build the files and return their folder, ``web/assets``; the same sources give the same bytes.

    Raises
    ------
    NodeUnavailable
        If Node.js 18 or newer or npm is missing, or npm cannot install the packages.
    BuildError
        If the sources cannot be bundled.
    """
    node = find_node(_OLDEST_NODE, PURPOSE)
    install(APP, PURPOSE)
    draft = Path(tempfile.mkdtemp(prefix=".assets-", dir=ASSETS.parent))
    try:
        done = subprocess.run(  # noqa: S603
            [node, str(APP / "build.mjs"), str(draft)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_BUILD_SECONDS,
        )
        if done.returncode != 0:
            reason = next((line.strip() for line in done.stderr.splitlines() if "rror" in line), "no reason given")
            raise BuildError(f"{PURPOSE} cannot be bundled: {reason}")
        ASSETS.mkdir(exist_ok=True)
        for name in _FILES:
            os.replace(draft / name, ASSETS / name)
    finally:
        shutil.rmtree(draft)
    return ASSETS


def main() -> int:
    """Build what is out of date. Without Node.js print one line and succeed: everything but the pages works."""
    if is_built():
        return 0
    try:
        build_assets()
    except NodeUnavailable as error:
        print(f"The market's pages are left out: {error}", file=sys.stderr)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    else:
        size = sum((ASSETS / name).stat().st_size for name in _FILES)
        print(f"Built the market's pages in web/assets ({size // 1024} KB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
