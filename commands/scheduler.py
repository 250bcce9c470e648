"""The local scheduler."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from commands.app import command
from commands.events import run_event
from commands.output import console, print_error
from commands.signals import until_interrupted
from domain.errors import ConfigError, StockTrackerError

if TYPE_CHECKING:
    from domain.models import JobType

SCHEDULE_NOTE = "daily_update at 13:00 UTC, Tuesday to Saturday; weekly_report at 16:00 UTC on Saturday"


@command("schedule", "schedule", "schedule --once")
def schedule_jobs(
    once: Annotated[bool, typer.Option("--once", help="Show what is scheduled, and exit.")] = False,
) -> None:
    """Run the jobs at their cron times on this machine, until interrupted."""
    import schedule

    from config import settings

    if not (once or settings().polygon_api_key.get_secret_value()):
        raise ConfigError("POLYGON_API_KEY is not set, without which no job loads prices: put it into .env")
    for day in ("tuesday", "wednesday", "thursday", "friday", "saturday"):
        getattr(schedule.every(), day).at("13:00", "UTC").do(_run_scheduled, "daily_update")
    schedule.every().saturday.at("16:00", "UTC").do(_run_scheduled, "weekly_report")
    console.print(f"Scheduled: {SCHEDULE_NOTE}.")
    for job in sorted(schedule.get_jobs()):
        if job.job_func:
            console.print(f"  next {job.next_run:%a %Y-%m-%d %H:%M} local time: {job.job_func.args[0]}")
    if once:
        return
    with until_interrupted():
        while True:
            schedule.run_pending()
            time.sleep(1)


def _run_scheduled(job_type: JobType) -> None:
    """Run a job at its time. An error is shown, and the scheduler continues."""
    try:
        run_event({"job_type": job_type})
    except StockTrackerError as error:
        print_error(error)
