"""The outbox: a folder that keeps reports as pages to open and as mails, with an index of its weeks.

The index shows the files that are in the folder when a report is written to it.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from datetime import date
from email.parser import BytesParser
from email.policy import SMTP
from pathlib import Path

from domain.errors import DeliveryError
from report.overview import Overview, find_overview
from report.rendering import render

INDEX = "index.html"
PREVIEW = "-preview"  # suffix of the name of a report that was not sent

_HEAD_BYTES = 65_536  # of a file, which hold a mail's subject and a page's overview
_NAME = re.compile(r"weekly-report-(\d{4}-\d\d-\d\d)(.*)")  # report.model.Week.name, and a suffix
_OF_THE_WEEK = ("", "-no-prices")  # suffixes of reports that were sent to everyone


@dataclass(frozen=True)
class Entry:
    """A report as the index shows it, by its overview or, if its page has none, by its title.

    ``note`` tells a preview or a report of chosen symbols from the week's own; ``day`` is the week's last session.
    """

    name: str
    day: date | None
    note: str
    title: str
    overview: Overview | None
    page: bool
    mail: bool


def write_report(folder: Path, name: str, *, page: str | None = None, mail: bytes | None = None) -> list[Path]:
    """Write a report's page and mail to the outbox, update the index, and return the paths of both.

    Raises
    ------
    DeliveryError
        If the folder cannot be written.
    """
    contents = {".html": page.encode() if page is not None else None, ".eml": mail}
    written = {folder / f"{name}{ending}": content for ending, content in contents.items() if content is not None}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in written.items():
            _write(path, content)
        _write(folder / INDEX, render("index.html.j2", **_index(folder)).encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise DeliveryError(f"the outbox {str(folder)!r} cannot be written: {reason}; set OUTBOX to a folder") from None
    return list(written)


def write_page(path: Path, page: str) -> None:
    """Write a report's page to a path outside the outbox.

    Raises
    ------
    DeliveryError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, page.encode())
    except OSError as error:
        raise DeliveryError(f"the page {str(path)!r} cannot be written: {error.strerror or error}") from None


def _write(path: Path, content: bytes) -> None:
    """Replace a file atomically, so that readers see the old content or the new, never part of it."""
    handle, draft = tempfile.mkstemp(prefix=".", suffix=path.suffix + "~", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(draft, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _index(folder: Path) -> dict[str, list[Entry]]:
    """List the reports of a folder, the latest week first: those of the week, and the others."""
    names = {file.stem for pattern in ("*.eml", "weekly-report-*.html") for file in folder.glob(pattern)}
    entries = [_entry(folder, name) for name in names]
    entries.sort(key=lambda entry: (entry.day or date.min, entry.name), reverse=True)
    return {
        "weeks": [entry for entry in entries if entry.day and not entry.note],
        "others": [entry for entry in entries if entry.note or not entry.day],
    }


def _entry(folder: Path, name: str) -> Entry:
    page, mail = folder / f"{name}.html", folder / f"{name}.eml"
    overview = find_overview(_head(page).decode(errors="replace")) if page.exists() else None
    day, suffix = _parse(name)
    note = "Preview" if suffix.endswith(PREVIEW) else ""
    if day and suffix.removesuffix(PREVIEW) not in _OF_THE_WEEK:
        note = "Preview of chosen symbols" if note else "Chosen symbols"
    return Entry(
        name=name,
        day=day,
        note=note,
        title=_subject(mail) if mail.exists() else name,
        overview=overview,
        page=page.exists(),
        mail=mail.exists(),
    )


def _parse(name: str) -> tuple[date | None, str]:
    """Return the last session and the suffix in a report's name; no session if somebody else named the file."""
    found = _NAME.fullmatch(name)
    try:
        return (date.fromisoformat(found[1]), found[2]) if found else (None, "")
    except ValueError:
        return None, ""


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _subject(mail: Path) -> str:
    head = BytesParser(policy=SMTP).parsebytes(_head(mail), headersonly=True)
    return str(head["Subject"] or mail.stem)
