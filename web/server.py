"""Serve a published folder from this machine, with range requests, as a web space does."""

from __future__ import annotations

import re
import sys
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO, Any
from urllib.parse import urlsplit

from web.files import CONTENT_TYPES, OURS
from web.target import ASK_AGAIN, FOR_EVER

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may load for the page: nothing from elsewhere."""

HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Accept-Ranges": "bytes",
}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class SiteServer(ThreadingHTTPServer):
    """Serves the files of a folder on a free port of 127.0.0.1, as a context manager."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self) -> SiteServer:
        """Start to serve."""
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print what went wrong, unless a browser has just closed its connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SiteServer

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._length: int | None = None  # of the part that is asked for
        super().__init__(*arguments, directory=str(arguments[2].folder), **options)

    def send_head(self) -> Any:
        """Answer with a file, or with the part of it that is asked for; a folder has no listing."""
        self._length = None
        # A page of another name must not read what this machine serves to itself.
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in ("127.0.0.1", "localhost"):
            return self._refuse(HTTPStatus.FORBIDDEN)
        try:
            path = Path(self.translate_path(self.path)).resolve()
            if path == self.server.folder:
                path = path / "index.html"
            name = path.relative_to(self.server.folder).as_posix()  # a link may lead out of it
            file = path.open("rb")
        except (OSError, ValueError):
            return self._refuse(HTTPStatus.NOT_FOUND)
        size = path.stat().st_size
        headers = {
            "Content-Type": CONTENT_TYPES.get(path.suffix, "application/octet-stream"),
            "Cache-Control": FOR_EVER if OURS.fullmatch(name) else ASK_AGAIN,
        }
        part = _part(self.headers.get("Range"), size)
        if part is not None and part.start >= part.stop:
            file.close()
            return self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
        if part is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
            file.seek(part.start)
        self._length = len(part) if part is not None else size
        self.send_response(HTTPStatus.PARTIAL_CONTENT if part is not None else HTTPStatus.OK)
        for key, value in {**headers, "Content-Length": str(self._length)}.items():
            self.send_header(key, value)
        self.end_headers()
        return file

    def _refuse(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()

    def copyfile(self, source: IO[bytes], outputfile: Any) -> None:  # type: ignore[override]
        """Send as much as the headers promise."""
        left = self._length or 0
        while left and (piece := source.read(min(left, 2**16))):
            outputfile.write(piece)
            left -= len(piece)

    def end_headers(self) -> None:
        """Add the headers of every answer."""
        for key, value in HEADERS.items():
            self.send_header(key, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


def _part(asked: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for, empty if there are none of them; None for the whole file."""
    found = _RANGE.fullmatch(asked or "")
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return range(max(size - int(last), 0), size)
    return range(int(first), min(int(last) + 1, size) if last else size)
