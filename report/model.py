"""The trading week that a report covers, and the rendered report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from report.charts import Chart
from report.overview import Overview


@dataclass(frozen=True)
class Week:
    """A trading week: its first and last session, and their number, under 5 in a short week."""

    first: date
    last: date
    sessions: int

    @property
    def name(self) -> str:
        """The name of the week's mail and files: ``weekly-report-2013-03-01``."""
        return f"weekly-report-{self.last}"

    def __str__(self) -> str:
        """The week's dates in words: ``25 February – 1 March 2013``."""
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
    """A rendered report; ``csv`` is set when its tables show only part of a long symbol list.

    ``name`` names its mail and files. A report without any price (``empty``) has another name than the week, so that
    mailboxes do not take the full report that follows for a copy of it.
    """

    name: str
    empty: bool
    subject: str
    html: str
    text: str
    csv: str | None
    charts: tuple[Chart, ...]
    week: Week
    overview: Overview


def content_id(n: int, week: Week) -> str:
    """The Content-ID of chart number `n`, counted from 0, by which the HTML refers to it."""
    return f"chart-{n + 1}.{week.last}@stock-tracker"
