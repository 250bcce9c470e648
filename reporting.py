"""The weekly report: from the week's figures to a subject, a page in HTML, the same in text, and a mail that holds them.

What comes in: ``performance``, one row a symbol that traded in the week, best return first, with columns ``symbol`` (str),
``sessions`` (int), ``open, close, high, low`` (dollars), ``return_pct, range_pct, avg_volatility`` (percent, unrounded),
``volume, volume_ratio`` (float; the ratio may be NaN) and ``closes`` (list of up to 30 floats, oldest first); the week,
the charts that could be had, and sentences on what is missing. What goes out: a :class:`Report` and an ``EmailMessage``.
Pure: no clock, no network, no database, and the same input makes the same bytes; this module never sends anything.
"""

from __future__ import annotations

import base64
import csv
import io
import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Environment

    from charts import Chart

CHARTS = 10
LISTED, EACH_END = 20, 10  # symbols in the table; of a longer list, its best and its worst
NOBODY = "stock-tracker@localhost"  # sender and recipient of a mail that only goes to the outbox
UNKNOWN = "–"

_TREND_CELLS = 12
_BARS = "▁▂▃▄▅▆▇█"
_TEXT_WIDTH = 78
_CSV_DIGITS = {"return_pct": 2, "range_pct": 2, "avg_volatility": 2, "volume": 0, "volume_ratio": 2}


@dataclass(frozen=True)
class Week:
    """A trading week: its first and last session, and how many it has; fewer than 5 in a holiday week."""

    first: date
    last: date
    sessions: int

    @property
    def name(self) -> str:
        """What its mail and files are called: ``weekly-report-2013-03-01``."""
        return f"weekly-report-{self.last}"

    def __str__(self) -> str:
        """The dates as a reader says them: ``25 February – 1 March 2013``."""
        first, last = self.first, self.last
        if first == last:
            start = ""
        elif first.year != last.year:
            start = f"{first.day} {first:%B} {first.year} – "
        else:
            start = f"{first.day} – " if first.month == last.month else f"{first.day} {first:%B} – "
        return f"{start}{last.day} {last:%B} {last.year}"


@dataclass(frozen=True)
class Report:
    """A rendered report; ``csv`` is there when the table in it is only a part of the list."""

    subject: str
    html: str
    text: str
    csv: str | None
    charts: tuple[Chart, ...]
    week: Week


@dataclass(frozen=True)
class _Line:
    """One symbol as it is shown, every figure already text."""

    symbol: str
    partial: bool
    way: str  # rise, fall, flat
    close: str
    change: str
    spread: str
    high: str
    low: str
    volatility: str
    volume: str
    trend: str
    history: str
    history_words: str


def subject(performance: pd.DataFrame) -> str:
    """The subject line.

    Examples
    --------
    >>> subject(performance)
    'Weekly Market Report - Best: NVDA: 8.5% | Worst: QUBT: -3.2%'
    """
    title = "Weekly Market Report - "
    if performance.empty:
        return f"{title}No prices"
    best, worst = ((_plain(row["symbol"]), row["return_pct"]) for row in _ends(performance))
    shown = [f"{symbol}: {_fixed(change, 1)}%" for symbol, change in (best, worst)]
    if len(performance) == 1:
        return title + shown[0]
    if _fixed(best[1], 2) == _fixed(worst[1], 2):
        return f"{title}All {len(performance)} symbols: {_fixed(best[1], 1)}%"
    return f"{title}Best: {shown[0]} | Worst: {shown[1]}"


