"""Starts the local stand-in for QuickChart (``quickchart/server.js``), so that charts need no internet and no account.

Node.js draws; the first start installs the server's few npm packages beside it, once for all processes. This module
never draws anything itself, and the server never outlives the process that started it.
"""

from __future__ import annotations

import fcntl
import json
import select
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from errors import StockTrackerError

_HOME = Path(__file__).parent / "quickchart"
_NODE_MAJOR = 18
_INSTALL_SECONDS = 300
_START_SECONDS = 20
_INSTALL = ("ci", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


class RendererUnavailable(StockTrackerError):  # noqa: N818
    """Charts cannot be drawn on this machine; the message says in one line what is missing."""


class Renderer:
    """A running chart server, as a context manager.

    Attributes
    ----------
    url : str
        Where to post charts, ``"http://127.0.0.1:PORT/chart"``; empty while the server is not running.

    Examples
    --------
    >>> with Renderer() as renderer:
    ...     charts, warnings = fetch_charts(bars, url=renderer.url)
    """

    def __init__(self, home: Path = _HOME) -> None:
        self.url = ""
        self._home = home
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Install what is missing, start the server and wait until it listens; nothing if it runs already.

        Raises
        ------
        RendererUnavailable
            Without Node.js 18 or newer, if npm cannot install the packages, or if the server does not start.
        """
        if self._process is not None:
            return
        node = _node()
        _install(self._home)
        with tempfile.TemporaryFile("w+") as complaints:
            self._process = subprocess.Popen(  # noqa: S603
                [node, str(self._home / "server.js")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )
            try:
                self.url = f"http://127.0.0.1:{_port(self._process, complaints)}/chart"
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the server; nothing if it does not run."""
        process, self._process, self.url = self._process, None, ""
        if process is None:
            return
        try:
            process.communicate(timeout=5)  # closes its standard input, which ends it
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _node() -> str:
    """The path of a Node.js that really starts and is new enough."""
    found = "none found on PATH"
    for name in ("node", "nodejs"):
        path = shutil.which(name)
        if path is None:
            continue
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
        major = version.removeprefix("v").partition(".")[0]
        if major.isdigit() and int(major) >= _NODE_MAJOR:
            return path
        found = f"{path} is {version or 'broken'}"
    raise RendererUnavailable(f"charts need Node.js {_NODE_MAJOR} or newer ({found}), or a QuickChart on the internet")


def _install(home: Path) -> None:
    """Bring ``node_modules`` up to the lock file; the lock file is also what keeps two processes apart."""
    wanted, installed = home / "package-lock.json", home / "node_modules" / ".package-lock.json"
    with wanted.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
            return
        npm = shutil.which("npm")
        if npm is None:
            raise RendererUnavailable("charts need npm beside Node.js (none found on PATH)")
        try:
            done = subprocess.run(  # noqa: S603
                [npm, *_INSTALL], cwd=home, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise RendererUnavailable(f"npm did not install the chart server in {_INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        raise RendererUnavailable(f"npm could not install the chart server: {_reason(done.stderr)}")


def _reason(stderr: str) -> str:
    """The line of npm's complaint that says what happened; codes come before it and hints after it."""
    lines = [line.removeprefix("npm ERR!").removeprefix("npm error").strip() for line in stderr.splitlines()]
    telling = [line for line in lines if line and line.split()[0] not in {"npm", "code", "errno", "syscall", "path"}]
    return telling[0] if telling else "no reason given"


def _port(process: subprocess.Popen[str], complaints: IO[str]) -> int:
    assert process.stdout is not None  # noqa: S101
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    if not ready:
        raise RendererUnavailable(f"the chart server did not start in {_START_SECONDS} s")
    line = process.stdout.readline()
    if not line:
        process.wait()
        complaints.seek(0)
        errors = [text.strip() for text in complaints if "Error" in text]
        raise RendererUnavailable(f"the chart server ended at once: {errors[0] if errors else process.returncode}")
    return int(json.loads(line)["port"])
