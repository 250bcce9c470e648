"""The browser that the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from sandbox.npm import NodeUnavailable
from tests.browser.chromium import browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    try:
        with browser() as running:
            yield running
    except NodeUnavailable as error:
        pytest.skip(str(error))
