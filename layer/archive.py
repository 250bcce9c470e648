"""Zips that depend on what is in them alone, and their sizes against what Lambda takes.

What comes in: names and contents. What goes out: a zip in which order, time, rights and compression are fixed, so that
the same input gives the same bytes and a deployment without changes changes nothing. This module knows nothing of what
it packs.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

MEGABYTE = 2**20
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
READABLE = 0o100644 << 16  # a plain file that everyone may read


class PackageError(Exception):
    """A package cannot be built, or is larger than Lambda takes; the message says why in one line."""


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a zip, whole or not at all.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    files : mapping of str to bytes
        Name inside the zip, with ``/`` between folders, to content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.external_attr = READABLE
                entry.create_system = 3  # Unix, on whatever machine it is built
                archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 9)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def sizes(path: Path) -> tuple[int, int]:
    """The bytes of a zip, and of all that it holds.

    Parameters
    ----------
    path : Path

    Returns
    -------
    zipped, unpacked : int
    """
    with zipfile.ZipFile(path) as archive:
        return path.stat().st_size, sum(entry.file_size for entry in archive.infolist())


def check_sizes(path: Path, *, zipped: int, unpacked: int) -> str:
    """Hold a zip to its limits.

    Parameters
    ----------
    path : Path
    zipped, unpacked : int
        The most bytes that it may have.

    Returns
    -------
    str
        A line for people that tells its sizes.

    Raises
    ------
    PackageError
        If it is larger.
    """
    size, inside = sizes(path)
    shown = f"{path.name}: {_shown(size)} zipped, {_shown(inside)} unpacked"
    if size > zipped or inside > unpacked:
        raise PackageError(f"{shown}; valid is up to {_shown(zipped)} zipped and {_shown(unpacked)} unpacked")
    return shown


def _shown(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB" if size >= MEGABYTE else f"{size / 1024:.1f} KB"
