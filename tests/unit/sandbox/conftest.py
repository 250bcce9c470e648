from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date

import pytest
import requests

from sandbox.history import PriceHistory
from sandbox.server import MarketServer


class Client:
    """A session with the key, which reads like the calls it makes."""

    def __init__(self, market: MarketServer) -> None:
        self.market = market
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {market.key}"

    def get(self, target: str, **options) -> requests.Response:
        url = target if target.startswith("http") else self.market.url + target
        return self.session.get(url, timeout=10, **options)

    def anonymous(self, target: str, method: str = "GET", **options) -> requests.Response:
        headers = {"Authorization": None, **options.pop("headers", {})}
        return self.session.request(method, self.market.url + target, headers=headers, timeout=10, **options)

    def json(self, target: str, **params) -> dict:
        response = self.get(target, params=params)
        assert response.status_code == 200, response.text
        assert response.headers["Content-Type"] == "application/json"
        return response.json()

    def pages(self, target: str, **params) -> list[dict]:
        pages = [self.json(target, **params)]
        while "next_url" in pages[-1]:
            pages.append(self.json(pages[-1]["next_url"]))
        return pages

    @staticmethod
    def assert_error(response: requests.Response, status: int, *words: str) -> None:
        assert response.status_code == status
        document = response.json()
        assert document["status"] == "ERROR"
        assert document["request_id"]
        for word in words:
            assert word in document["error"]


@pytest.fixture
def market() -> Iterator[MarketServer]:
    with MarketServer(PriceHistory.recorded(), today=date(2013, 3, 2)) as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Callable[[MarketServer], Client]]:
    with ExitStack() as stack:

        def connect_to(market: MarketServer) -> Client:
            client = Client(market)
            stack.enter_context(client.session)
            return client

        yield connect_to


@pytest.fixture
def client(connect, market) -> Client:
    return connect(market)