def chart_symbols(performance: pd.DataFrame) -> list[str]:
    """The symbols that get a chart: all of up to ten, else the best five and the worst five."""
    symbols = [str(symbol) for symbol in performance.get("symbol", [])]
    return symbols if len(symbols) <= CHARTS else symbols[: CHARTS // 2] + symbols[-CHARTS // 2 :]


def build_report(
    performance: pd.DataFrame, week: Week, *, charts: Sequence[Chart] = (), notes: Sequence[str] = ()
) -> Report:
    """Render the week.

    Parameters
    ----------
    performance : pandas.DataFrame
        As the module describes it; may be empty.
    week : Week
    charts : sequence of Chart
        Any symbols'; one of :func:`chart_symbols` that is not among them is shown by a small trend instead.
    notes : sequence of str
        Sentences on what is missing or stale; plain text.

    Returns
    -------
    Report
    """
    listed = performance
    if len(performance) > LISTED:
        listed = pd.concat([performance.head(EACH_END), performance.tail(EACH_END)])
    lines = {str(row["symbol"]): _line(row, week) for row in listed.to_dict("records")}
    pictures = {chart.symbol: chart for chart in charts}
    graphs = [
        (pictures.get(symbol), lines.get(symbol))
        for symbol in dict.fromkeys([*chart_symbols(performance), *pictures])
        if symbol in lines or symbol in pictures
    ]
    shown = tuple(chart for chart, _ in graphs if chart)
    table = list(lines.values())
    view: dict[str, Any] = {
        "subject": subject(performance),
        "week": week,
        "lead": _lead(performance, week),
        "count": len(performance),
        "left_out": len(performance) - len(table),
        "csv_name": f"{week.name}.csv",
        "groups": [table[:EACH_END], table[EACH_END:]] if len(performance) > LISTED else [table],
        "ends": table if len(table) < 2 else [table[0], table[-1]],
        "graphs": [(chart, line, chart and _cid(shown.index(chart), week)) for chart, line in graphs],
        "notes": [_plain(note) for note in notes],
        "partial": any(line.partial for line in table),
    }
    return Report(
        subject=view["subject"],
        html=_templates().get_template("report.html.j2").render(view),
        text=_templates().get_template("report.txt.j2").render(view, aligned=_aligned(view["groups"])),
        csv=_csv(performance) if view["left_out"] else None,
        charts=shown,
        week=week,
    )


def page(report: Report) -> str:
    """The report as one self-contained page: pictures, and the long list if there is one, are inside."""
    html = report.html
    for n, chart in enumerate(report.charts):
        inside = base64.b64encode(chart.png).decode("ascii")
        html = html.replace(f'src="cid:{_cid(n, report.week)}"', f'src="data:image/png;base64,{inside}"')
    if report.csv is not None:
        name, inside = f"{report.week.name}.csv", base64.b64encode(report.csv.encode()).decode("ascii")
        link = f'<a download="{name}" href="data:text/csv;base64,{inside}" style="color:inherit">{name}</a>'
        html = html.replace(f"<span>{name}</span>", link)
    return html


def message_id(week: Week, sender: str | None) -> str:
    """The ``Message-ID`` of a week's report: the same however often it is sent, so that mailboxes keep one."""
    return f"<{week.name}@{(sender or NOBODY).rpartition('@')[2]}>"


def build_message(report: Report, *, sender: str | None, recipients: Sequence[str], sent_at: datetime) -> EmailMessage:
    """The mail: text and HTML side by side, the pictures inside the HTML's part.

    Each picture travels once, named and inline, by Content-ID. A second copy as an attachment would double the mail, and
    mail clients that draw attached pictures would show every chart twice.

    Parameters
    ----------
    report : Report
    sender : str or None
        An address; without one, and without recipients, a placeholder stands in, for the outbox.
    recipients : sequence of str
    sent_at : datetime.datetime
        Aware; becomes the ``Date``.

    Returns
    -------
    email.message.EmailMessage
        7-bit clean, with lines under 998 bytes and CRLF.

    Raises
    ------
    ConfigError
        If an address is malformed.
    """
    message = EmailMessage(policy=policy.SMTP)
    message["Subject"] = report.subject
    message["From"] = _address(sender or NOBODY, "MAIL_FROM", "Stock Tracker")
    message["To"] = [_address(recipient, "MAIL_TO") for recipient in recipients or (NOBODY,)]
    message["Date"] = sent_at
    message["Message-ID"] = message_id(report.week, sender)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(report.text, cte="quoted-printable")
    message.add_alternative(report.html, subtype="html", cte="quoted-printable")
    html = message.get_body(("html",))
    assert isinstance(html, EmailMessage)  # noqa: S101  # it was added one line above
    for n, chart in enumerate(report.charts):
        name = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "_" for c in chart.symbol)
        cid = f"<{_cid(n, report.week)}>"
        html.add_related(chart.png, "image", "png", cid=cid, filename=f"{name}.png", disposition="inline")
    if report.csv is not None:
        message.add_attachment(
            report.csv.encode(), "text", "csv", filename=f"{report.week.name}.csv", params={"charset": "utf-8"}
        )
    for n, part in enumerate(part for part in message.walk() if part.is_multipart()):
        part.set_boundary(f"=_{report.week.name}_{n}")  # "=_" occurs in no quoted-printable or base64 line
    return message


def _address(text: str, setting: str, name: str = "") -> Address:
    try:
        return Address(name, addr_spec=text)
    except (ValueError, IndexError, MessageError):
        raise ConfigError(f"{setting} has {text!r}, which is no e-mail address; valid is name@example.com") from None


def _cid(n: int, week: Week) -> str:
    return f"chart-{n + 1}.{week.last}@stock-tracker"


@lru_cache(maxsize=1)
def _templates() -> Environment:
    """The template environment, made at first use: importing Jinja2 takes 80 ms that the other jobs do not need."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _ends(performance: pd.DataFrame) -> list[dict[str, Any]]:
    """The best and the worst."""
    return [{str(key): value for key, value in row.items()} for row in performance.iloc[[0, -1]].to_dict("records")]
