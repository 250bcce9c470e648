"""Words and colors that the terminal's pages share. A module of its own, since bars of progress take time to import."""

from __future__ import annotations

COLORS = {
    "ok": "green",
    "sent": "green",
    "nothing_to_do": "cyan",
    "already_sent": "cyan",
    "partial": "yellow",
    "interrupted": "yellow",
    "failed": "red",
}


def plural(count: int, thing: str) -> str:
    """Return a count and what is counted: ``1 row``, ``2 rows``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
