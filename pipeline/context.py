"""What every job works with: settings, database and deadline; and whose prices the database holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from sqlalchemy import Engine

from config import Settings
from domain.clock import Deadline
from domain.errors import DataError, StockTrackerError
from domain.models import ProgressFunction, no_progress
from storage.engine import redacted_url, until

THIS_MACHINE = ("127.0.0.1", "localhost", "::1")  # where a sandbox runs


@dataclass(frozen=True)
class RunContext:
    """What a job works with; an argument, so that tests can pass their own. The deadline bounds the engine as well."""

    settings: Settings
    engine: Engine
    deadline: Deadline
    progress: ProgressFunction = no_progress
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine", until(self.engine, self.deadline))


@contextmanager
def without_secrets(mask: Callable[[str], str]) -> Iterator[None]:
    """Mask secrets in the message of an error that leaves the block."""
    try:
        yield
    except Exception as error:
        message = mask(str(error))
        if message == str(error):
            raise
        if not isinstance(error, StockTrackerError):
            raise RuntimeError(message) from None
        error.args = (message,)
        raise error from None


def ensure_same_provider(context: RunContext, providers: Sequence[str]) -> None:
    """Keep recorded prices of the sandbox and live prices out of one table.

    Raises
    ------
    DataError
        If the database holds prices of the other kind.
    """
    host = provider_host(context.settings)
    for other in providers:
        if is_sandbox(other) != is_sandbox(host):
            recorded = ", or add --sandbox to use its recorded prices" if is_sandbox(other) else ", or remove that one"
            raise DataError(
                f"{redacted_url(context.engine)} holds prices from {other}, not from {host}:"
                f" set DATABASE_URL to another database{recorded}"
            )


def is_sandbox(host: str) -> bool:
    """Whether a provider of this name serves recorded prices: one that runs on this machine."""
    return host in THIS_MACHINE


def provider_host(settings: Settings) -> str:
    """Return the name under which runs record the provider."""
    return urlsplit(settings.polygon_base_url).hostname or ""
