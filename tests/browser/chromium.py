"""Find a headless Chromium for the browser tests: an installed one, or the one inside an npm package."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from sandbox.npm import NodeUnavailable, find_node, install

HOME = Path(__file__).parent
INSTALLED = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")
OLDEST_NODE = (20, 11)
PURPOSE = "tests in a browser"
# The package unpacks into TMPDIR, and unpacks the libraries that a bare system lacks only if it detects Lambda.
UNPACK = "import c from '@sparticuz/chromium'; console.log(await c.executablePath())"
ON_AWS = {"AWS_LAMBDA_JS_RUNTIME": "nodejs22.x"}
SYSTEM_FONTS = Path("/etc/fonts/fonts.conf")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--font-render-hinting=none")


@dataclass(frozen=True)
class Chromium:
    """The path of a Chromium that starts, and the environment variables it needs."""

    path: str
    environment: dict[str, str] = field(default_factory=dict)


def find_chromium() -> Chromium:
    """Return the first Chromium on this machine that starts.

    Raises
    ------
    NodeUnavailable
        If there is none, and the npm package cannot be installed or does not run here.
    """
    for name in INSTALLED:
        path = shutil.which(name)
        if path and _starts(path):
            return Chromium(path)
    return _from_package()


def _from_package() -> Chromium:
    node = find_node(OLDEST_NODE, PURPOSE)
    install(HOME, PURPOSE)
    unpacked = HOME / "node_modules" / ".unpacked"
    with (HOME / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unpacked.mkdir(exist_ok=True)
        subprocess.run(
            [node, "--input-type=module", "--eval", UNPACK],
            cwd=HOME,
            env={**os.environ, **ON_AWS, "TMPDIR": str(unpacked)},
            capture_output=True,
            check=True,
        )
    path = str(unpacked / "chromium")
    fonts = {} if SYSTEM_FONTS.exists() else {"FONTCONFIG_FILE": str(_font_list(unpacked))}
    for environment in (fonts, {**fonts, "LD_LIBRARY_PATH": str(unpacked / "al2023" / "lib")}):
        if _starts(path, environment):
            return Chromium(path, environment)
    raise NodeUnavailable(f"{PURPOSE} need a Chromium; none is installed, and the one inside npm does not run here")


def _font_list(unpacked: Path) -> Path:
    """Write a fontconfig file, for a system without one."""
    file = unpacked / "fonts.conf"
    file.write_text(f"<fontconfig><dir>{unpacked}/fonts</dir><cachedir>{unpacked}/cache</cachedir></fontconfig>")
    return file


def _starts(path: str, environment: dict[str, str] | None = None) -> bool:
    everything = {**os.environ, **(environment or {})}
    try:
        done = subprocess.run([path, "--version"], env=everything, capture_output=True, check=False, timeout=30)
    except OSError:  # built for another processor
        return False
    return done.returncode == 0


@contextmanager
def browser(*options: str) -> Iterator[Browser]:
    """Start a browser with further options of its command line, and close it at the end.

    Raises
    ------
    NodeUnavailable
        As :func:`find_chromium`.
    """
    chromium = find_chromium()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium.path,
            args=[*OPTIONS, *options],
            env={**os.environ, **chromium.environment},
        )
        yield running
        running.close()
