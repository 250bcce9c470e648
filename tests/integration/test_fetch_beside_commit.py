"""A load fetches a batch while it commits another: whichever of the two fails or is interrupted, it ends in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from domain.errors import ApiError, DataError, TimeUpError
from domain.models import Request
from pipeline import fetcher, loader
from pipeline import run as run_module
from pipeline.closes import ClosesAtHand
from pipeline.run import Run, journaled
from sandbox.misbehavior import Reach
from sandbox.server import Fault, MarketServer
from storage.engine import transaction
from tests.support import oracle
from tests.support.tables import rows, scalar, stock_data
from tests.support.world import SESSIONS, SYMBOLS, World, empty_history

LOADED = SESSIONS[8:20]
LOAD = {"symbols": ("*",), "start": LOADED[0], "end": LOADED[-1]}


@pytest.fixture(scope="module")
def server() -> Iterator[MarketServer]:
    with MarketServer(empty_history(), today=SESSIONS[0]) as market:
        yield market


@pytest.fixture
def world(engine: Engine, server: MarketServer, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world in which each answer is a batch."""
    monkeypatch.setattr(fetcher, "BATCH_ROWS", 1)
    world = World(server, engine, 1)
    world.market.today = SESSIONS[30]
    world.market.reset_calls()
    return world


@contextmanager
def in_commit(engine: Engine, number: int, action: Any) -> Iterator[None]:
    """Do something in a commit, after its bars are written and before the run's row is."""
    commits = 0

    def count(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal commits
        commits += "INTO commits" in statement
        if commits == number and statement.startswith("UPDATE job_runs"):
            commits += 1
            action()

    event.listen(engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", count)


def interrupt() -> None:
    """Send this process the signal of Ctrl-C, and wait for it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(10)


def refuse() -> None:
    raise DataError("the database is full")


@pytest.mark.parametrize(("failure", "error"), [(interrupt, KeyboardInterrupt), (refuse, DataError)])
def test_a_commit_that_ends_early_ends_the_fetch_and_keeps_the_commits_before_it(
    world: World, failure: Any, error: type[BaseException]
) -> None:
    with pytest.raises(error), in_commit(world.engine, 4, failure):
        world.run("initialize", **LOAD)

    threads = [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    stored = {row.session for row in stock_data(world.engine)}
    assert stored == set(LOADED[:3])
    # The latest session is asked for first; then those that were committed, the one that failed, and the one ahead.
    assert 1 + 4 <= world.market.calls["grouped"] <= 1 + 5
    assert_goes_on(world, len(LOADED) - 3)


def test_a_refused_call_ends_the_load_after_the_batches_before_it(world: World) -> None:
    world.market.fail_next(*[Fault(delay=0.0)] * 5, Fault(status=404, body=b"{}"))

    with pytest.raises(ApiError):
        world.run("initialize", **LOAD)

    assert {row.session for row in stock_data(world.engine)} == {*LOADED[:4], LOADED[-1]}
    assert_goes_on(world, len(LOADED) - 5)


def test_an_interrupt_is_recorded_with_what_was_committed_before_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClosesAtHand, "keep", lambda *_: interrupt())  # right after the first commit

    with pytest.raises(KeyboardInterrupt):
        world.run("initialize", **LOAD)

    ((status, inserted),) = rows(world.engine, "SELECT status, inserted FROM job_runs")
    assert (status, inserted) == ("interrupted", len(stock_data(world.engine)))
    assert inserted


def test_an_interrupt_writes_nothing_but_the_end_of_the_run(world: World) -> None:
    """What a refusal shows of the plan's reach is kept by a run that goes on, and not by one that is told to stop."""
    first = world.market.today.replace(year=world.market.today.year - 2)
    world.market.misbehaviors = (Reach(first),)
    after = list[str]()
    listening = list[bool]()

    def interrupt_and_listen() -> None:
        listening.append(True)
        interrupt()

    def listen(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if listening:
            after.append(statement)

    event.listen(world.engine, "before_cursor_execute", listen)
    try:
        with pytest.raises(KeyboardInterrupt), in_commit(world.engine, 2, interrupt_and_listen):
            world.run("initialize", symbols=SYMBOLS, start=first - timedelta(days=30))
    finally:
        event.remove(world.engine, "before_cursor_execute", listen)
        world.market.misbehaviors = ()

    assert [statement.split()[:2] for statement in after if not statement.startswith(("PRAGMA", "BEGIN"))] == [
        ["UPDATE", "job_runs"]
    ]
    assert scalar(world.engine, "SELECT status FROM job_runs") == "interrupted"


@pytest.mark.parametrize("follow_up", ["_catch_up", "_suspects"])
def test_a_run_without_time_for_a_follow_up_is_partial(
    world: World, monkeypatch: pytest.MonkeyPatch, follow_up: str
) -> None:
    def refuse_late(*_: Any) -> None:
        raise TimeUpError("another session holds a lock")

    with monkeypatch.context() as patches:
        patches.setattr(loader, follow_up, refuse_late)
        result = world.run("initialize", **LOAD)

    assert result["status"] == "partial"
    assert result["warnings"] == ["left for the next run: what the answers have shown (another session holds a lock)"]
    assert world.run("initialize", **LOAD)["status"] == "nothing_to_do"


def assert_goes_on(world: World, missing: int) -> None:
    """The next run asks for what was not committed, and no more."""
    world.market.forget_faults()
    world.market.reset_calls()
    assert world.run("initialize", **LOAD)["status"] == "ok"
    assert world.market.calls["grouped"] == missing
    assert stock_data(world.engine) == oracle.table(bar for bar in world.bars.values() if bar.session in LOADED)
    assert scalar(world.engine, "SELECT count(*) FROM job_runs WHERE status IN ('interrupted', 'failed')") == 1


def test_only_the_runs_own_thread_uses_the_database(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that fetches would otherwise wait for the one connection to renew the lease."""
    monkeypatch.setattr(run_module, "RENEW_SECONDS", 0.0)
    run = Run(Request("initialize", ("*",), world.market.today), world.context())
    leases = "SELECT leased_until FROM job_runs"
    with journaled(run):
        first = rows(engine, leases)
        with transaction(engine):
            thread = threading.Thread(target=run.context.deadline.sleep, args=(0.01, "asking the provider again"))
            thread.start()
            thread.join(timeout=10)
            assert not thread.is_alive()
        assert rows(engine, leases) == first
        run.context.deadline.sleep(0.01, "a wait")
        assert rows(engine, leases) != first


def test_a_run_whose_provider_is_slow_keeps_its_lease(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread waits for an answer; the run's own thread renews the lease meanwhile."""
    monkeypatch.setattr(run_module, "RENEW_SECONDS", 0.0)
    renewals = list[float]()
    whole = Run.keep_lease

    def count(run: Run, *_: object) -> None:
        renewals.append(0.0)
        whole(run)

    monkeypatch.setattr(Run, "keep_lease", count)
    world.run("initialize", symbols=("*",), start=LOADED[0], end=LOADED[2])
    usual = len(renewals)
    renewals.clear()
    world.market.fail_next(*[Fault(delay=0.0)] * 2, Fault(delay=2.2))
    world.run("initialize", symbols=("*",), start=LOADED[3], end=LOADED[5])

    assert len(renewals) >= usual + 2
