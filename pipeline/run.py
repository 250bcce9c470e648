"""A run of a job: its request, its context, its counts and warnings, its lease, and its row in ``job_runs``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

import database
import utils
from domain.clock import Deadline
from domain.errors import DataError, StockTrackerError, TimeUpError
from domain.models import Counts, RejectedBar, Request
from domain.text import Redactor, clean_text
from pipeline.context import RunContext, ensure_same_provider, provider_host
from storage.adoption import adoption_in_time
from storage.engine import redacted_url, transaction
from storage.locks import LEASE_SECONDS, RENEW_SECONDS, HeldSessions, close_abandoned, is_turn
from storage.migration import ensure_schema

if TYPE_CHECKING:
    from api_client import PolygonClient

logger = logging.getLogger(f"stock_tracker.{__name__}")

LONGEST_ERROR = 2_000  # characters in job_runs
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two looks at whether it is a run's turn


@dataclass
class Run:
    """One run of a job, from its start to its result.

    Attributes
    ----------
    held : HeldSessions or None
        The sessions that it holds, so that others can work beside it; None for all.
    stored : set of str
        Symbols that the run knows to have a stored bar.
    """

    request: Request
    context: RunContext
    held: HeldSessions | None = None
    counts: Counts = field(default_factory=Counts)
    warnings: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    _noted: dict[str, Any] = field(default_factory=dict)
    _client: PolygonClient | None = None
    _has_turn: bool = False
    _providers: list[str] = field(default_factory=list)
    _renewed: float = field(default_factory=time.monotonic)
    _thread: int = field(default_factory=threading.get_ident)

    @property
    def run_id(self) -> str:
        """The run's name in ``job_runs`` and in the log."""
        return self.request.run_id

    @property
    def api_calls(self) -> int:
        """How many answers of the provider this run has received."""
        return self._client.calls if self._client else 0

    def client(self, deadline: Deadline) -> PolygonClient:
        """Return the run's client of the provider, made at first use; no call of it waits past the deadline."""
        if self._client is None:
            from api_client import PolygonClient

            settings = self.context.settings
            self._client = PolygonClient(
                base_url=settings.polygon_base_url,
                api_key=settings.polygon_api_key.get_secret_value(),
                calls_per_minute=settings.polygon_calls_per_minute,
                deadline=deadline,
            )
        return self._client

    @property
    def redact(self) -> Redactor:
        """Masks the secrets of the run's settings in a text."""
        return self.context.settings.redact

    def record_rejected(self, connection: Connection, bars: Sequence[RejectedBar]) -> int:
        """Keep rejected bars as received, but for secrets; return how many there were."""
        mask = self.redact
        masked = [replace(bar, symbol=mask(bar.symbol), reason=mask(bar.reason), bar=mask(bar.bar)) for bar in bars]
        return database.record_rejected(connection, self.run_id, masked)

    def note(self, **columns: Any) -> None:
        """Let every later save write these columns too; worth no transaction of their own."""
        self._noted |= columns

    def save(self, connection: Connection, added: Counts | None = None, **columns: Any) -> None:
        """Update this run's row in ``job_runs``, in the caller's transaction; with a ``status``, the run ends.

        Every commit saves the run, which renews its lease. What it adds to the run's counts is part of them once it is
        committed.

        Raises
        ------
        TimeUpError
            If the lease is lost: another run has taken over, and the transaction must not be committed.
        """
        columns = {"api_calls": self.api_calls, **self._noted, **columns}
        counts = replace(self.counts)
        counts.add(added or Counts())
        if "status" in columns:
            database.end_run(connection, self.run_id, counts, **columns)
        elif not database.update_run(connection, self.run_id, counts, **columns):
            raise self._lease_lost()
        self._renewed = time.monotonic()

    def keep_lease(self, *_: object) -> None:
        """Renew the lease if a third of it is over: before a call of the provider, and while the run waits.

        Another thread leaves that to the run's own, which has the one connection.
        """
        if threading.get_ident() == self._thread and time.monotonic() - self._renewed > RENEW_SECONDS:
            with transaction(self.context.engine, write=False) as connection:
                self.save(connection)

    def progress(self, done: int, total: int, doing: str) -> None:
        """Show the progress; called before a call of the provider, or while one of another thread is waited for."""
        self.keep_lease()
        self.context.progress(done, total, doing)

    def await_turn(self) -> bool:
        """Wait until no earlier run with a session in common is at work; a dry run waits for none.

        Later runs wait until this one ends. Runs that died without recording it are closed.

        Returns
        -------
        bool
            Whether no other run works at the same time.

        Raises
        ------
        DataError
            If it is not this run's turn before the deadline, or the database holds prices of another provider.
        TimeUpError
            If the lease is lost.
        """
        context, pause, started = self.context, FIRST_PAUSE, time.monotonic()
        self._has_turn = self._has_turn or self.request.dry_run
        if not self._has_turn:
            self._look_again()
        while not self._has_turn:
            try:
                context.deadline.sleep(pause, "waiting for another run to end")
            except TimeUpError:
                place = redacted_url(context.engine)
                raise DataError(f"{place}: another run is still going on; try again later") from None
            pause = min(pause * 1.5, LONGEST_PAUSE)
            self._look_again()
        logger.debug("waited %.0f ms for other runs", (time.monotonic() - started) * 1000)
        ensure_same_provider(self.context, self._providers)
        return self.held is None

    def _look_again(self) -> None:
        with transaction(self.context.engine, write=False) as connection:
            self.look(connection)

    def look(self, connection: Connection) -> None:
        """Look whether it is the run's turn, and if so, where the stored prices come from."""
        close_abandoned(connection, self.context.now())
        turn = is_turn(connection, self.run_id)
        if turn is None:
            raise self._lease_lost()
        self._has_turn = turn
        if turn:
            self._providers = utils.read_providers(connection)

    def _lease_lost(self) -> TimeUpError:
        return TimeUpError(f"this run stood still for over {LEASE_SECONDS:.0f} s, and another one has taken over")

    def hold_all(self) -> None:
        """Hold all sessions instead of some, behind all runs that are there; before the run's turn."""
        with transaction(self.context.engine) as connection:
            database.requeue_run(connection, self.run_id, held=None)
        self.held = None

    @contextmanager
    def until(self, deadline: Deadline) -> Iterator[None]:
        """Give the steps of a block a deadline of their own."""
        whole = self.context
        self.context = replace(whole, deadline=deadline)
        try:
            yield
        finally:
            self.context = whole


