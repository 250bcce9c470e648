"""A check of the set-up."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from commands.app import command
from commands.options import AsJson
from commands.output import console


@command("doctor", "doctor", "doctor --send")
def doctor(
    send: Annotated[bool, typer.Option("--send", help="Send a test mail to MAIL_TO.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check the set-up, and tell the cure for what is broken.

    Nothing is stored. The exit status is 1 if a check failed.
    """
    from domain.clock import Deadline, SystemClock
    from entrypoints.checks import Check
    from entrypoints.doctor import Diagnosis, examine, is_ok
    from entrypoints.doctor_view import show_check, show_summary

    checks = list[Check]()
    for check in examine(Deadline(None, SystemClock()), send=send):
        checks.append(check)
        if not as_json:
            show_check(console, check)
    if as_json:
        diagnosis: Diagnosis = {"ok": is_ok(checks), "checks": checks}
        print(json.dumps(diagnosis))
    else:
        show_summary(console, checks)
    return 0 if is_ok(checks) else 1
