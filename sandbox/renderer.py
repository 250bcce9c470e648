"""Start the local stand-in for QuickChart (``quickchart/server.js``): charts without internet or account.

Node.js draws the charts. The first start installs the server's few npm packages beside it. The server never outlives
the process that started it.
"""

from __future__ import annotations

import json
import select
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sandbox.npm import NodeUnavailable, find_node, install

_HOME = Path(__file__).parent / "quickchart"
_OLDEST_NODE = (18, 0)
_START_SECONDS = 20


class RendererUnavailable(NodeUnavailable):
    """Charts cannot be drawn on this machine; the message names in one line what is missing."""


class Renderer:
    """A running chart server, as a context manager.

    Attributes
    ----------
    url : str
        Where to post charts, ``"http://127.0.0.1:PORT/chart"``; empty unless the server is running.

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
        """Install missing packages, start the server and wait until it listens; do nothing if it is running.

        Raises
        ------
        RendererUnavailable
            If Node.js 18 or newer is missing, npm cannot install the packages, or the server does not start.
        """
        if self._process is not None:
            return
        try:
            node = find_node(_OLDEST_NODE, "charts")
            install(self._home, "charts")
        except NodeUnavailable as error:
            raise RendererUnavailable(f"{error}; a QuickChart on the internet draws them as well") from None
        with tempfile.TemporaryFile("w+") as stderr:
            self._process = subprocess.Popen(  # noqa: S603
                [node, str(self._home / "server.js")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
            try:
                self.url = f"http://127.0.0.1:{_port(self._process, stderr)}/chart"
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop the server; do nothing if it is not running."""
        process, self._process, self.url = self._process, None, ""
        if process is None:
            return
        try:
            process.communicate(timeout=5)  # closes its standard input, which ends it
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _port(process: subprocess.Popen[str], stderr: IO[str]) -> int:
    assert process.stdout is not None  # noqa: S101
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    if not ready:
        raise RendererUnavailable(f"the chart server did not start in {_START_SECONDS} s")
    line = process.stdout.readline()
    if not line:
        process.wait()
        stderr.seek(0)
        errors = [text.strip() for text in stderr if "Error" in text]
        raise RendererUnavailable(f"the chart server ended at once: {errors[0] if errors else process.returncode}")
    return int(json.loads(line)["port"])
