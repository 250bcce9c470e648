"""Responses are batched for transactions, one is prefetched, and a failure loses none that arrived before it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from threading import Condition
from typing import Any

import pytest

from domain.calendar import last_sessions
from domain.clock import Deadline
from domain.errors import ApiError, CredentialsError, TimeUpError
from domain.models import no_progress
from domain.planner import Call, GroupedCall, RangeCall
from pipeline.fetcher import BATCH_ROWS, BATCH_SECONDS, Response, fetch_batches
from tests.support.clocks import FrozenClock

SESSIONS = last_sessions(20, date(2013, 3, 2))


class Provider:
    """Answers each call with a given number of bars, and records what was asked for."""

    def __init__(self, clock: FrozenClock, symbols: int = 10, seconds: float = 0.0) -> None:
        self.asked: list[date] = []
        self.is_ready = True
        self.fails_at: dict[date, Exception] = {}
        self.called = Condition()
        self._clock, self._symbols, self._seconds = clock, symbols, seconds

    def grouped_bars(self, session: date) -> list[dict]:
        with self.called:
            self.asked.append(session)
            self._clock.now += self._seconds
            self.called.notify_all()
        if session in self.fails_at:
            raise self.fails_at[session]
        return [self._bar(session, f"S{n}") for n in range(self._symbols)]

    def range_bars(self, symbol: str, first: date, last: date) -> list[dict]:
        self.asked.append(first)
        return [self._bar(session, symbol) for session in SESSIONS if first <= session <= last]

    def _bar(self, session: date, symbol: str) -> dict:
        milliseconds = (session - date(1970, 1, 1)) // timedelta(milliseconds=1) + 20 * 3_600_000
        return {"T": symbol, "o": 1.0, "h": 2.0, "l": 1.0, "c": 1.5, "v": 10, "t": milliseconds}


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


def batches(
    provider: Provider,
    calls: list[Call],
    clock: FrozenClock,
    *,
    seconds: float | None = None,
    symbols: tuple[str, ...] = ("*",),
    used: Callable[[list[Response]], None] = lambda _: None,
) -> list[list[date]]:
    """The first session of each response, batch by batch; `used` stands for the commit of a batch."""
    taken: list[list[date]] = []
    deadline = Deadline(seconds, clock, reserve=0)
    for batch in fetch_batches(provider, calls, symbols, deadline=deadline, progress=no_progress):  # type: ignore[arg-type]
        taken.append([answer.call.first for answer in batch])
        used(batch)
    return taken


def test_small_responses_share_one_batch(clock: FrozenClock) -> None:
    assert batches(Provider(clock), [GroupedCall(day) for day in SESSIONS], clock) == [SESSIONS]


def test_a_batch_ends_once_it_is_large(clock: FrozenClock) -> None:
    provider = Provider(clock, symbols=BATCH_ROWS // 2)

    taken = batches(provider, [GroupedCall(day) for day in SESSIONS[:5]], clock)

    assert taken == [SESSIONS[:2], SESSIONS[2:4], SESSIONS[4:5]]


def test_a_gap_far_back_is_not_batched_with_the_latest_session(clock: FrozenClock) -> None:
    """A commit reads all stored rows between the sessions of its batch."""
    provider = Provider(clock, symbols=BATCH_ROWS // 10)
    holes = [SESSIONS[0], SESSIONS[1], SESSIONS[15], SESSIONS[16]]

    assert batches(provider, [GroupedCall(day) for day in holes], clock) == [holes[:2], holes[2:]]


def test_a_bar_without_a_symbol_is_left_to_validation(clock: FrozenClock) -> None:
    provider = Provider(clock, symbols=2)
    whole = provider.grouped_bars
    odd: list[Any] = [{"T": ["S1"]}, {"o": 1.0}, 7]
    provider.grouped_bars = lambda session: [*whole(session), *odd]  # type: ignore[method-assign]
    rejected: list[str] = []

    batches(
        provider,
        [GroupedCall(SESSIONS[0])],
        clock,
        symbols=("S1",),
        used=lambda batch: rejected.extend(bar.reason for bar in batch[0].rejected),
    )

    assert rejected == ["its symbol is not text of 1 to 10 ASCII characters"] * 3


def test_a_batch_ends_once_it_is_old(clock: FrozenClock) -> None:
    provider = Provider(clock, seconds=BATCH_SECONDS / 2 + 0.1)

    taken = batches(provider, [GroupedCall(day) for day in SESSIONS[:6]], clock)

    assert max(map(len, taken)) <= 2
    assert [day for batch in taken for day in batch] == SESSIONS[:6]


def test_a_batch_is_yielded_before_a_wait_for_the_plans_limit(clock: FrozenClock) -> None:
    provider = Provider(clock)
    provider.is_ready = False

    assert batches(provider, [GroupedCall(day) for day in SESSIONS[:3]], clock) == [[day] for day in SESSIONS[:3]]


def test_a_restatement_is_a_batch_of_its_own_and_nothing_is_prefetched_beside_it(clock: FrozenClock) -> None:
    provider = Provider(clock)
    restatement = RangeCall("IBM", SESSIONS[1], SESSIONS[5], restates=True)
    calls: list[Call] = [GroupedCall(SESSIONS[0]), restatement, GroupedCall(SESSIONS[6]), GroupedCall(SESSIONS[7])]
    asked_by_then: list[int] = []

    taken = batches(provider, calls, clock, used=lambda _: asked_by_then.append(len(provider.asked)))

    assert taken == [[SESSIONS[0]], [SESSIONS[1]], [SESSIONS[6], SESSIONS[7]]]
    assert asked_by_then[1] == 2


def test_one_response_and_no_more_is_prefetched_while_a_batch_is_committed(clock: FrozenClock) -> None:
    provider = Provider(clock, symbols=BATCH_ROWS)
    ahead: list[int] = []

    def commit(batch: list[Response]) -> None:
        expected = min(len(ahead) + 2, 4)
        with provider.called:
            assert provider.called.wait_for(lambda: len(provider.asked) >= expected, timeout=10)
            provider.called.wait_for(lambda: len(provider.asked) > expected, timeout=0.05)  # must not happen
        ahead.append(len(provider.asked))

    batches(provider, [GroupedCall(day) for day in SESSIONS[:4]], clock, used=commit)

    assert ahead == [2, 3, 4, 4]


@pytest.mark.parametrize("error", [ApiError("failed"), CredentialsError("refused"), TimeUpError("no time")])
def test_responses_before_a_failure_are_yielded_first(clock: FrozenClock, error: Exception) -> None:
    provider = Provider(clock)
    provider.fails_at[SESSIONS[3]] = error
    taken: list[date] = []

    with pytest.raises(type(error)):
        batches(
            provider,
            [GroupedCall(day) for day in SESSIONS],
            clock,
            used=lambda batch: taken.extend(answer.call.first for answer in batch),
        )

    assert taken == SESSIONS[:3]


def test_a_batch_that_would_not_fit_into_the_time_left_is_not_started(clock: FrozenClock) -> None:
    provider = Provider(clock, symbols=BATCH_ROWS)
    taken: list[date] = []

    def commit(batch: list[Response]) -> None:
        clock.now += 20
        taken.extend(answer.call.first for answer in batch)

    with pytest.raises(TimeUpError, match="the next calls need up to 20 s"):
        batches(provider, [GroupedCall(day) for day in SESSIONS], clock, seconds=70, used=commit)

    assert taken == SESSIONS[:3]
    assert provider.asked == SESSIONS[:3]  # no response was thrown away


def test_only_the_symbols_that_were_asked_for_are_kept(clock: FrozenClock) -> None:
    kept: list[str] = []

    batches(
        Provider(clock),
        [GroupedCall(SESSIONS[0])],
        clock,
        symbols=("S3", "S7"),
        used=lambda batch: kept.extend(batch[0].accepted["symbol"]),
    )

    assert kept == ["S3", "S7"]


def test_a_response_tells_whether_the_provider_sent_any_bar(clock: FrozenClock) -> None:
    found: list[bool] = []

    for symbols in (0, 3):
        batches(
            Provider(clock, symbols=symbols),
            [GroupedCall(SESSIONS[0])],
            clock,
            symbols=("IBM",),
            used=lambda batch: found.append(batch[0].is_empty),
        )

    assert found == [True, False]
