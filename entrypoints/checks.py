"""What the checks of the set-up share: their results, and what they work with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal, TypedDict

from sqlalchemy import Engine

from config import Settings
from domain.calendar import today
from domain.clock import Deadline
from domain.errors import CredentialsError
from storage.engine import until

SHOWN_NAMES = 6

CheckStatus = Literal["ok", "warning", "failed", "skipped"]


class Check(TypedDict):
    """What a check found; ``cure`` is None if all is well."""

    name: str
    status: CheckStatus
    message: str
    cure: str | None


@dataclass
class Setup:
    """A set-up whose settings can be read, and what the checks so far have learned of it.

    Attributes
    ----------
    sources : mapping of str to str
        Where each setting comes from that is set.
    deadline : Deadline
        Of all checks together; each has ``seconds``.
    on_lambda : bool
        Whether the function is checked, which has no ``.env`` and keeps no files.
    now : callable
        This machine's clock.
    engine : sqlalchemy.Engine or None
        The database, once it has answered.
    drifts : dict of str to datetime.timedelta
        By how much other clocks are ahead of this machine's.
    """

    settings: Settings
    sources: Mapping[str, str]
    deadline: Deadline
    on_lambda: bool
    now: Callable[[], datetime]
    seconds: float
    engine: Engine | None = None
    drifts: dict[str, timedelta] = field(default_factory=dict)

    @property
    def today(self) -> date:
        """The date in New York."""
        return today(self.now())

    @property
    def has_key(self) -> bool:
        """Whether there is a key of the provider."""
        return bool(self.settings.polygon_api_key.get_secret_value())

    def place(self, name: str) -> str:
        """Say where a setting is, or where to put it."""
        default = f"the secret {self.settings.secret_id}" if self.on_lambda and self.settings.secret_id else ".env"
        return self.sources.get(name, default)

    def limit(self) -> Deadline:
        """Return the deadline of a check that begins now."""
        return Deadline(min(self.seconds, self.deadline.remaining), self.deadline.clock, reserve=0)

    def limited(self, engine: Engine) -> Engine:
        """Return the engine with the deadline of a check that begins now."""
        return until(engine, self.limit())


def ok(name: str, message: str) -> Check:
    """All is well."""
    return {"name": name, "status": "ok", "message": message, "cure": None}


def warning(name: str, message: str, cure: str) -> Check:
    """It works, but not as it should, or not for long."""
    return {"name": name, "status": "warning", "message": message, "cure": cure}


def failed(name: str, message: str, cure: str) -> Check:
    """It does not work."""
    return {"name": name, "status": "failed", "message": message, "cure": cure}


def skipped(name: str, message: str, cure: str) -> Check:
    """It is not known."""
    return {"name": name, "status": "skipped", "message": message, "cure": cure}


def refused_login(name: str, error: CredentialsError, place: str) -> Check:
    """A failed check whose error says itself which settings to check."""
    message, _, what = str(error).partition("; check ")
    return failed(name, message, f"check {what} in {place}")


def no_database(name: str) -> Check:
    """A check that needs the database."""
    return skipped(name, "the database cannot be used", "mend the database first")


def listed(names: Sequence[str]) -> str:
    """Name the first few, and count the others."""
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def try_folder(folder: Path) -> None:
    """Write a file without a name into a folder, or into the nearest one above that exists.

    Raises
    ------
    OSError
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"nothing")
        file.flush()
