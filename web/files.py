"""Files that never change once they are published: their names carry a hash of what they hold."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HASH_LENGTH = 16  # hexadecimal digits
OURS = re.compile(r"(?:data|assets)/[a-z]+-[0-9a-f]{16}\.[a-z]+")
INDEX, PAGE, SINGLE = "index.json", "index.html", "market.html"

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True)
class Published:
    """A file of the site.

    Attributes
    ----------
    path : str
        Its path in the site, such as ``data/breadth-0123456789abcdef.json``.
    size : int
        Bytes.
    source : pathlib.Path
        Where its content is on this machine.
    facts : dict
        What else the index says of it.
    """

    path: str
    size: int
    source: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def entry(self) -> dict[str, Any]:
        """What the index says of it."""
        return {"path": self.path, "bytes": self.size, **self.facts}


def publish_file(draft: Path, name: str, *, folder: str = "data", **facts: Any) -> Published:
    """Give a finished file the name under which it is published: `name` with a hash, and the draft's ending."""
    path = f"{folder}/{name}-{digest(draft)}{draft.suffix}"
    source = draft.with_name(path.replace("/", "-"))
    draft.rename(source)
    return Published(path, source.stat().st_size, source, facts)


def publish_bytes(staging: Path, name: str, ending: str, content: bytes, *, folder: str = "data") -> Published:
    """Put a file into the staging folder, under the name by which it is published."""
    draft = staging / f"draft{ending}"
    draft.write_bytes(content)
    return publish_file(draft, name, folder=folder)


def digest(path: Path) -> str:
    """The hash of a file's content, as names carry it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:HASH_LENGTH]


def is_intact(path: Path, name: str) -> bool:
    """Whether a file holds what its published name says."""
    return path.is_file() and digest(path) == name.rpartition("-")[2].partition(".")[0]
