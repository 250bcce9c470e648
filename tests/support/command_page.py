"""The part of docs/commands.md that the commands write: the help of the program and of each command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from commands.app import PROGRAM, app

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
MARK = "<!-- `make docs-commands` writes what follows. -->\n"
WIDTH = 80


def group() -> Any:
    """The program, with its commands."""
    return typer.main.get_command(app)


def help_text(name: str | None = None) -> str:
    """The help of a command, or of the program, in a terminal of 80 columns."""
    context = group().context_class(group(), info_name=PROGRAM, terminal_width=WIDTH - 2, **group().context_settings)
    if name is None:
        return group().get_help(context)
    command = group().commands[name]
    return command.get_help(command.context_class(command, info_name=name, parent=context))


def written_part() -> str:
    """What the page has below its mark."""
    parts = [f"## The program\n\n```text\n{help_text()}\n```\n"]
    parts += [f"## {name}\n\n```text\n{help_text(name)}\n```\n" for name in group().commands]
    return "\n".join(parts)


def main() -> None:
    """Write the page anew."""
    by_hand = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{by_hand}{MARK}\n{written_part()}", encoding="utf-8")


if __name__ == "__main__":
    main()
