"""The report as values: the week it is about, and its rendered parts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from report.charts import Chart


@dataclass(frozen=True)
class Week:
    """A trading week: its first and last session, and how many it has; fewer than 5 in a short week."""

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
    """A rendered report; ``csv`` is there when the table in it is only a part of the list.

    Its name is that of its mail and its files. It is the week's, but a report without any price has a name of its own:
    it is not yet the week's report, and a mailbox that has it must not take the report that follows for a copy.
    """

    name: str
    empty: bool
    subject: str
    html: str
    text: str
    csv: str | None
    charts: tuple[Chart, ...]
    week: Week


def content_id(n: int, week: Week) -> str:
    """What the HTML calls its picture number `n`, counted from 0, wherever the picture is."""
    return f"chart-{n + 1}.{week.last}@stock-tracker"
