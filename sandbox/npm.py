"""Find Node.js, and install the npm packages of a folder once, from its lock file."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from domain.errors import StockTrackerError

_INSTALL_SECONDS = 300
_INSTALL = ("ci", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


class NodeUnavailable(StockTrackerError):  # noqa: N818
    """A feature that needs Node.js is unavailable; the message says in one line what is missing."""


def find_node(oldest: tuple[int, int], purpose: str) -> str:
    """Find a Node.js that starts and is new enough.

    Parameters
    ----------
    oldest : (int, int)
        The minimum version: major, minor.
    purpose : str
        The feature that needs it, for messages: ``"charts"``.

    Returns
    -------
    str
        Its path.

    Raises
    ------
    NodeUnavailable
        If none is found.
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
    """Update ``node_modules`` to the lock file; a file lock on it keeps other processes out.

    Parameters
    ----------
    home : Path
        The folder with ``package-lock.json``.
    purpose : str
        As for :func:`find_node`.

    Raises
    ------
    NodeUnavailable
        If npm is missing or fails.
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
    """The line of npm's error output that says what happened; codes precede it and hints follow it."""
    lines = [line.removeprefix("npm ERR!").removeprefix("npm error").strip() for line in stderr.splitlines()]
    telling = [line for line in lines if line and line.split()[0] not in {"npm", "code", "errno", "syscall", "path"}]
    return telling[0] if telling else "no reason given"
