"""A provider that misbehaves on the wire: no call outlives its time, fills the memory, or fails in more than a line."""

import gc
import gzip
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
import zlib
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import pytest

import api_client
import network.http
from api_client import ATTEMPTS, PolygonClient
from config import settings
from domain.clock import Deadline, SystemClock
from domain.errors import ApiError, ConfigError, StockTrackerError, TimeUpError
from lambda_main import handler
from network.http import BUNDLES
from tests.support.clocks import FrozenClock
from tests.support.mail_server import make_certificate, server_context
from tests.support.rough_server import HEAD, dripping, reset, rough_server, sending, silent
from tests.support.tables import rows, stock_data

KEY = "hunter2-do-not-tell"
DAY = date(2013, 3, 1)
SECONDS = 0.5
GOOD = b'{"status": "OK", "results": [{"c": 1}]}'


def whole(body, *headers):
    """A complete answer, after which the connection closes."""
    return b"".join(
        [
            HEAD,
            b"Connection: close\r\n",
            *(header + b"\r\n" for header in headers),
            b"Content-Length: %d\r\n\r\n" % len(body),
            body,
        ]
    )


def client_of(url, clock=None, seconds=None):
    deadline = Deadline(seconds, clock or SystemClock(), reserve=0)
    return PolygonClient(base_url=url, api_key=KEY, calls_per_minute=0, deadline=deadline)


def is_interrupted(url, place):
    """Whether a call was interrupted: before so many lines of the code that reads an answer had run."""
    lines = itertools.count(1)

    def interrupt(frame, event, _):
        if frame.f_code.co_filename != network.http.__file__:
            return None
        if event == "line" and next(lines) == place:
            raise KeyboardInterrupt
        return interrupt

    client = client_of(url)
    sys.settrace(interrupt)
    try:
        client.grouped_bars(DAY)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def refusal(client, kind=StockTrackerError):
    with pytest.raises(kind) as caught:
        client.grouped_bars(DAY)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    assert KEY not in message
    return message


@pytest.fixture
def certificate(tmp_path):
    """The file of a certificate that no authority has signed."""
    return make_certificate(tmp_path)


