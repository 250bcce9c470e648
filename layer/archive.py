"""Reproducible zips, and their sizes against Lambda's limits.

Order, time, permissions and compression are fixed, so that the same input gives the same bytes, and a deployment
without changes changes nothing.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

MEGABYTE = 2**20
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip
READABLE = 0o100644 << 16  # a regular file, mode 644


class PackageError(Exception):
    """A package cannot be built or is too large for Lambda; the message says why in one line."""


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a zip atomically, and create its folder.

    Parameters
    ----------
    files : mapping of str to bytes
        Content by name inside the zip, with ``/`` between folders.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, EPOCH)
                entry.external_attr = READABLE
                entry.create_system = 3  # Unix, whatever machine builds it
                archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 9)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def sizes(path: Path) -> tuple[int, int]:
    """The size of a zip in bytes, zipped and unpacked."""
    with zipfile.ZipFile(path) as archive:
        return path.stat().st_size, sum(entry.file_size for entry in archive.infolist())


def check_sizes(path: Path, *, zipped: int, unpacked: int) -> str:
    """Check the sizes of a zip against its limits.

    Parameters
    ----------
    zipped, unpacked : int
        The limits in bytes.

    Returns
    -------
    str
        Its name and sizes in one line.

    Raises
    ------
    PackageError
        If it exceeds a limit.
    """
    size, inside = sizes(path)
    shown = f"{path.name}: {_shown(size)} zipped, {_shown(inside)} unpacked"
    if size > zipped or inside > unpacked:
        raise PackageError(f"{shown}; valid is up to {_shown(zipped)} zipped and {_shown(unpacked)} unpacked")
    return shown


def _shown(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB" if size >= MEGABYTE else f"{size / 1024:.1f} KB"
