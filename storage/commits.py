"""A counter of the commits that changed ``stock_data``: what was read before is current as long as it stands still.

Whatever writes bars counts, inside its transaction, which holds the write lock.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from storage.schema import COMMITS

_COUNT = text(
    "INSERT INTO commits (id, number) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET number = commits.number + 1"
)


def count_commit(connection: Connection) -> None:
    """Record that this transaction changes stored bars."""
    connection.execute(_COUNT)


def read_commits(connection: Connection) -> int:
    """Return the counter, which may grow by more than one in a transaction and never goes back."""
    return connection.execute(select(COMMITS.c.number)).scalar() or 0
