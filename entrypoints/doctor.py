"""Check the set-up, and tell the cure for what is broken.

The checks write nothing that stays, and send nothing unless asked to. Each ends within ten seconds, whoever does not
answer, and one that depends on another says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from config import redact, setting_sources, settings, unknown_names
from domain.calendar import today
from domain.clock import Deadline
from domain.errors import ConfigError
from entrypoints.check_database import check_database, check_pool, check_rights, check_tables
from entrypoints.check_services import check_charts, check_key_and_plan, check_mail, send_test_mail
from entrypoints.check_time import calendar_check, check_calendar, check_clock, check_freshness
from entrypoints.checks import Check, Setup, failed, listed, ok, skipped, warning

SECONDS = 10.0  # of each check
OTHERS = ("database", "tables", "rights", "pool", "key", "plan", "mail", "charts", "clock", "freshness")


class Diagnosis(TypedDict):
    """All checks; ``ok`` if none failed. JSON-serializable."""

    ok: bool
    checks: list[Check]


def diagnose(deadline: Deadline, **options: Any) -> Diagnosis:
    """Return all checks of :func:`examine`, which takes the same arguments."""
    checks = list(examine(deadline, **options))
    return {"ok": is_ok(checks), "checks": checks}


def is_ok(checks: Sequence[Check]) -> bool:
    """Whether no check failed."""
    return all(check["status"] != "failed" for check in checks)


def examine(
    deadline: Deadline,
    *,
    send: bool = False,
    on_lambda: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    seconds: float = SECONDS,
) -> Iterator[Check]:
    """Read the settings anew, check what they lead to, and yield each check as it ends.

    Parameters
    ----------
    deadline : Deadline
        Of all checks together.
    send : bool
        Whether to send a test mail to ``MAIL_TO``.
    on_lambda : bool
        Whether the function is checked, which has no ``.env`` and keeps no files.
    now : callable
        This machine's clock.
    seconds : float
        That each check may take.
    """
    settings.cache_clear()
    try:
        configured = settings()
        setup = Setup(configured, setting_sources(configured), deadline, on_lambda, now, seconds)
        checks = _checks(setup, send=send)
    except ConfigError as error:
        checks = _checks_without_settings(error, now(), on_lambda=on_lambda)
    for check in checks:
        yield {**check, "message": redact(check["message"]), "cure": check["cure"] and redact(check["cure"])}


def _checks_without_settings(error: ConfigError, now: datetime, *, on_lambda: bool) -> Iterator[Check]:
    place = "the stack's parameters or its secret" if on_lambda else ".env or the environment, which comes first"
    yield failed("settings", str(error), f"correct it in {place}")
    for name in OTHERS:
        yield skipped(name, "the settings cannot be read", "correct the settings first")
    yield calendar_check(today(now), [], on_lambda=on_lambda)


def _checks(setup: Setup, *, send: bool) -> Iterator[Check]:
    yield _check_settings(setup)
    yield check_database(setup)
    yield (tables := check_tables(setup))
    yield check_rights(setup, tables)
    yield check_pool(setup)
    yield from check_key_and_plan(setup)
    yield (mail := check_mail(setup))
    if send:
        yield send_test_mail(setup, mail)
    yield check_charts(setup)
    yield check_clock(setup)
    yield check_calendar(setup)
    yield check_freshness(setup)


def _check_settings(setup: Setup) -> Check:
    """Name the settings that are set, and those that are unknown."""
    if unknown := unknown_names():
        return warning("settings", "; ".join(unknown), "correct the name; what belongs to another program may stay")
    by_source: dict[str, list[str]] = {}
    for name, source in setup.sources.items():
        by_source.setdefault(str(Path(source).absolute()) if source == ".env" else source, []).append(name)
    found = "; ".join(f"from {source}: {listed(names)}" for source, names in by_source.items())
    return ok("settings", found or "nothing is set: all have their defaults")
