"""A local market data server: the provider's API over HTTP, on 127.0.0.1 only.

It adds to :mod:`sandbox.api` the key, the rate limit and keep-alive, and for tests counters of calls and injected
faults. It writes no log and never stores the key that a caller sends.
"""

from __future__ import annotations

import json
import math
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import orjson

from sandbox.api import BadRequestError, Market, NoSuchPathError, OutOfPlanError
from sandbox.history import PriceHistory
from sandbox.local_http import LocalServer, Reply, Request
from sandbox.misbehavior import Misbehavior, parse_misbehavior

WINDOW = 60.0
"""Seconds of the rate limit's sliding window."""


@dataclass(frozen=True)
class Fault:
    """A fault to inject into one call.

    Parameters
    ----------
    status : int, optional
        Answer with this status; default 200 if there is a body. Without either, the call is answered as usual.
    body : bytes, optional
        Answer with these bytes; default is the provider's error envelope.
    headers : mapping of str to str, optional
        Headers in addition to, or instead of, the usual ones.
    delay : float, default 0
        Seconds to wait before the answer.
    disconnect : bool, default False
        Close the connection without an answer.
    """

    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    disconnect: bool = False


class MarketServer:
    """The server, as a context manager.

    Parameters
    ----------
    history : PriceHistory
        The prices that it serves; may change or be replaced at any time.
    today : date
        The provider's current date; may be set at any time. Sessions before it are published.
    key : str, default "sandbox-key"
        The only accepted key.
    calls_per_minute : int, default 0
        Calls allowed in any 60 seconds; 0 is unlimited.
    port : int, default 0
        0 picks a free port.
    clock : callable, default time.monotonic
        Seconds, for the rate limit; tests pass a fake one instead of sleeping.

    Attributes
    ----------
    misbehaviors : tuple of Misbehavior
        What the provider does wrong; may be replaced at any time.

    Examples
    --------
    >>> with MarketServer(PriceHistory.recorded(), today=date(2013, 3, 2)) as market:  # doctest: +SKIP
    ...     requests.get(f"{market.url}/stocks/v1/splits", headers={"Authorization": f"Bearer {market.key}"})
    """

    def __init__(
        self,
        history: PriceHistory,
        *,
        today: date,
        key: str = "sandbox-key",
        calls_per_minute: int = 0,
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.history = history
        self.today = today
        self.key = key
        self.calls_per_minute = calls_per_minute
        self.misbehaviors: tuple[Misbehavior, ...] = ()
        self._port = port
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._requests: list[tuple[str, str]] = []
        self._faults: deque[Fault] = deque()
        self._admitted: deque[float] = deque()
        self._stopping = threading.Event()
        self._server: LocalServer | None = None

    @property
    def url(self) -> str:
        """Scheme, host and port of the running server."""
        if self._server is None:
            raise RuntimeError("the sandbox market is not running; call start() or use it in a with statement")
        return self._server.url

    @property
    def calls(self) -> Counter[str]:
        """The number of calls by kind, as a copy.

        Each call counts once: as ``range``, ``grouped`` or ``splits`` if it was answered with 200, as ``refused``
        after a 400, 401, 403, 404 or 429, and as ``failed`` if a fault replaced the answer.
        """
        with self._lock:
            return self._calls.copy()

    @property
    def requests(self) -> list[tuple[str, str]]:
        """The calls in order, as a copy: kind, and path with query but without the key."""
        with self._lock:
            return list(self._requests)

    def reset_calls(self) -> None:
        """Reset the counters, but not the rate limit."""
        with self._lock:
            self._calls.clear()
            self._requests.clear()

    def fail_next(self, *faults: Fault) -> None:
        """Queue faults for the next calls, one fault per call."""
        self._faults.extend(faults)

    def forget_faults(self) -> None:
        """Drop the queued faults."""
        self._faults.clear()

    def start(self) -> MarketServer:
        """Answer in the background until :meth:`stop`.

        Raises
        ------
        OSError
            If the port is taken.
        """
        if self._server is None:
            self._stopping.clear()
            self._server = LocalServer(self._reply, self._port)
            self._server.start()
        return self

    def stop(self) -> None:
        """Close every connection and the port; do nothing if it is not running."""
        if self._server is not None:
            self._stopping.set()
            self._server.stop()
            self._server = None

    def __enter__(self) -> MarketServer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _reply(self, request: Request) -> Reply | None:
        path = request.target.partition("?")[0]
        if (request.method, path) == ("GET", "/sandbox/calls"):
            return _json(200, dict(self.calls))
        if (request.method, path) == ("POST", "/sandbox/today"):
            return self._set_today(request.body)
        if (request.method, path) == ("POST", "/sandbox/misbehave"):
            return self._set_misbehaviors(request.body)
        target, key = _take_key(request)
        fault = self._next_fault()
        if fault.delay and self._stopping.wait(fault.delay):
            return None
        if fault.disconnect or fault.status is not None or fault.body is not None:
            self._count("failed", target)
            return None if fault.disconnect else _fault_reply(fault)
        if key != self.key:
            return self._refuse(target, 401, "Unknown API Key")
        if wait := self._seconds_to_wait():
            message = "You've exceeded the maximum requests per minute, please wait."
            return self._refuse(target, 429, message, {"Retry-After": str(math.ceil(wait))})
        try:
            if request.method != "GET":
                raise NoSuchPathError(path)
            market = Market(self.history, self.today, self.url, self.misbehaviors)
            kind, document = market.answer(target)
        except OutOfPlanError as error:
            return self._refuse(target, 403, str(error))
        except NoSuchPathError:
            return self._refuse(target, 404, f"The sandbox has no {request.method} {path}")
        except BadRequestError as error:
            return self._refuse(target, 400, str(error))
        self._count(kind, target)
        return _json(200, {**document, "request_id": uuid.uuid4().hex})

    def _set_today(self, body: bytes) -> Reply:
        try:
            self.today = date.fromisoformat(json.loads(body)["today"])
        except (ValueError, KeyError, TypeError):
            return _error(400, 'the body is not {"today": "YYYY-MM-DD"}')
        return _json(200, {"today": self.today.isoformat()})

    def _set_misbehaviors(self, body: bytes) -> Reply:
        try:
            forms = json.loads(body)["misbehave"]
            if not isinstance(forms, list) or not all(isinstance(form, str) for form in forms):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            return _error(400, 'the body is not {"misbehave": ["KIND:VALUE…"]}')
        try:
            self.misbehaviors = tuple(parse_misbehavior(form, self.today) for form in forms)
        except ValueError as error:
            return _error(400, str(error))
        return _json(200, {"misbehave": forms})

    def _next_fault(self) -> Fault:
        try:
            return self._faults.popleft()
        except IndexError:
            return Fault()

    def _seconds_to_wait(self) -> float:
        """Admit a call and return 0, or return the seconds until the next one is admitted."""
        if not self.calls_per_minute:
            return 0.0
        with self._lock:
            now = self._clock()
            while self._admitted and self._admitted[0] <= now - WINDOW:
                self._admitted.popleft()
            if len(self._admitted) >= self.calls_per_minute:
                return self._admitted[0] + WINDOW - now
            self._admitted.append(now)
            return 0.0

    def _refuse(self, target: str, status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        self._count("refused", target)
        return _error(status, message, headers)

    def _count(self, kind: str, target: str) -> None:
        with self._lock:
            self._calls[kind] += 1
            self._requests.append((kind, target))


def _take_key(request: Request) -> tuple[str, str]:
    """Split the key, from the header or else the query, off the target."""
    path, _, query = request.target.partition("?")
    rest = "&".join(part for part in query.split("&") if unquote_plus(part.partition("=")[0]) != "apiKey")
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    key = token if scheme == "Bearer" else dict(parse_qsl(query)).get("apiKey", "")
    return (f"{path}?{rest}" if rest else path), key


def _json(status: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Reply:
    body = orjson.dumps(document)
    return Reply(status, body, {"Content-Type": "application/json", **(headers or {})})


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    return _json(status, {"status": "ERROR", "request_id": uuid.uuid4().hex, "error": message}, headers)


def _fault_reply(fault: Fault) -> Reply:
    status = 200 if fault.status is None else fault.status
    reply = _error(status, "injected fault", fault.headers)
    return reply if fault.body is None else Reply(status, fault.body, reply.headers)
