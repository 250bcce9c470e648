"""The values that all layers share: jobs and their results, splits, rejected bars, and the columns of a bar."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, Required, TypedDict, get_args

EVERY_SYMBOL = "*"  # the whole US market
SYMBOL_LENGTH = 10  # characters of a symbol in all tables

PRICE_COLUMNS = ["open", "high", "low", "close"]
BAR_COLUMNS = ["symbol", "date", *PRICE_COLUMNS, "volume"]
METRIC_COLUMNS = ["volatility", "rolling_avg", "daily_pct_change"]
DECIMALS = 6  # of metrics
CLOSE_METRICS = ["rolling_avg", "daily_pct_change"]  # those that depend on earlier sessions too

JobType = Literal["initialize", "daily_update", "weekly_report"]
JOB_TYPES: tuple[JobType, ...] = get_args(JobType)

Status = Literal["ok", "nothing_to_do", "partial", "sent", "already_sent"]
"""How a run ended, as its result says; ``job_runs`` also knows ``running``, ``failed`` and ``abandoned``."""

ReportStatus = Literal["claimed", "sent", "resent", "no_prices", "failed"]
"""What became of a week's report: ``resent`` follows a claim without confirmation; ``failed``: nobody got it."""

Cause = Literal["corrected", "withdrawn", "appeared", "restated", "rescaled", "loaded"]
"""Why a stored bar changed; ``loaded`` is a bar first loaded among rows that were there before any run."""

SINGLE_BARS: tuple[Cause, ...] = ("corrected", "withdrawn", "appeared")
WHOLE_HISTORIES: tuple[Cause, ...] = ("restated", "rescaled")

ProgressFunction = Callable[[int, int, str], None]
"""Called with the number of calls done, their total, and what is being fetched."""


def no_progress(done: int, total: int, doing: str) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Request:
    """A payload, validated and complete; ``run_id`` names its run in ``job_runs`` and in the log."""

    job_type: JobType
    symbols: tuple[str, ...]
    as_of: date
    sessions: int = 70
    start: date | None = None
    end: date | None = None
    dry_run: bool = False
    force: bool = False
    payload: str = "{}"
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()), compare=False)


@dataclass
class Counts:
    """Rows of ``stock_data`` by what a load did to them, and bars that were rejected.

    ``updated`` holds the ``corrected`` rows and those of which only metrics changed.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    corrected: int = 0
    withdrawn: int = 0

    def add(self, other: Counts) -> None:
        """Add another load's counts to these."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class SessionSpan(TypedDict):
    """The first and last of some sessions, as ISO dates, and how many they are."""

    first: str | None
    last: str | None
    count: int


class Details(TypedDict, total=False):
    """What the result of some jobs says: a dry run's plan, the splits of a load, and the report that was sent."""

    splits: list[str]
    plan: list[str]
    calls: int
    read_again: SessionSpan
    oldest_reading: str | None
    subject: str
    recipients: list[str]
    waiting: dict[str, str]
    refused: dict[str, str]
    charts: list[str]
    files: list[str]
    sent_at: str
    site: str


class Outcome(Details):
    """What a job returns to :func:`pipeline.jobs.run_job`, which completes it to a :class:`JobResult`."""

    status: Required[Status]
    sessions: Required[list[date]]


class JobResult(Details):
    """The handler's result; JSON-serializable."""

    status: Required[Status]
    job_type: Required[JobType]
    run_id: Required[str]
    as_of: Required[str]
    symbols: Required[list[str]]
    sessions: Required[SessionSpan]
    api_calls: Required[int]
    rows: Required[dict[str, int]]
    warnings: Required[list[str]]
    elapsed_seconds: Required[float]


class Undelivered(TypedDict):
    """Why a recipient has not got a report; after a ``final`` refusal only force tries again."""

    reply: str
    final: bool


@dataclass(frozen=True)
class SentReport:
    """What is recorded of a week's report.

    Attributes
    ----------
    status : str
    message_id, subject : str
    recipients : tuple of str
        Whom it is for.
    undelivered : dict
        Those of them who have not got it.
    sent_at : datetime.datetime or None
    """

    status: ReportStatus
    message_id: str
    subject: str
    recipients: tuple[str, ...]
    undelivered: dict[str, Undelivered]
    sent_at: datetime | None

    @property
    def delivered(self) -> tuple[str, ...]:
        """Those who have the report."""
        return tuple(recipient for recipient in self.recipients if recipient not in self.undelivered)

    def lacking(self, recipients: Sequence[str]) -> tuple[str, ...]:
        """Those of `recipients`, whatever their case, who neither have the report nor were refused for good."""
        final = [recipient for recipient, why in self.undelivered.items() if why["final"]]
        done = {recipient.casefold() for recipient in (*self.delivered, *final)}
        return tuple(recipient for recipient in recipients if recipient.casefold() not in done)

    def replies(self, recipients: Sequence[str], *, final: bool) -> dict[str, str]:
        """The last replies to those of `recipients` who were refused for good, or for now."""
        why = {name: self.undelivered[name] for name in recipients if name in self.undelivered}
        return {name: why[name]["reply"] for name in why if why[name]["final"] == final}


@dataclass(frozen=True)
class Split:
    """A share split: `split_from` old shares became `split_to` new ones before the open of `execution_date`."""

    symbol: str
    execution_date: date
    split_from: float
    split_to: float

    def __post_init__(self) -> None:
        if not (self.split_from > 0 and self.split_to > 0 and 0 < self.split_to / self.split_from < math.inf):
            raise ValueError(f"a split of {self.split_from} into {self.split_to}: both must be positive")

    def __str__(self) -> str:
        return f"{self.symbol} {self.split_to:g}:{self.split_from:g} on {self.execution_date}"


@dataclass(frozen=True)
class RejectedBar:
    """A bar that was not stored: the bar as received (JSON), and why."""

    symbol: str
    date: date | None
    reason: str
    bar: str


@dataclass(frozen=True)
class Revision:
    """A change of a stored bar, or of a symbol's whole history, by a run.

    Attributes
    ----------
    symbol : str
    session : datetime.date
        The bar's; of a history, the last one's.
    cause : str
    as_of : datetime.date
        The day that stood for today in the run.
    old, new : tuple of float or None
        Open, high, low and close of this bar before and after the change; None where there was none.
    bars : int
        How many bars changed.
    """

    symbol: str
    session: date
    cause: Cause
    as_of: date
    old: tuple[float | None, ...]
    new: tuple[float | None, ...]
    bars: int = 1
