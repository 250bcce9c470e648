"""Node.js programs beside this project's Python: finding Node.js, and installing a folder's npm packages once.

What comes in: a folder with a lock file, and what its packages are for. What goes out: the path of a Node.js that runs,
and a folder that is up to date, or an error of one line. This module never starts a program of such a folder, and never
installs anything outside of it.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from domain.errors import StockTrackerError

_INSTALL_SECONDS = 300
_INSTALL = ("ci", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


class NodeUnavailable(StockTrackerError):  # noqa: N818
    """What needs Node.js cannot be had on this machine; the message says in one line what is missing."""


def find_node(oldest: tuple[int, int], purpose: str) -> str:
    """The path of a Node.js that really starts and is new enough.

    Parameters
    ----------
    oldest : (int, int)
        The first version that will do: major, minor.
    purpose : str
        What it is for, at the beginning of a message: ``"charts"``.

    Returns
    -------
    str

    Raises
    ------
    NodeUnavailable
    """
    found = "none found on PATH"
    for name in ("node", "nodejs"):
        path = shutil.which(name)
        if path is None:
            continue
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
        numbers = version.removeprefix("v").split(".")
        if len(numbers) > 1 and all(map(str.isdigit, numbers[:2])) and (int(numbers[0]), int(numbers[1])) >= oldest:
            return path
        found = f"{path} is {version or 'broken'}"
    wanted = ".".join(str(number) for number in oldest if number)
    raise NodeUnavailable(f"{purpose} need Node.js {wanted} or newer ({found})")


def install(home: Path, purpose: str) -> None:
    """Bring ``node_modules`` up to the lock file; the lock file is also what keeps two processes apart.

    Parameters
    ----------
    home : pathlib.Path
        The folder of ``package-lock.json``.
    purpose : str
        As for :func:`find_node`.

    Raises
    ------
    NodeUnavailable
        Without npm, or if it fails.
    """
    wanted, installed = home / "package-lock.json", home / "node_modules" / ".package-lock.json"
    with wanted.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
            return
        npm = shutil.which("npm")
        if npm is None:
            raise NodeUnavailable(f"{purpose} need npm beside Node.js (none found on PATH)")
        try:
            done = subprocess.run(  # noqa: S603
                [npm, *_INSTALL], cwd=home, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise NodeUnavailable(f"npm did not install what {purpose} need in {_INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        raise NodeUnavailable(f"npm could not install what {purpose} need: {_reason(done.stderr)}")


def _reason(stderr: str) -> str:
    """The line of npm's complaint that says what happened; codes come before it and hints after it."""
    lines = [line.removeprefix("npm ERR!").removeprefix("npm error").strip() for line in stderr.splitlines()]
    telling = [line for line in lines if line and line.split()[0] not in {"npm", "code", "errno", "syscall", "path"}]
    return telling[0] if telling else "no reason given"
