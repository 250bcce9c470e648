"""Parse a report's mail: the figures shown in its HTML, its text and its CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

Figures = dict[str, dict[str, str]]

IN_TEXT = ("close", "change", "range", "low", "high", "volatility", "volume")


def read_mail(path: str | Path) -> EmailMessage:
    """Read a mail file; a defect is an error."""
    return message_from_bytes(Path(path).read_bytes(), policy=policy.strict)


def body(mail: EmailMessage, kind: str) -> str:
    """The part of type "plain" or "html"."""
    return str(mail.get_body((kind,)).get_content()).replace("\r\n", "\n")


def words(markup: str) -> str:
    """The visible text of HTML, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def text_figures(text: str) -> Figures:
    """The figures per symbol in the table of the plain text, in its order."""
    found = {}
    for line in text.split("\n"):
        cells = [cell for cell in line.split() if cell not in {"▲", "▼", "*"}]
        if len(cells) == 9 and cells[3].endswith("%"):
            found[cells[0]] = dict(zip(IN_TEXT, cells[1:-1], strict=True))
    return found


def html_figures(page: str) -> Figures:
    """The figures per symbol in the tables of the HTML, in their order."""
    found = {}
    for row in re.findall(r"<tr>\n(<td class=\"line\".*?)</tr>", page, re.DOTALL):
        symbol, _, close, ends, change, spread, volatility, volume = (
            words(cell) for cell in re.findall(r"<div[^>]*>(.*?)</div>", row)
        )
        low, high = ends.split(" – ")
        figures = (close, change.lstrip("▲▼ "), spread, low, high, volatility, volume)
        found[symbol.rstrip(" *")] = dict(zip(IN_TEXT, figures, strict=True))
    return found


def html_ends(page: str) -> list[tuple[str, str, str]]:
    """Symbol, change and close on the cards of the best and the worst symbol."""
    cards = re.findall(r'<td class="\w+-edge".*?</td>', page, re.DOTALL)
    found = [re.fullmatch(r"\S+ (\S+) (?:[▲▼] )?(\S+) closed at (\S+)", words(card)) for card in cards]
    return [(match[1], match[2], match[3]) for match in found]


def spreadsheet(mail: EmailMessage) -> list[dict[str, str]]:
    """The rows of the attached CSV."""
    (attached,) = [part for part in mail.walk() if part.get_content_type() == "text/csv"]
    return list(csv.DictReader(io.StringIO(attached.get_content())))
