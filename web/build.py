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
FILES = ("app.js", "index.html", "licenses.txt", "style.css")
PURPOSE = "the market's pages"
_OLDEST_NODE = (18, 0)
_BUILD_SECONDS = 120


class BuildError(StockTrackerError):
    """The pages cannot be built; the message holds the first line of the bundler's error."""


def is_built(app: Path = APP, assets: Path = ASSETS) -> bool:
    """Whether all files are built and none of the sources is newer."""
    built = [assets / name for name in FILES]
    if not all(path.is_file() for path in built):
        return False
    sources = [path for path in app.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    return max(path.stat().st_mtime for path in sources) <= min(path.stat().st_mtime for path in built)


def build_assets(app: Path = APP, assets: Path = ASSETS) -> Path:
    """Build the files into a folder and return it; the same sources give the same bytes.

    Raises
    ------
    NodeUnavailable
        If Node.js 18 or newer or npm is missing, or npm cannot install the packages.
    BuildError
        If the sources cannot be bundled.
    """
    node = find_node(_OLDEST_NODE, PURPOSE)
    install(app, PURPOSE)
    draft = Path(tempfile.mkdtemp(prefix=".assets-", dir=assets.parent))
    try:
        _bundle([node, str(app / "build.mjs"), str(draft)])
        assets.mkdir(exist_ok=True)
        for name in FILES:
            os.replace(draft / name, assets / name)
    finally:
        shutil.rmtree(draft)
    return assets


def _bundle(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise BuildError(f"{PURPOSE} cannot be bundled: not done after {_BUILD_SECONDS} s") from None
    if done.returncode != 0:
        reasons = [line.strip() for line in done.stderr.splitlines() if "ERROR" in line or "Error:" in line]
        raise BuildError(f"{PURPOSE} cannot be bundled: {reasons[0] if reasons else f'exit {done.returncode}'}")


def main(app: Path = APP, assets: Path = ASSETS) -> int:
    """Build what is out of date. Without Node.js print one line and succeed: everything but the pages works.

    Returns
    -------
    int
        The exit status: 1 if the sources cannot be bundled, else 0.
    """
    if is_built(app, assets):
        return 0
    print("Building web/assets", flush=True)
    try:
        build_assets(app, assets)
    except NodeUnavailable as error:
        print(f"Left out: {error}", file=sys.stderr)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
