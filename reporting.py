"""The weekly report: the week's figures as a subject, a page in HTML, and the same in text and as a spreadsheet.

What comes in: ``performance``, one row a symbol that traded in the week, best return first, with the columns that
:mod:`transformations` names ``PERFORMANCE``; the week, the charts that could be had, and sentences on what is missing.
What goes out: a :class:`Report`. Pure: no clock, no network, no database, and the same input makes the same bytes. This
module leaves to :mod:`report.formatting` how a number is written, and to :mod:`report.email` the mail.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from config import MAX_CHARTS
from report import formatting
from report.model import Report, Week, content_id

if TYPE_CHECKING:
    from jinja2 import Environment

    from report.charts import Chart

LISTED, EACH_END = 20, 10  # symbols in the table; of a longer list, its best and its worst
FULL_WEEK = 5  # sessions
NO_PRICES = "-no-prices"  # at the end of a report's name

_VERBS: dict[formatting.Way, str] = {"rise": "rose", "fall": "fell", "flat": "unchanged"}


def subject(performance: pd.DataFrame) -> str:
    """The subject line.

    Examples
    --------
    >>> subject(performance)
    'Weekly Market Report - Best: NVDA: 8.5% | Worst: QUBT: -3.2%'
    """
    title = "Weekly Market Report - "
    known = performance[performance["return_pct"].notna()] if len(performance) else performance
    if known.empty:
        return f"{title}No prices"
    symbols, changes = known["symbol"].iloc[[0, -1]], known["return_pct"].iloc[[0, -1]]
    best, worst = (f"{formatting.fixed(value, 1)}%" for value in changes)
    if len(known) == 1:
        return f"{title}{formatting.plain(symbols.iloc[0])}: {best}"
    if formatting.fixed(changes.iloc[0], 2) == formatting.fixed(changes.iloc[1], 2):
        return f"{title}All {len(known)} symbols: {best}"
    first, last = (formatting.plain(symbol) for symbol in symbols)
    return f"{title}Best: {first}: {best} | Worst: {last}: {worst}"


def chart_symbols(performance: pd.DataFrame, chosen: Sequence[str] = ()) -> list[str]:
    """The symbols that get a chart, best return first.

    Those chosen, as far as they traded in the week; without a choice all of up to ten, else the best five and the worst
    five.
    """
    symbols = [str(symbol) for symbol in performance.get("symbol", [])]
    if chosen:
        return [symbol for symbol in symbols if symbol in chosen]
    return symbols if len(symbols) <= MAX_CHARTS else symbols[: MAX_CHARTS // 2] + symbols[-MAX_CHARTS // 2 :]


def build_report(
    performance: pd.DataFrame,
    week: Week,
    *,
    charts: Sequence[Chart] = (),
    notes: Sequence[str] = (),
    chosen: Sequence[str] = (),
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
    chosen : sequence of str
        The symbols to chart; default as :func:`chart_symbols` does.

    Returns
    -------
    Report
    """
    long = len(performance) > LISTED
    listed = pd.concat([performance.head(EACH_END), performance.tail(EACH_END)]) if long else performance
    pictures = {chart.symbol: chart for chart in charts}
    graphed = dict.fromkeys([*chart_symbols(performance, chosen), *pictures])
    attached = [symbol for symbol in graphed if symbol in pictures]
    shown = pd.concat([listed, performance[[symbol in graphed for symbol in performance.get("symbol", [])]]])
    lines = {str(row["symbol"]): formatting.line(row, week.sessions) for row in shown.to_dict("records")}
    table = [lines[str(symbol)] for symbol in listed.get("symbol", [])]
    known = [line for line in table if line.change != formatting.UNKNOWN]
    view = {
        "subject": subject(performance),
        "week": week,
        "summary": _summary(performance, week),
        "count": len(performance),
        "csv_name": f"{week.name}.csv" if long else None,
        "groups": [table[:EACH_END], table[EACH_END:]] if long else [table],
        "ends": known[:1] + known[1:][-1:],
        "graphs": [
            {"alt": formatting.plain(pictures[symbol].alt), "cid": content_id(attached.index(symbol), week)}
            if symbol in pictures
            else lines[symbol]
            for symbol in graphed
        ],
        "notes": [formatting.plain(note) for note in notes],
        "partial": any(line.partial for line in table),
    }
    text_view = view | {"aligned": formatting.text_table(table), "each_end": EACH_END}
    return Report(
        name=week.name + NO_PRICES * performance.empty,
        empty=performance.empty,
        subject=subject(performance),
        html=_templates().get_template("report.html.j2").render(view),
        text=_templates().get_template("report.txt.j2").render(text_view),
        csv=formatting.csv_table(performance) if long else None,
        charts=tuple(pictures[symbol] for symbol in attached),
        week=week,
    )


def page(report: Report) -> str:
    """The report as one self-contained page: pictures, and the long list if there is one, are inside."""
    html = report.html
    for n, chart in enumerate(report.charts):
        inside = base64.b64encode(chart.png).decode("ascii")
        html = html.replace(f'src="cid:{content_id(n, report.week)}"', f'src="data:image/png;base64,{inside}"')
    if report.csv is not None:
        name, inside = f"{report.week.name}.csv", base64.b64encode(report.csv.encode()).decode("ascii")
        link = f'<a download="{name}" href="data:text/csv;base64,{inside}" style="color:inherit">{name}</a>'
        html = html.replace(f"<span>{name}</span>", link)
    return html


@lru_cache(maxsize=1)
def _templates() -> Environment:
    """The template environment, made at first use: importing Jinja2 takes 80 ms that the other jobs do not need."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "report" / "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _summary(performance: pd.DataFrame, week: Week) -> str:
    """``5 sessions · 5 symbols: 3 rose, 2 fell``."""
    sessions = f"{week.sessions} session{'s' * (week.sessions != 1)}"
    if week.sessions < FULL_WEEK:
        sessions += ", a short week"
    if performance.empty:
        return sessions
    ways = Counter(formatting.way(value) for value in performance["return_pct"].dropna())
    counted = [f"{ways[way]:,} {verb}" for way, verb in _VERBS.items() if ways[way]]
    return f"{sessions} · {len(performance):,} symbol{'s' * (len(performance) != 1)}: {', '.join(counted)}"
