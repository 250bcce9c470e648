"""The command line that the Makefile calls: ``python -m deploy check --stage production``.

An error is one line on standard error. The exit status is 2 for a stage or a value that is not valid, and 1 for what
AWS refuses or a check that failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from getpass import getpass
from pathlib import Path

from deploy import sam
from deploy.stage import FOLDER, PRODUCTION, read_stage, stack_name, stage_file
from domain.errors import ConfigError, StockTrackerError


def check(given: argparse.Namespace) -> int:
    """Validate the stage's file, and write its parameters for SAM."""
    from deploy.template import read_template

    template = read_template()
    stage = read_stage(given.stage, given.folder, template)
    sam.write_parameters(stage.name, stage.values)
    changed = [name for name, value in stage.values.items() if value != template.parameters[name].default]
    differ = ", ".join(changed) or "none"
    print(f"{stage.stack}: {len(changed)} of {len(stage.values)} parameters differ from their defaults: {differ}")
    return 0


def ready(given: argparse.Namespace) -> int:
    """Check on AWS that the stage can be deployed, and prepare the first deployment."""
    from deploy import cloud, secret

    stage = read_stage(given.stage, given.folder)
    secret.require(stage)
    cloud.remove_failed_stack(stage)
    if cloud.stack_status(stage) is None:
        cloud.start_clock(stage)
    return 0


def show(given: argparse.Namespace) -> int:
    """Print what SAM needs: the place of the stack, the tags, or a parameter."""
    stack = stack_name(given.stage)
    if (
        given.what == "place" and not stage_file(given.stage, given.folder).exists()
    ):  # a stack may be removed after its file
        print(sam.options(stack, None))
        return 0
    stage = read_stage(given.stage, given.folder)
    if given.what == "place":
        print(sam.options(stage.stack, stage.region))
    elif given.what == "tags":
        print(sam.tags(stage))
    else:
        print(stage.values["Architecture"])
    return 0


def secret(given: argparse.Namespace) -> int:
    """Write the stage's secret."""
    from deploy import secret as secrets

    stage = read_stage(given.stage, given.folder)
    if given.remove:
        print(secrets.remove(stage))
        return 0
    ask = getpass if sys.stdin.isatty() else None
    change = [key for key in given.change.split(",") if key]
    print(secrets.complete(stage, os.environ, ask, change=change, copy_from=given.copy_from or None))
    return 0


def doctor(given: argparse.Namespace) -> int:
    """Check the deployed stage."""
    from rich.console import Console

    from deploy.doctor import ask_function, check_alarm_mail
    from entrypoints.doctor_view import show_answer

    stage = read_stage(given.stage, given.folder)
    answer = ask_function(stage, send=given.send)
    return show_answer(Console(highlight=False, soft_wrap=True), answer, [check_alarm_mail(stage)])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)

    def add(run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__, description=run.__doc__)
        command.add_argument("--stage", default=PRODUCTION)
        command.add_argument("--folder", type=Path, default=FOLDER)
        command.set_defaults(run=run)
        return command

    add(check)
    add(ready)
    shown = add(show)
    shown.add_argument("what", choices=["place", "tags", "architecture"])
    writes = add(secret)
    writes.add_argument("--change", default="")
    writes.add_argument("--from", dest="copy_from", default="")
    writes.add_argument("--remove", action="store_true")
    add(doctor).add_argument("--send", action="store_true")
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except StockTrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    sys.exit(main())
