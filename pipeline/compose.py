"""Compose a week's report from what is stored: figures, charts, gaps and changes. Nothing is loaded or sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
from sqlalchemy import Connection

import utils
from domain.calendar import last_sessions, sessions_between, week_start
from domain.errors import DataError
from domain.models import EVERY_SYMBOL
from pipeline.context import RunContext
from report import notices
from report.chart_config import CHART_SESSIONS
from report.charts import Chart, fetch_charts
from report.model import Report, Week
from report.outbox import PREVIEW, write_page, write_report
from reporting import build_report, chart_symbols, page
from transformations import weekly_performance
from web.documents import FEW
from web.files import SINGLE

CHART_SECONDS = 10.0
LONGEST_NAME = 40  # characters of chosen symbols in a report's name


@dataclass(frozen=True)
class Draft:
    """A report to send or to keep, and warnings on what it lacks, which it also names."""

    report: Report
    warnings: list[str]


def compose_report(
    context: RunContext, symbols: Sequence[str], sessions: Sequence[date], shortfall: Sequence[str] = ()
) -> Draft:
    """Read the week and its charts' history, fetch the charts, and build the report.

    Parameters
    ----------
    sessions : sequence of datetime.date
        The week's, ascending.
    shortfall : sequence of str
        Sentences on what could not be loaded.
    """
    settings = context.settings
    history, gaps, changes = _read_week(context, symbols, sessions)
    performance = weekly_performance(history, pd.Timestamp(sessions[0]))
    charted = chart_symbols(performance, settings.chart_symbols)
    bars = history[history["symbol"].isin(charted)].sort_values(["symbol", "date"])
    charts, missing_charts = _fetch_charts(context, bars)
    missing_charts += [
        f"no chart for {s}: it has no price this week" for s in settings.chart_symbols if s not in charted
    ]
    warnings = [*shortfall, *gaps, *missing_charts]
    chosen = chosen_name(symbols, settings.symbols)
    report = build_report(
        performance,
        Week(sessions[0], sessions[-1], len(sessions)),
        charts=charts,
        notices=[*notices.closures(sessions), *warnings, *changes],
        chosen=settings.chart_symbols,
        suffix=f"-{chosen}" if chosen else "",
        links=_links(settings.site_url, symbols),
    )
    return Draft(report, warnings)


def _links(site_url: str | None, symbols: Sequence[str]) -> list[tuple[str, str]]:
    """The addresses of the market page; there is one file with everything inside if the symbols are few."""
    if not site_url:
        return []
    links = [("Market page", f"{site_url}/")]
    if len(symbols) <= FEW and EVERY_SYMBOL not in symbols:
        links.append(("The same in one file", f"{site_url}/{SINGLE}"))
    return links


def chosen_name(symbols: Sequence[str], configured: Sequence[str]) -> str:
    """Name the symbols that were chosen for a report; empty if they are those of the settings.

    They are named by themselves, or by a digest if they are many.
    """
    if set(symbols) == set(configured):
        return ""
    name = "-".join(sorted(set(symbols)))
    if len(name) <= LONGEST_NAME and all(symbol.isalnum() for symbol in symbols):
        return name
    return hashlib.sha256(",".join(sorted(set(symbols))).encode()).hexdigest()[:16]


def make_page(
    context: RunContext, symbols: Sequence[str], day: date, *, as_of: date, output: Path | None = None
) -> tuple[Path, list[str]]:
    """Write a page of any symbols and week from what is stored; load, send and record nothing.

    Parameters
    ----------
    day : datetime.date
        Any day of the week. Of the week of `as_of`, the sessions before that day are shown.
    output : pathlib.Path, optional
        Where to write the page; by default the outbox, among its previews.

    Returns
    -------
    path : pathlib.Path
    warnings : list of str
        What the page lacks.

    Raises
    ------
    DataError
        If no price of these symbols and this week is stored.
    DeliveryError
        If the page cannot be written.

    Examples
    --------
    >>> make_page(context, ["AAPL", "MSFT"], date(2013, 2, 22), as_of=date(2013, 3, 2))
    (PosixPath('outbox/weekly-report-2013-02-22-AAPL-MSFT-preview.html'), [])
    """
    monday = week_start(day)
    sessions = sessions_between(monday, min(monday + timedelta(days=6), as_of - timedelta(days=1)))
    draft = compose_report(context, symbols, sessions) if sessions else None
    if draft is None or draft.report.empty:
        raise DataError(
            f"no price of {', '.join(symbols)} is stored for the week of {monday};"
            " load it with initialize and its start and end, or choose another week"
        )
    if output is not None:
        write_page(output, page(draft.report))
        return output, draft.warnings
    preview = replace(draft.report, name=draft.report.name + PREVIEW)
    (path,) = write_report(context.settings.outbox, preview.name, page=page(preview))
    return path, draft.warnings


def _read_week(
    context: RunContext, symbols: Sequence[str], sessions: Sequence[date]
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Read the rows that the report and its charts show, and describe the gaps and the changes in them."""
    first = last_sessions(CHART_SESSIONS, sessions[-1] + timedelta(days=1))[0]
    with utils.reading(context.engine) as stored:
        if not stored:
            return utils.no_history(), [], []
        history = utils.read_history(stored, symbols, first, sessions[-1])
        gaps = _data_gaps(stored, symbols, sessions, history)
        return history, gaps, _changes(stored, symbols, sessions, first)


