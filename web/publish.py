"""Put a site in its place: what never changes first, the index last, and then remove what no reader needs any more."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from web.files import INDEX, PAGE, SINGLE, Published
from web.target import GRACE, Target

VERSION = 1  # of the index; a page that knows another one says so
OF_THE_MOMENT = ("published_at", "watermark")  # what two publications of the same state differ in

Index = Mapping[str, Any]


def read_index(target: Target) -> dict[str, Any] | None:
    """Return the index that is published; None if there is none that this version can go on from."""
    content = target.read(INDEX)
    try:
        index = json.loads(content or b"null")
    except ValueError:
        return None
    if not isinstance(index, dict) or index.get("version") != VERSION:
        return None
    try:
        is_whole = all(isinstance(path, str) for path in _paths(index))
    except (LookupError, TypeError, AttributeError):
        return None
    return index if is_whole else None


def settle_index(index: dict[str, Any], before: Index | None) -> dict[str, Any]:
    """Return the index to publish: the one before if it says the same, so that nothing is written again."""
    is_same = before is not None and _lasting(index) == _lasting(before)
    return dict(before) if is_same and before is not None else index


def _lasting(index: Index) -> dict[str, Any]:
    return {name: value for name, value in index.items() if name not in OF_THE_MOMENT}


def put_site(
    target: Target,
    files: Sequence[Published],
    index: Index,
    before: Index | None,
    *,
    page: bytes,
    single: bytes | None,
    damaged: Container[str] = (),
) -> list[str]:
    """Put a site in its place, and return the paths that were written.

    Parameters
    ----------
    target : Target
    files : sequence of Published
        All that the index names.
    index, before : mapping, mapping or None
        The index to publish, and the one that is published.
    page : bytes
        The page that people open.
    single : bytes or None
        The page with everything inside, if there is one.
    damaged : container of str
        Paths at which something else is than their names say.
    """
    there, kept, written = target.files(), set(_paths(before)), []
    for file in files:
        # One that no index names could be removed by another run, until it is put there again.
        placed = there.get(file.path) if file.path in kept and file.path not in damaged else None
        if placed is None or placed.size != file.size:
            target.put(file.path, file.source)
            written.append(file.path)
    for path, content in {PAGE: page, SINGLE: single, INDEX: json.dumps(index).encode()}.items():
        if content is None:
            if target.read(path) is not None:
                target.remove([path])
        elif target.read(path) != content:
            target.put(path, content)
            written.append(path)
    needed, old = kept | {file.path for file in files}, datetime.now(UTC) - GRACE
    target.remove(sorted(path for path, placed in target.files().items() if path not in needed and placed.at < old))
    return written


def _paths(index: Index | None) -> Iterator[str]:
    """Yield the path of each file that an index names."""
    if not index:
        return
    yield from index["assets"].values()
    for entry in index["files"].values():
        for each in entry if isinstance(entry, list) else [entry]:
            yield each["path"]
