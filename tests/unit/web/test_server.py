"""The local server answers as a web space does: ranges, types, headers, and nothing outside its folder."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from web.server import CONTENT_POLICY, SiteServer
from web.target import ASK_AGAIN, FOR_EVER

PRICES = "data/history-0123456789abcdef.parquet"
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SiteServer]:
    folder = tmp_path / "site"
    (folder / "data").mkdir(parents=True)
    (folder / "index.html").write_text("page")
    (folder / PRICES).write_bytes(bytes(range(100)))
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    with SiteServer(folder) as running:
        yield running


def get(server: SiteServer, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("path", ["/", "/index.html", "/?x=1"])
def test_the_page_is_served(server: SiteServer, path: str) -> None:
    status, headers, body = get(server, path)
    assert (status, body) == (200, b"page")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == ASK_AGAIN
    assert headers["Content-Security-Policy"] == CONTENT_POLICY


def test_files_that_never_change_may_be_kept(server: SiteServer) -> None:
    _, headers, _ = get(server, f"/{PRICES}")
    assert headers["Cache-Control"] == FOR_EVER


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=90-", 90, 99), ("bytes=-8", 92, 99), ("bytes=95-200", 95, 99), ("bytes=-500", 0, 99)],
)
def test_a_range_is_served(server: SiteServer, asked: str, first: int, last: int) -> None:
    status, headers, body = get(server, f"/{PRICES}", Range=asked)
    assert (status, body) == (206, bytes(range(first, last + 1)))
    assert headers["Content-Range"] == f"bytes {first}-{last}/100"
    assert headers["Content-Length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=5-4", "bytes=-0"])
def test_a_range_that_holds_nothing_is_refused(server: SiteServer, asked: str) -> None:
    status, headers, body = get(server, f"/{PRICES}", Range=asked)
    assert (status, headers["Content-Range"], body) == (416, "bytes */100", b"")


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=-", "bytes=0-1,5-6", "bytes=a-b", ""])
def test_any_other_range_is_the_whole_file(server: SiteServer, asked: str) -> None:
    status, _, body = get(server, f"/{PRICES}", Range=asked)
    assert (status, len(body)) == (200, 100)


def test_head_tells_the_size_only(server: SiteServer) -> None:
    status, headers, body = get(server, f"/{PRICES}", method="HEAD")
    assert (status, headers["Content-Length"], headers["Accept-Ranges"], body) == (200, "100", "bytes", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/data",
        "/data/",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/link.txt",
        "//etc/passwd",
        "/index.html%00",
    ],
)
def test_nothing_else_is_served(server: SiteServer, path: str) -> None:
    status, headers, body = get(server, path)
    assert (status, body) == (404, b"")
    assert headers["Content-Security-Policy"] == CONTENT_POLICY


@pytest.mark.parametrize("host", ["example.com", "example.com:80", "127.0.0.1.example.com", ""])
def test_a_page_of_another_name_reads_nothing(server: SiteServer, host: str) -> None:
    assert get(server, "/index.html", Host=host)[0] == 403


def test_a_connection_serves_several_requests(server: SiteServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    for path in ("/", "/nothing", f"/{PRICES}"):
        connection.request("GET", path)
        connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize(
    ("error", "is_printed"), [(BrokenPipeError, False), (ConnectionResetError, False), (ValueError, True)]
)
def test_a_browser_that_closes_its_connection_prints_nothing(
    server: SiteServer, capsys: pytest.CaptureFixture[str], error: type[Exception], is_printed: bool
) -> None:
    try:
        raise error
    except error:
        server.handle_error(None, ("127.0.0.1", 1))
    assert (error.__name__ in capsys.readouterr().err) is is_printed
