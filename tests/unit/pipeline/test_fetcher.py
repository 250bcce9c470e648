"""Responses are batched for transactions, one batch is fetched ahead, and a failure loses none before it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from threading import Condition, Event, get_ident
from typing import Any

import pytest

from domain.calendar import last_sessions, sessions_between
from domain.clock import Deadline
from domain.errors import ApiError, CredentialsError, EnvelopeError, OutOfPlanError, TimeUpError
from domain.models import ProgressFunction, no_progress
from domain.planner import Call, GroupedCall, RangeCall
from pipeline.fetcher import BATCH_ROWS, BATCH_SECONDS, MARGIN, REJECTED_ROWS, Reach, Response, fetch_batches
from tests.support.clocks import FrozenClock

TODAY = date(2013, 3, 2)
SESSIONS = last_sessions(20, TODAY)


class Provider:
    """Answers each call with a given number of bars, and records what was asked for."""

    def __init__(self, clock: FrozenClock, symbols: int = 10, seconds: float = 0.0) -> None:
        self.asked: list[date] = []
        self.is_ready = True
        self.fails_at: dict[date, Exception] = {}
        self.begins = date.min  # of the plan
        self.no_bar_of: set[date] = set()
        self.changes: dict[str, object] = {}  # of every bar
        self.called = Condition()
        self.threads: list[int] = []  # that called
        self.waits_at: date | None = None
        self.answers = Event()  # there as well
        self._clock, self._symbols, self._seconds = clock, symbols, seconds

    def grouped_bars(self, session: date, *, by_column: bool = False) -> list[dict]:
        with self.called:
            self.asked.append(session)
            self.threads.append(get_ident())
            self._clock.now += self._seconds
            self.called.notify_all()
        assert session != self.waits_at or self.answers.wait(timeout=10)
        self._refuse(session)
        if session in self.fails_at:
            raise self.fails_at[session]
        return [self._bar(session, f"S{n}") for n in range(self._symbols)]

    def range_bars(self, symbol: str, first: date, last: date) -> list[dict]:
        self.asked.append(first)
        self._refuse(first)
        days = [session for session in SESSIONS if first <= session <= last and session not in self.no_bar_of]
        return [self._bar(session, symbol) for session in days]

    def _refuse(self, first: date) -> None:
        if first < self.begins:
            raise OutOfPlanError("the plan does not include this")

    def _bar(self, session: date, symbol: str) -> dict:
        bar = {"T": symbol, "o": 1.0, "h": 2.0, "l": 1.0, "c": 1.5, "v": 10, "t": self.stamp(session)}
        return {**bar, **self.changes}

    @staticmethod
    def stamp(session: date) -> int:
        """Milliseconds of the afternoon of a session."""
        return (session - date(1970, 1, 1)) // timedelta(milliseconds=1) + 20 * 3_600_000


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
    reach: Reach | None = None,
    used: Callable[[list[Response]], None] = lambda _: None,
    progress: ProgressFunction = no_progress,
) -> list[list[date]]:
    """The first session of each response, batch by batch; `used` stands for the commit of a batch."""
    taken: list[list[date]] = []
    deadline = Deadline(seconds, clock, reserve=0)
    reach = reach or Reach(TODAY, TODAY)
    for batch in fetch_batches(
        provider,  # type: ignore[arg-type]
        calls,
        symbols,
        reach=reach,
        deadline=deadline,
        progress=progress,
    ):
        taken.append([answer.call.first for answer in batch])
        used(batch)
    return taken


def test_small_responses_share_one_batch(clock: FrozenClock) -> None:
    assert batches(Provider(clock), [GroupedCall(day) for day in SESSIONS], clock) == [SESSIONS]


def test_a_batch_ends_once_it_is_large(clock: FrozenClock) -> None:
    provider = Provider(clock, symbols=BATCH_ROWS // 2)

    taken = batches(provider, [GroupedCall(day) for day in SESSIONS[:5]], clock)

    assert taken == [SESSIONS[:2], SESSIONS[2:4], SESSIONS[4:5]]


def test_a_batch_ends_once_many_bars_were_rejected(clock: FrozenClock) -> None:
    provider = Provider(clock, symbols=BATCH_ROWS // REJECTED_ROWS // 2)
    provider.changes = {"c": -1}

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
    provider.grouped_bars = lambda session, **options: [*whole(session), *odd]  # type: ignore[method-assign]
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


def test_a_restatement_is_a_batch_of_its_own(clock: FrozenClock) -> None:
    provider = Provider(clock)
    restatement = RangeCall("IBM", SESSIONS[1], SESSIONS[5], restates=True)
    calls: list[Call] = [GroupedCall(SESSIONS[0]), restatement, GroupedCall(SESSIONS[6]), GroupedCall(SESSIONS[7])]

    taken = batches(provider, calls, clock)

    assert taken == [[SESSIONS[0]], [SESSIONS[1]], [SESSIONS[6], SESSIONS[7]]]


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


def test_a_whole_batch_and_no_more_is_fetched_in_a_thread_while_one_is_committed(clock: FrozenClock) -> None:
    provider = Provider(clock, symbols=BATCH_ROWS // 2)
    ahead: list[int] = []

    def commit(batch: list[Response]) -> None:
        expected = min(2 * len(ahead) + 4, 7)
        with provider.called:
            assert provider.called.wait_for(lambda: len(provider.asked) >= expected, timeout=10)
            provider.called.wait_for(lambda: len(provider.asked) > expected, timeout=0.05)  # must not happen
        ahead.append(len(provider.asked))

    taken = batches(provider, [GroupedCall(day) for day in SESSIONS[:7]], clock, used=commit)

    assert taken == [SESSIONS[:2], SESSIONS[2:4], SESSIONS[4:6], SESSIONS[6:7]]
    assert ahead == [4, 6, 7, 7]
    assert [thread == get_ident() for thread in provider.threads] == [True, True, *[False] * 5]


def test_a_single_batch_needs_no_thread(clock: FrozenClock) -> None:
    provider = Provider(clock)

    batches(provider, [GroupedCall(day) for day in SESSIONS], clock)

    assert set(provider.threads) == {get_ident()}


def test_a_thread_stops_after_its_call_once_a_batch_cannot_be_committed(clock: FrozenClock) -> None:
    provider = Provider(clock)
    provider.waits_at = SESSIONS[0]
    restatement = RangeCall("IBM", SESSIONS[1], SESSIONS[5], restates=True)

    def fail(_: list[Response]) -> None:
        with provider.called:
            assert provider.called.wait_for(lambda: len(provider.asked) == 2, timeout=10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batches(provider, [restatement, *(GroupedCall(day) for day in SESSIONS[:9])], clock, used=fail)
    provider.answers.set()

    with provider.called:
        assert not provider.called.wait_for(lambda: len(provider.asked) > 2, timeout=0.1)


def test_progress_is_shown_while_the_thread_is_waited_for_and_never_by_the_thread(clock: FrozenClock) -> None:
    provider = Provider(clock, symbols=BATCH_ROWS)
    provider.waits_at = SESSIONS[1]
    shown: list[tuple[int, int]] = []

    def progress(done: int, _total: int, _doing: str) -> None:
        shown.append((done, get_ident()))
        if len(shown) == 3:
            provider.answers.set()

    batches(provider, [GroupedCall(day) for day in SESSIONS[:2]], clock, progress=progress)

    assert [done for done, _ in shown[:3]] == [0, 1, 1]
    assert {thread for _, thread in shown} == {get_ident()}


@pytest.mark.parametrize("first", [0, 4], ids=["here", "in a thread"])
@pytest.mark.parametrize("error", [ApiError("failed"), CredentialsError("refused"), TimeUpError("no time")])
def test_responses_before_a_failure_are_yielded_first(clock: FrozenClock, error: Exception, first: int) -> None:
    provider = Provider(clock, symbols=BATCH_ROWS // 4)
    provider.fails_at[SESSIONS[first + 3]] = error
    taken: list[date] = []

    with pytest.raises(type(error)):
        batches(
            provider,
            [GroupedCall(day) for day in SESSIONS],
            clock,
            used=lambda batch: taken.extend(answer.call.first for answer in batch),
        )

    assert taken == SESSIONS[: first + 3]


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


def responses(
    provider: Provider, *calls: Call, symbols: tuple[str, ...] = ("*",), reach: Reach | None = None
) -> list[Response]:
    """The responses to the calls."""
    taken: list[Response] = []
    batches(provider, list(calls), FrozenClock(), symbols=symbols, reach=reach, used=taken.extend)
    return taken


class TestShown:
    """A response tells of which sessions the provider has any bar, wanted or not."""

    @pytest.mark.parametrize("symbols", [("*",), ("S1",), ("IBM",)])
    @pytest.mark.parametrize("bars", [0, 3])
    def test_any_bar_of_any_symbol_shows_its_session(
        self, clock: FrozenClock, symbols: tuple[str, ...], bars: int
    ) -> None:
        (response,) = responses(Provider(clock, symbols=bars), GroupedCall(SESSIONS[0]), symbols=symbols)

        assert response.shown == ({SESSIONS[0]} if bars else set())
        assert response.sessions == [SESSIONS[0]]

    def test_a_range_shows_the_sessions_of_its_bars(self, clock: FrozenClock) -> None:
        provider = Provider(clock)
        provider.no_bar_of = {SESSIONS[2], SESSIONS[5]}

        (response,) = responses(provider, RangeCall("IBM", SESSIONS[0], SESSIONS[5]))

        assert response.shown == {SESSIONS[n] for n in (0, 1, 3, 4)}
        assert response.sessions == SESSIONS[:6]

    @pytest.mark.parametrize("call", [GroupedCall(SESSIONS[0]), RangeCall("S0", SESSIONS[0], SESSIONS[0])])
    def test_a_rejected_bar_shows_its_session_too(self, clock: FrozenClock, call: Call) -> None:
        provider = Provider(clock, symbols=1)
        provider.changes = {"c": -1}

        (response,) = responses(provider, call)

        assert (len(response.accepted), len(response.rejected)) == (0, 1)
        assert response.shown == {SESSIONS[0]}

    @pytest.mark.parametrize(
        "stamp", [None, "soon", True, -1, 5e12, float("nan"), float("inf"), 10**400, [], {}], ids=str
    )
    def test_a_bar_without_a_possible_moment_shows_nothing(self, clock: FrozenClock, stamp: object) -> None:
        provider = Provider(clock, symbols=1)
        provider.changes = {"t": stamp}

        (response,) = responses(provider, RangeCall("S0", SESSIONS[0], SESSIONS[1]))

        assert (response.shown, len(response.rejected)) == (set(), 2)

    def test_a_bar_of_another_session_than_asked_for_shows_nothing(self, clock: FrozenClock) -> None:
        provider = Provider(clock, symbols=1)
        provider.changes = {"t": provider.stamp(SESSIONS[9])}

        (response,) = responses(provider, GroupedCall(SESSIONS[0]))

        assert (response.shown, len(response.rejected)) == (set(), 1)

    def test_something_that_is_no_bar_shows_nothing(self, clock: FrozenClock) -> None:
        provider = Provider(clock)
        provider.range_bars = lambda *_: [7, None, []]  # type: ignore[method-assign]

        (response,) = responses(provider, RangeCall("S0", SESSIONS[0], SESSIONS[1]))

        assert (response.shown, len(response.rejected)) == (set(), 3)


def test_an_answer_that_contradicts_itself_counts_for_nothing_and_stops_no_other(clock: FrozenClock) -> None:
    provider = Provider(clock)
    error = EnvelopeError("another ticker's bars")
    provider.fails_at[SESSIONS[1]] = error

    one, wrong, other = responses(provider, *(GroupedCall(day) for day in SESSIONS[:3]))

    assert (wrong.error, wrong.sessions, wrong.shown, len(wrong.accepted)) == (error, [], set(), 0)
    assert [(each.error, len(each.accepted)) for each in (one, other)] == [(None, 10)] * 2
    assert error.__traceback__ is None, "it would keep the answer in memory"


class TestReach:
    """After a refusal of a range, it is asked from the plan's first day on."""

    @pytest.mark.parametrize(
        ("refused", "first"),
        [
            ("1990-01-02", "2003-03-02"),
            ("2003-03-01", "2003-03-02"),
            ("2003-03-02", "2008-03-02"),
            ("2008-03-02", "2011-03-02"),
            ("2011-03-02", "2011-03-09"),
        ],
    )
    def test_each_refusal_leads_to_the_next_shorter_history(self, refused: str, first: str) -> None:
        reach = Reach(TODAY, TODAY)

        assert reach.narrow(date.fromisoformat(refused))

        assert (reach.first, reach.is_new) == (date.fromisoformat(first), True)

    def test_beyond_the_shortest_history_there_is_nothing_to_try(self) -> None:
        reach = Reach(TODAY, TODAY, first=date(2011, 3, 9))

        assert not reach.narrow(date(2011, 3, 9))

        assert (reach.first, reach.is_new) == (date(2011, 3, 9), False)

    def test_the_years_count_from_as_of_and_from_today(self) -> None:
        reach, days = Reach(date(2013, 3, 2), date(2014, 3, 2)), [date(1990, 1, 2)]
        while reach.narrow(days[-1]):
            assert reach.first is not None
            days.append(reach.first)

        years = [date(year, 3, 2) for year in (2003, 2004, 2008, 2009, 2011)]
        assert days[1:] == [*years, date(2011, 3, 2) + MARGIN, date(2012, 3, 2), date(2012, 3, 2) + MARGIN]

    def test_no_history_begins_after_as_of(self) -> None:
        reach = Reach(date(2005, 1, 3), date(2013, 3, 2))
        assert [reach.narrow(date(1990, 1, 2)), reach.first] == [True, date(1995, 1, 3)]
        assert not reach.narrow(date(2003, 3, 3))

    def test_years_before_february_29_count_from_the_28th(self) -> None:
        reach = Reach(date(2012, 2, 29), date(2012, 2, 29))
        assert reach.narrow(date(1990, 1, 2))
        assert reach.first == date(2002, 2, 28)

    @pytest.mark.parametrize(
        ("call", "asked"),
        [
            (RangeCall("IBM", SESSIONS[5], SESSIONS[9]), RangeCall("IBM", SESSIONS[5], SESSIONS[9])),
            (RangeCall("IBM", SESSIONS[0], SESSIONS[9]), RangeCall("IBM", SESSIONS[5], SESSIONS[9])),
            (RangeCall("IBM", SESSIONS[0], SESSIONS[5]), RangeCall("IBM", SESSIONS[5], SESSIONS[5])),
            (RangeCall("IBM", SESSIONS[0], SESSIONS[4]), None),
            (
                RangeCall("IBM", SESSIONS[0], SESSIONS[9], restates=True),
                RangeCall("IBM", SESSIONS[5], SESSIONS[9], restates=True),
            ),
            (GroupedCall(SESSIONS[5]), GroupedCall(SESSIONS[5])),
            (GroupedCall(SESSIONS[4]), None),
        ],
    )
    def test_only_what_is_within_reach_is_asked_for(self, call: Call, asked: Call | None) -> None:
        assert Reach(TODAY, TODAY, first=SESSIONS[5]).clip(call) == asked

    def test_while_nothing_was_refused_everything_is_asked_for(self) -> None:
        call = RangeCall("IBM", date(1980, 1, 2), SESSIONS[0])
        assert Reach(TODAY, TODAY).clip(call) == call

    @pytest.mark.parametrize(
        ("begins", "calls"), [("2003-01-02", 2), ("2007-01-02", 3), ("2011-03-01", 4), ("2011-03-05", 5)]
    )
    def test_a_refused_range_is_asked_from_the_plans_first_day_on(
        self, clock: FrozenClock, begins: str, calls: int
    ) -> None:
        provider, reach = Provider(clock), Reach(TODAY, TODAY)
        provider.begins = date.fromisoformat(begins)

        (response,) = responses(provider, RangeCall("IBM", date(1998, 1, 2), SESSIONS[-1]), reach=reach)

        assert len(provider.asked) == calls
        assert reach.first is not None
        assert reach.first >= provider.begins
        assert response.sessions == sessions_between(reach.first, SESSIONS[-1])
        assert response.call.first == date(1998, 1, 2)

    def test_what_is_known_of_the_reach_costs_no_further_refusal(self, clock: FrozenClock) -> None:
        provider, reach = Provider(clock), Reach(TODAY, TODAY)
        provider.begins = date(2011, 3, 1)
        old = date(1998, 1, 2)

        _, second, third, _ = responses(
            provider,
            RangeCall("IBM", old, SESSIONS[-1]),
            RangeCall("FB", old, SESSIONS[-1]),
            RangeCall("GOOG", old, date(1999, 1, 4)),
            GroupedCall(SESSIONS[0]),
            reach=reach,
        )

        assert provider.asked == [old, date(2003, 3, 2), date(2008, 3, 2), *[date(2011, 3, 2)] * 2, SESSIONS[0]]
        assert second.sessions[0] == date(2011, 3, 2)
        assert (third.sessions, third.shown, third.error) == ([], set(), None)

    def test_a_refusal_within_the_shortest_history_is_an_error(self, clock: FrozenClock) -> None:
        provider, reach = Provider(clock), Reach(TODAY, TODAY)
        provider.begins = TODAY

        with pytest.raises(OutOfPlanError):
            responses(provider, GroupedCall(SESSIONS[0]), reach=reach)

        assert (provider.asked, reach.is_new) == ([SESSIONS[0]], False)

    def test_an_old_session_of_all_symbols_that_is_refused_is_out_of_reach(self, clock: FrozenClock) -> None:
        provider, reach = Provider(clock), Reach(TODAY, TODAY)
        provider.begins = date(2011, 3, 1)

        (response,) = responses(provider, GroupedCall(date(2010, 3, 1)), reach=reach)

        assert (response.sessions, reach.first) == ([], date(2011, 3, 2))
        assert provider.asked == [date(2010, 3, 1)]