@contextmanager
def journaled(run: Run) -> Iterator[None]:
    """Insert the run's row, which queues it up, and record how a run ends that fails or is interrupted."""
    request, context = run.request, run.context
    with transaction(context.engine) as connection:
        if not utils.schema_exists(connection):
            with adoption_in_time(connection, context.deadline.remaining):
                run.warnings += ensure_schema(connection)
        database.start_run(
            connection,
            held=run.held,
            provider=provider_host(context.settings),
            run_id=run.run_id,
            job_type=request.job_type,
            payload=run.redact(request.payload),
            as_of=request.as_of,
            started_at=context.now(),
        )
        if run.held is None:  # others may give up what they hold for all sessions, behind all runs that are there
            run.look(connection)
    context.deadline.on_wait.append(run.keep_lease)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        _record_end(run, error)
        raise
    finally:
        context.deadline.on_wait.remove(run.keep_lease)


def _record_end(run: Run, error: BaseException) -> None:
    """Record how a run failed; a database that refuses this as well does not replace the run's own error.

    The next run closes the row of such a run.
    """
    if isinstance(error, KeyboardInterrupt):
        status, message = "interrupted", f"interrupted by {error}" if error.args else "interrupted"
    elif isinstance(error, StockTrackerError):
        status, message = "failed", str(error)
    else:
        status, message = "failed", f"unexpected error: {error}"
    message = clean_text(message, LONGEST_ERROR, run.redact)
    try:
        with transaction(run.context.engine, write=False) as connection:  # another session may hold the write lock
            run.save(connection, status=status, finished_at=run.context.now(), error=message)
    except StockTrackerError as unrecorded:
        logger.info("%s; and this end of the run cannot be recorded: %s", message, unrecorded)