def _data_gaps(
    stored: Connection, symbols: Sequence[str], sessions: Sequence[date], history: pd.DataFrame
) -> list[str]:
    """Describe missing bars, rejected bars and splits of the week."""
    expected = history["symbol"].unique() if tuple(symbols) == (EVERY_SYMBOL,) else symbols
    week = history[history["date"] >= pd.Timestamp(sessions[0])]
    present = set(zip(week["symbol"], week["date"].dt.date, strict=True))
    rejected = [
        (symbol, day, reason)
        for symbol, day, reason in utils.read_rejected(stored, symbols, sessions[0], sessions[-1])
        if (symbol, day) not in present  # a later response may have held a valid bar
    ]
    return [
        *notices.absences(sessions, expected, history, [(symbol, day) for symbol, day, _ in rejected]),
        *notices.rejections(rejected),
        *notices.splits(utils.read_splits(stored, symbols, sessions[0], sessions[-1])),
    ]


def _changes(stored: Connection, symbols: Sequence[str], sessions: Sequence[date], first: date) -> list[str]:
    """Describe the changes of the week's stored bars, and what changed this week of earlier ones that a chart shows."""
    monday = week_start(sessions[0])
    week = (monday, monday + timedelta(days=6))
    changes = [
        change
        for change in utils.read_revisions(stored, symbols, first, sessions[-1])
        if change.session >= sessions[0] or week[0] <= change.as_of <= week[1]
    ]
    split = {split.symbol for split, _ in utils.read_splits(stored, symbols, sessions[0], sessions[-1])}
    return notices.revisions(changes, sessions, split)


def _fetch_charts(context: RunContext, bars: pd.DataFrame) -> tuple[list[Chart], list[str]]:
    """Fetch the charts in at most half of the time left; warnings name each reason once, with its symbols."""
    seconds = max(min(CHART_SECONDS, context.deadline.remaining / 2), 1.0)
    settings = context.settings
    charts, failures = fetch_charts(bars, url=settings.quickchart_url, timeout=seconds, mask=settings.redact)
    symbols: dict[str, list[str]] = {}
    for failure in failures:
        start, _, reason = failure.partition(": ")
        symbols.setdefault(reason, []).append(start.removeprefix("no chart for "))
    return charts, [f"no chart for {', '.join(names)}: {reason}" for reason, names in symbols.items()]