NEVER_DONE = {
    "accepts and says nothing": silent,
    "sends its headers byte by byte": dripping(HEAD + b"X-Slow: "),
    "sends its body byte by byte": dripping(HEAD + b"Content-Length: 1000000\r\n\r\n{"),
    "sends its body byte by byte without a length": dripping(HEAD + b"\r\n{"),
    "sends a chunk byte by byte": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n{"),
    "sends one chunk after the other": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
    "sends a chunk's size byte by byte": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "sends trailers byte by byte": dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Slow: "),
    "sends compressed bytes slowly": dripping(HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"{" * 99)[:10]),
    "goes on being about to answer": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


class TestTime:
    @pytest.mark.parametrize("fault", NEVER_DONE)
    def test_the_deadline_bounds_an_answer_that_never_ends(self, fault):
        with rough_server(NEVER_DONE[fault]) as server:
            started = time.monotonic()
            message = refusal(client_of(server.url, seconds=SECONDS), TimeUpError)
            assert time.monotonic() - started < SECONDS + 2
        assert "no whole answer within 0." in message

    def test_the_deadline_bounds_a_tls_handshake_that_never_ends(self):
        with rough_server(silent) as server:
            started = time.monotonic()
            refusal(client_of(server.url.replace("http:", "https:"), seconds=SECONDS), TimeUpError)
            assert time.monotonic() - started < SECONDS + 2

    @pytest.mark.parametrize("fault", ["sends its headers byte by byte", "sends its body byte by byte"])
    def test_the_deadline_bounds_an_encrypted_answer_too(self, fault, certificate, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with rough_server(NEVER_DONE[fault], server_context(certificate)) as server:
            started = time.monotonic()
            message = refusal(client_of(server.url, seconds=SECONDS), TimeUpError)
            assert time.monotonic() - started < SECONDS + 2
        assert "no whole answer within 0." in message

    def test_the_deadline_bounds_the_resolution_of_a_name(self, monkeypatch):
        asked = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [asked.wait(10)][:0])
        started = time.monotonic()
        message = refusal(client_of("http://provider.invalid", seconds=SECONDS), TimeUpError)
        assert time.monotonic() - started < SECONDS + 2
        assert "no connection in time" in message
        asked.set()

    @pytest.mark.parametrize("fault", ["accepts and says nothing", "sends its body byte by byte"])
    def test_without_a_deadline_each_attempt_has_a_bound_of_its_own(self, fault, monkeypatch):
        monkeypatch.setattr(api_client, "ATTEMPT_SECONDS", 0.2)
        with rough_server(NEVER_DONE[fault]) as server:
            message = refusal(client_of(server.url, FrozenClock()), ApiError)
            assert server.connections == ATTEMPTS
        assert f"after {ATTEMPTS} attempts: no whole answer within 0.2 s" in message

    @pytest.mark.filterwarnings("ignore::ResourceWarning")  # the socket of an interrupted call closes by itself
    def test_an_interrupt_at_any_line_leaves_nothing_that_complains(self, monkeypatch):
        complaints: list[object] = []
        monkeypatch.setattr(sys, "unraisablehook", complaints.append)
        with rough_server(sending(whole(GOOD))) as server:
            places = itertools.takewhile(lambda place: is_interrupted(server.url, place), itertools.count(1))
            assert sum(1 for _ in places) > 30
        gc.collect()
        assert complaints == []

    def test_no_thread_and_no_connection_is_left(self):
        before = threading.active_count()
        with rough_server(NEVER_DONE["sends its headers byte by byte"]) as server:
            refusal(client_of(server.url, seconds=SECONDS), TimeUpError)
            # The server's own threads end once their client has hung up.
            until = time.monotonic() + 2
            while threading.active_count() > before + 1 and time.monotonic() < until:
                time.sleep(0.01)
            assert threading.active_count() <= before + 1

    def test_no_call_is_made_once_time_is_up(self):
        with rough_server(silent) as server:
            assert "no time is left" in refusal(client_of(server.url, seconds=0), TimeUpError)
            assert server.connections == 0


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ZIPPED = gzip.compress(GOOD)
BROKEN = {
    "end in the headers": sending(HEAD),
    "end in the body": sending(HEAD + b"Content-Length: 100\r\n\r\n" + GOOD),
    "reset before an answer": sending(then=reset),
    "reset in the body": sending(HEAD + b"Content-Length: 100\r\n\r\n{", then=reset),
    "end in a chunk": sending(CHUNKED + b"64\r\n" + GOOD),
    "end between chunks": sending(CHUNKED + b"27\r\n" + GOOD + b"\r\n"),
    "malformed chunk": sending(CHUNKED + b"zz\r\n" + GOOD),
    "bad gzip": sending(whole(b"no gzip at all", b"Content-Encoding: gzip")),
    "cut gzip": sending(whole(ZIPPED[:-20], b"Content-Encoding: gzip")),
    "gzip with a wrong checksum": sending(whole(ZIPPED[:-8] + b"12345678", b"Content-Encoding: gzip")),
    "cut JSON": sending(whole(GOOD[:-2])),
    "empty body": sending(whole(b"")),
    "no HTTP": sending(b"220 mail.example.com ESMTP\x1b[31m\r\n"),
    "a hundred headers too many": sending(HEAD + b"X: y\r\n" * 300 + b"\r\n"),
    "a header without an end": sending(HEAD + b"X: " + b"y" * 200_000),
}


class TestBrokenAnswers:
    @pytest.mark.parametrize("fault", BROKEN)
    def test_an_answer_that_breaks_off_is_asked_for_again(self, fault):
        broken = BROKEN[fault]
        good = sending(whole(GOOD))
        with rough_server(lambda connection: (broken if server.connections <= 2 else good)(connection)) as server:
            client = client_of(server.url, FrozenClock())
            assert client.grouped_bars(DAY) == [{"c": 1}]
            assert (server.connections, client.calls) == (3, 1)

    @pytest.mark.parametrize("fault", BROKEN)
    def test_after_the_last_attempt_the_message_says_how_many_there_were(self, fault):
        with rough_server(BROKEN[fault]) as server:
            message = refusal(client_of(server.url, FrozenClock()), ApiError)
            assert server.connections == ATTEMPTS
        assert f"{ATTEMPTS} attempts" in message
        assert "Error" not in message, "no name of a Python class"

    def test_an_encrypted_answer_is_read(self, certificate, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with rough_server(sending(whole(GOOD)), server_context(certificate)) as server:
            assert client_of(server.url, FrozenClock()).grouped_bars(DAY) == [{"c": 1}]

    def test_a_certificate_that_is_not_valid_is_told_at_once(self, certificate):
        with rough_server(sending(whole(GOOD)), server_context(certificate)) as server:
            message = refusal(client_of(server.url, FrozenClock()), ApiError)
            assert server.connections == 1
        assert "has a certificate that is not valid: " in message

    @pytest.mark.parametrize("name", BUNDLES)
    @pytest.mark.parametrize(
        ("content", "reason"), [(None, "No such file or directory"), ("no certificate", "it holds no certificate")]
    )
    def test_certificates_that_cannot_be_read_are_named_at_once(self, tmp_path, monkeypatch, name, content, reason):
        file = tmp_path / "authorities.pem"
        if content:
            file.write_text(content)
        for bundle in BUNDLES:
            monkeypatch.delenv(bundle, raising=False)
        monkeypatch.setenv(name, str(file))
        with rough_server(silent) as server:
            message = refusal(client_of(server.url.replace("http:", "https:"), FrozenClock()), ConfigError)
            assert server.connections == 0
        assert message.startswith(f"{name} names '{file}', which cannot be used ({reason}); ")

    def test_certificates_are_of_no_interest_without_encryption(self, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
        with rough_server(sending(whole(GOOD))) as server:
            assert client_of(server.url, FrozenClock()).grouped_bars(DAY) == [{"c": 1}]


PEAK = """
import re, sys
from datetime import date
from pathlib import Path
from api_client import PolygonClient
from domain.clock import Deadline, SystemClock
from domain.errors import ApiError
from domain.validation import validate_bars

DAY = date(2013, 3, 1)

class Hasty(SystemClock):
    def sleep(self, seconds):
        pass

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

before = peak()
for url in sys.argv[1:]:
    client = PolygonClient(base_url=url, api_key="key", calls_per_minute=0, deadline=Deadline(None, Hasty()))
    try:
        print(len(validate_bars(client.grouped_bars(DAY, by_column=True), [DAY])[1]), "rejected")
    except ApiError as error:
        print(error)
print(peak() - before)
"""


def endless(head, piece):
    """Send a piece again and again, 85 MB of them."""

    def flood(connection):
        for _ in range(85_000_000 // len(piece)):
            connection.sendall(piece)

    return sending(head, then=flood)


def bomb():
    """One gigabyte of spaces in one megabyte of gzip; nobody reads as far as its checksum, which is wrong."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first, again = (packer.compress(b" " * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * 999 + packer.flush()


FLOODS = {
    "85 MB": endless(HEAD + b"\r\n", b'{"results": [' * 5_000),
    "85 MB in chunks": endless(CHUNKED, b"fffff\r\n" + b" " * 0xFFFFF + b"\r\n"),
    "a chunk's size of 85 MB": endless(CHUNKED, b"0" * 65_000),
    "headers of 85 MB": endless(HEAD, b"X: " + b"y" * 60_000 + b"\r\n"),
    "interim answers of 85 MB": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3_000),
    "a gzip bomb": sending(whole(bomb(), b"Content-Encoding: gzip")),
    "a gzip bomb in a redirection": sending(
        whole(bomb(), b"Content-Encoding: gzip").replace(b"200 OK\r\n", b"302 Found\r\nLocation: /here\r\n", 1)
    ),
    "a gzip bomb in a refusal": sending(whole(bomb(), b"Content-Encoding: gzip").replace(b"200 OK", b"403 No", 1)),
}


def results(item, count, **more):
    """An answer with an item again and again."""
    start, end = json.dumps({"status": "OK", "results": [], **more}).split("[]")
    return sending(whole(f"{start}[{','.join([item] * count)}]{end}".encode()))


BAR = '{"T":"GOOG","o":0.0,"h":1.5,"l":2.5,"c":3.5,"v":1,"t":1362171600000,"vw":123.456,"n":12345}'
NO_PRICE = BAR.replace("0.0", "null")
JUNK = {
    "2.6 million empty objects": (results("{}", 2_600_000), "has more values than 25,000 results"),
    "a million small objects": (results('{"a":1}', 990_000), "has more values than 25,000 results"),
    "4 million numbers": (results("1", 3_900_000), "has more values than 25,000 results"),
    "25,000 empty objects": (results("{}", 25_000), "25,000 bars that cannot be stored, more than 10,000"),
    "25,000 bars": (results(BAR, 25_000), "25,000 bars that cannot be stored, more than 10,000"),
    "25,000 bars without a price": (results(NO_PRICE, 25_000), "25,000 bars that cannot be stored, more than 10,000"),
    "pages of 25,000 bars": (
        results(BAR, 25_000, next_url="https://api.massive.com/next"),
        "has 50,000 results, more than 25,000",
    ),
    "bars just under the limit": (results(BAR, 10_000), "10000 rejected"),
    "one bar of 7.9 MB": (results(f'{{"x":"{"x" * 7_900_000}"}}', 1), "1 rejected"),
    "a symbol of 7.9 MB": (results(BAR.replace("GOOG", "x" * 7_900_000), 1), "1 rejected"),
}


def peak_of(*answers):
    """What a process says that asks for these answers, and the megabytes that it needs for them."""
    with ExitStack() as stack:
        urls = [stack.enter_context(rough_server(answer)).url for answer in answers]
        command = [sys.executable, "-c", PEAK, *urls]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(api_client.__file__).parent)
    *messages, added = done.stdout.splitlines()
    assert len(messages) == len(answers)
    return messages, float(added)


class TestSize:
    def test_answers_of_junk_are_refused_or_rejected_and_fill_no_memory(self, record_property):
        messages, added = peak_of(*(answer for answer, _ in JUNK.values()))
        record_property("peak memory of answers of junk", f"{added:.0f} MB more")
        for (fault, (_, said)), message in zip(JUNK.items(), messages):
            assert said in message, fault
        assert added < 90

    def test_answers_without_end_end_in_one_line_and_fill_no_memory(self, record_property):
        messages, added = peak_of(*FLOODS.values())
        record_property("peak memory of answers without end", f"{added:.0f} MB more")
        for fault, message in zip(FLOODS, messages):
            assert "is larger than 8,000,000 bytes" in message or f"after {ATTEMPTS} attempts" in message, fault
        assert added < 60

    def test_pages_have_a_limit_together(self, monkeypatch):
        monkeypatch.setattr(api_client, "LARGEST_ANSWER", 300)
        with rough_server(lambda connection: sending(whole(page))(connection)) as server:
            page = json.dumps({"status": "OK", "results": [1], "next_url": f"{server.url}/next"}).encode()
            assert "is larger than 300 bytes in all" in refusal(client_of(server.url, FrozenClock()), ApiError)
            assert server.connections < 10

    def test_a_large_answer_within_the_limit_is_read(self):
        bars = [
            {"c": 1.0, "v": 123456.0, "t": 1112331600000, "n": 123456, "vw": 123.4567, "T": "AAPL", "o": 1.0}
        ] * 25_000
        body = json.dumps({"status": "OK", "results": bars}).encode()
        assert 2_000_000 < len(body) < api_client.LARGEST_PAGE
        with rough_server(sending(whole(gzip.compress(body, 1), b"Content-Encoding: gzip"))) as server:
            assert len(client_of(server.url).grouped_bars(DAY)) == 25_000


class Invocation:
    """Lambda's context with little time left; 5 s of it are kept back."""

    aws_request_id = "1"

    def get_remaining_time_in_millis(self):
        return 6_000


class TestRuns:
    @pytest.mark.parametrize("fault", ["accepts and says nothing", "sends its body byte by byte"])
    def test_a_run_ends_in_time_and_the_next_one_goes_on(self, job, market, engine, monkeypatch, fault):
        job("initialize", as_of="2013-02-28")
        with rough_server(NEVER_DONE[fault]) as server:
            monkeypatch.setenv("POLYGON_BASE_URL", server.url)
            settings.cache_clear()
            started = time.monotonic()
            result = handler({"job_type": "daily_update", "as_of": "2013-03-02"}, Invocation())
            assert time.monotonic() - started < 6
        assert result["status"] == "partial"
        (warning,) = result["warnings"]
        assert "in the time left: no whole answer within " in warning
        assert rows(engine, "SELECT status FROM job_runs ORDER BY started_at")[-1] == ("partial",)

        monkeypatch.setenv("POLYGON_BASE_URL", market.url)
        settings.cache_clear()
        assert job("daily_update", as_of="2013-03-02")["status"] == "ok"
        assert len(stock_data(engine)) == 5 * 72
