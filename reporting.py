"""The weekly report: the week's figures as a subject, a page in HTML, the same in text, and a mail that holds them all.

What comes in: ``performance``, one row a symbol that traded in the week, best return first, with the columns that
:mod:`transformations` names ``PERFORMANCE``; the week, the charts that could be had, and sentences on what is missing.
What goes out: a :class:`Report`, and an ``EmailMessage`` of it. Pure: no clock, no network, no database, and the same
input makes the same bytes. This module never sends anything, and leaves to :mod:`figures` how a number is written.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

import figures
from errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Environment

    from charts import Chart

CHARTS = 10
LISTED, EACH_END = 20, 10  # symbols in the table; of a longer list, its best and its worst
FULL_WEEK = 5  # sessions
NOBODY = "stock-tracker@localhost"  # sender and recipient of a mail that only goes to the outbox

_VERBS: dict[figures.Way, str] = {"rise": "rose", "fall": "fell", "flat": "unchanged"}


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
    symbols, changes = performance["symbol"].iloc[[0, -1]], performance["return_pct"].iloc[[0, -1]]
    best, worst = (f"{figures.fixed(value, 1)}%" for value in changes)
    if len(performance) == 1:
        return f"{title}{figures.plain(symbols.iloc[0])}: {best}"
    if figures.fixed(changes.iloc[0], 2) == figures.fixed(changes.iloc[1], 2):
        return f"{title}All {len(performance)} symbols: {best}"
    return f"{title}Best: {figures.plain(symbols.iloc[0])}: {best} | Worst: {figures.plain(symbols.iloc[1])}: {worst}"


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
    long = len(performance) > LISTED
    listed = pd.concat([performance.head(EACH_END), performance.tail(EACH_END)]) if long else performance
    lines = {str(row["symbol"]): figures.line(row, week.sessions) for row in listed.to_dict("records")}
    table = list(lines.values())
    pictures = {chart.symbol: chart for chart in charts}
    graphed = dict.fromkeys([*chart_symbols(performance), *pictures])
    attached = [symbol for symbol in graphed if symbol in pictures]
    view = {
        "subject": subject(performance),
        "week": week,
        "summary": _summary(performance, week),
        "count": len(performance),
        "csv_name": f"{week.name}.csv" if long else None,
        "groups": [table[:EACH_END], table[EACH_END:]] if long else [table],
        "ends": table[:1] + table[1:][-1:],
        "graphs": [
            {"alt": figures.plain(pictures[symbol].alt), "cid": _cid(attached.index(symbol), week)}
            if symbol in pictures
            else lines[symbol]
            for symbol in graphed
        ],
        "notes": [figures.plain(note) for note in notes],
        "partial": any(line.partial for line in table),
    }
    text_view = view | {"aligned": figures.text_table(table), "each_end": EACH_END}
    return Report(
        subject=subject(performance),
        html=_templates().get_template("report.html.j2").render(view),
        text=_templates().get_template("report.txt.j2").render(text_view),
        csv=figures.csv_table(performance) if long else None,
        charts=tuple(pictures[symbol] for symbol in attached),
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

    Each picture travels once, inline by Content-ID and with a file name. A second copy as an attachment would double
    the mail, and the mail clients that draw attached pictures would show every chart twice.

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


def _summary(performance: pd.DataFrame, week: Week) -> str:
    """``5 sessions · 5 symbols: 3 rose, 2 fell``."""
    sessions = f"{week.sessions} session{'s' * (week.sessions != 1)}"
    if week.sessions < FULL_WEEK:
        sessions += ", a holiday week"
    if performance.empty:
        return sessions
    ways = Counter(figures.way(value) for value in performance["return_pct"])
    counted = [f"{ways[way]:,} {verb}" for way, verb in _VERBS.items() if ways[way]]
    return f"{sessions} · {len(performance):,} symbol{'s' * (len(performance) != 1)}: {', '.join(counted)}"
