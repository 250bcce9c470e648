"""Build the weekly report: a subject, a page in HTML, the same as plain text, and a CSV of a long symbol list.

``performance`` is a DataFrame with one row per symbol that traded in the week, best return first, with the columns of
:data:`transformations.PERFORMANCE`. Pure: no clock, no network, no database, and the same input gives the same bytes.
:mod:`report.formatting` formats the numbers, :mod:`report.email` builds the mail.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from config import MAX_CHARTS
from report import formatting
from report.model import Report, Week, content_id
from report.overview import Overview, end, meta
from report.rendering import render

if TYPE_CHECKING:
    from report.charts import Chart

LISTED, EACH_END = 20, 10  # symbols in the table; a longer list shows this many of its best and of its worst
FULL_WEEK = 5  # sessions
NO_PRICES = "-no-prices"  # suffix of a report's name

_VERBS: dict[formatting.Direction, str] = {"rise": "rose", "fall": "fell", "flat": "unchanged"}


def subject(performance: pd.DataFrame) -> str:
    """Write the subject line.

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
    best, worst = (f"{formatting.decimal_text(value, 1)}%" for value in changes)
    if len(known) == 1:
        return f"{title}{formatting.single_line(symbols.iloc[0])}: {best}"
    if formatting.decimal_text(changes.iloc[0], 2) == formatting.decimal_text(changes.iloc[1], 2):
        return f"{title}All {len(known)} symbols: {best}"
    first, last = (formatting.single_line(symbol) for symbol in symbols)
    return f"{title}Best: {first}: {best} | Worst: {last}: {worst}"


def chart_symbols(performance: pd.DataFrame, chosen: Sequence[str] = ()) -> list[str]:
    """Select the symbols that get a chart, best return first.

    These are the `chosen` ones that traded in the week. By default all symbols of a list of up to ten, and the best
    five and the worst five of a longer one.
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
    notices: Sequence[str] = (),
    chosen: Sequence[str] = (),
    suffix: str = "",
    links: Sequence[tuple[str, str]] = (),
) -> Report:
    """Render the report of a week.

    Parameters
    ----------
    performance : pandas.DataFrame
        As described above; may be empty.
    charts : sequence of Chart
        A symbol of :func:`chart_symbols` without a chart here gets a small trend of its closes instead.
    notices : sequence of str
        Sentences on missing, rejected or split prices, as plain text.
    chosen : sequence of str
        The symbols to chart, as for :func:`chart_symbols`.
    suffix : str
        Tells the name of a report of chosen symbols from that of the week.
    links : sequence of (str, str)
        Texts and addresses for the report's end.
    """
    long = len(performance) > LISTED
    listed = pd.concat([performance.head(EACH_END), performance.tail(EACH_END)]) if long else performance
    chart_of = {chart.symbol: chart for chart in charts}
    charted = dict.fromkeys([*chart_symbols(performance, chosen), *chart_of])
    attached = [symbol for symbol in charted if symbol in chart_of]
    shown = pd.concat([listed, performance[[symbol in charted for symbol in performance.get("symbol", [])]]])
    figures = {str(record["symbol"]): record for record in shown.to_dict("records")}
    rows = {symbol: formatting.table_row(record, week.sessions) for symbol, record in figures.items()}
    table = {str(symbol): rows[str(symbol)] for symbol in listed.get("symbol", [])}
    known = [symbol for symbol, row in table.items() if row.change != formatting.UNKNOWN]
    ends = known[:1] + known[1:][-1:]
    lines = list(table.values())
    summary = _summary(performance, week)
    view = {
        "subject": subject(performance),
        "week": week,
        "summary": summary,
        "count": len(performance),
        "csv_name": f"{week.name}.csv" if long else None,
        "groups": [lines[:EACH_END], lines[EACH_END:]] if long else [lines],
        "ends": [rows[symbol] for symbol in ends],
        "graphs": [
            {"alt": formatting.single_line(chart_of[symbol].alt), "cid": content_id(attached.index(symbol), week)}
            if symbol in chart_of
            else rows[symbol]
            for symbol in charted
        ],
        "notices": [formatting.single_line(notice) for notice in notices],
        "links": links,
        "partial": any(row.partial for row in lines),
    }
    return Report(
        name=week.name + suffix + NO_PRICES * performance.empty,
        empty=performance.empty,
        subject=subject(performance),
        html=render("report.html.j2", **view),
        text=render("report.txt.j2", **view, lines=formatting.text_table(lines), each_end=EACH_END),
        csv=formatting.csv_table(performance) if long else None,
        charts=tuple(chart_of[symbol] for symbol in attached),
        week=week,
        overview=Overview(str(week), summary, tuple(end(rows[symbol], figures[symbol]) for symbol in ends)),
    )


def page(report: Report) -> str:
    """Make the report one self-contained page for a window of any width, with its charts and its CSV embedded."""
    head = f"{meta(report.overview)}\n<style>\n{render('page.css.j2')}</style>\n</head>"
    html = report.html.replace("</head>", head, 1)
    for n, chart in enumerate(report.charts):
        encoded = base64.b64encode(chart.png).decode("ascii")
        html = html.replace(f'src="cid:{content_id(n, report.week)}"', f'src="data:image/png;base64,{encoded}"')
    if report.csv is not None:
        name, encoded = f"{report.week.name}.csv", base64.b64encode(report.csv.encode()).decode("ascii")
        link = f'<a download="{name}" href="data:text/csv;base64,{encoded}" style="color:inherit">{name}</a>'
        html = html.replace(f"<span>{name}</span>", link)
    return html


def _summary(performance: pd.DataFrame, week: Week) -> str:
    """Summarize the week: ``5 sessions · 5 symbols: 3 rose, 2 fell``."""
    sessions = f"{week.sessions} session{'s' * (week.sessions != 1)}"
    if week.sessions < FULL_WEEK:
        sessions += ", a short week"
    if performance.empty:
        return sessions
    counts = Counter(formatting.direction(value) for value in performance["return_pct"].dropna())
    moves = [f"{counts[direction]:,} {verb}" for direction, verb in _VERBS.items() if counts[direction]]
    return f"{sessions} · {len(performance):,} symbol{'s' * (len(performance) != 1)}: {', '.join(moves)}"
