"""How often an ordinary update waits for the database: across a network, that is most of its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage.engine import open_engine
from tests.support.round_trips import count_messages

ROUND_TRIPS = 31


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_ordinary_update_of_five_symbols_takes_no_more_round_trips(
    job: Callable[..., Any], database_url: str
) -> None:
    job("initialize", as_of="2013-02-28")
    counting = count_messages(open_engine(database_url))

    result = job("daily_update", as_of="2013-03-01")

    assert (result["rows"]["inserted"], result["rows"]["unchanged"], result["api_calls"]) == (5, 15, 5)
    assert counting.round_trips <= ROUND_TRIPS
