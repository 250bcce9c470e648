"""Make and deliver the weekly report from stored prices: read the week, fetch charts, claim, send, confirm.

The week is claimed in ``sent_reports`` before the mail leaves and confirmed afterwards, so that a run that dies in
between is noticed by the next one. Nothing here fetches prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection

import database
import utils
from domain.calendar import last_sessions, week_start
from domain.models import EVERY_SYMBOL, Outcome
from pipeline.run import Run
from report import notices
from report.chart_config import CHART_SESSIONS
from report.charts import Chart, fetch_charts
from report.delivery import Delivery, outbox_files, send
from report.email import build_message
from report.model import Report, Week
from reporting import build_report, chart_symbols, page
from storage.engine import transaction
from transformations import weekly_performance

CHART_SECONDS, MAIL_SECONDS = 10.0, 20.0
REPORT_SECONDS = CHART_SECONDS + MAIL_SECONDS + 10  # reserved for the report by the steps before it
DONE = ("sent", "resent")  # statuses in sent_reports of a report that was delivered


def already_sent(run: Run, sessions: Sequence[date]) -> Outcome | None:
    """Return the outcome of a run whose week was reported before, else None; ``force`` and ``dry_run`` ignore it."""
    if run.request.force or run.request.dry_run:
        return None
    sent = _delivery_record(run, sessions)
    return _already_sent_result(run, sessions, sent) if sent and sent["status"] in DONE else None


def send_report(run: Run, sessions: Sequence[date], shortfall: Sequence[str]) -> Outcome:
    """Build the week's report from stored rows and deliver it; a dry run only leaves a preview in the outbox.

    A week without any price is reported as such, once; when prices have arrived, the next run sends the full report.

    Parameters
    ----------
    run : Run
        Its ``warnings`` are extended.
    sessions : sequence of datetime.date
        The week's, ascending.
    shortfall : sequence of str
        Sentences on what could not be loaded.

    Raises
    ------
    ConfigError, DeliveryError
        As :func:`report.delivery.send`; the claim stays unconfirmed, and the next run sends again.
    """
    if known := already_sent(run, sessions):  # by another run, while this one loaded the week
        return known
    request, settings = run.request, run.context.settings
    history, gaps, changes = _read_week(run, sessions)
    performance = weekly_performance(history, pd.Timestamp(sessions[0]))
    sent = _delivery_record(run, sessions)
    if performance.empty and sent and sent["status"] == "no_prices" and not (request.force or request.dry_run):
        return _already_sent_result(run, sessions, sent)
    charted = chart_symbols(performance, settings.chart_symbols)
    bars = history[history["symbol"].isin(charted)].sort_values(["symbol", "date"])
    charts, missing_charts = _fetch_charts(run, bars)
    missing_charts += [
        f"no chart for {s}: it has no price this week" for s in settings.chart_symbols if s not in charted
    ]
    warnings = [*shortfall, *gaps, *missing_charts]
    run.warnings += warnings
    week = Week(sessions[0], sessions[-1], len(sessions))
    report = build_report(
        performance,
        week,
        charts=charts,
        notices=[*notices.closures(sessions), *warnings, *changes],
        chosen=settings.chart_symbols,
    )
    outcome: Outcome = {
        "status": "ok" if request.dry_run else "sent",
        "sessions": list(sessions),
        "subject": report.subject,
        "charts": [chart.symbol for chart in report.charts],
    }
    if request.dry_run:
        files = _preview(run, report, sent)
        return {**outcome, "recipients": list(settings.mail_to), "files": files}
    delivery = _deliver(run, report, sent)
    run.warnings += [f"{recipient} was refused: {reason}" for recipient, reason in delivery.refused.items()]
    files = outbox_files(settings, report.name)
    return {**outcome, "recipients": list(delivery.recipients), "files": files}


def _delivery_record(run: Run, sessions: Sequence[date]) -> Mapping[str, Any] | None:
    with utils.reading(run.context.engine) as stored:
        return utils.read_sent_report(stored, week_start(sessions[0])) if stored else None


def _already_sent_result(run: Run, sessions: Sequence[date], sent: Mapping[str, Any]) -> Outcome:
    settings = run.context.settings
    return {
        "status": "already_sent",
        "sessions": list(sessions),
        "subject": sent["subject"],
        "sent_at": str(sent["sent_at"]),
        "recipients": list(settings.mail_to),
        "charts": [],
        "files": outbox_files(settings, str(sent["message_id"]).strip("<").partition("@")[0]),
    }


def _read_week(run: Run, sessions: Sequence[date]) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Read the rows that the report and its charts show, and describe the gaps and the changes in them."""
    first = last_sessions(CHART_SESSIONS, sessions[-1] + timedelta(days=1))[0]
    with utils.reading(run.context.engine) as stored:
        if not stored:
            return utils.no_history(), [], []
        history = utils.read_history(stored, run.request.symbols, first, sessions[-1])
        gaps = _data_gaps(stored, run.request.symbols, sessions, history)
        return history, gaps, _changes(stored, run.request.symbols, sessions, first)


def _data_gaps(
    stored: Connection, symbols: tuple[str, ...], sessions: Sequence[date], history: pd.DataFrame
) -> list[str]:
    """Describe missing bars, rejected bars and splits of the week."""
    expected = history["symbol"].unique() if symbols == (EVERY_SYMBOL,) else symbols
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


def _changes(stored: Connection, symbols: tuple[str, ...], sessions: Sequence[date], first: date) -> list[str]:
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


def _fetch_charts(run: Run, bars: pd.DataFrame) -> tuple[list[Chart], list[str]]:
    """Fetch the charts in at most half of the time left; warnings name each reason once, with its symbols."""
    seconds = max(min(CHART_SECONDS, run.context.deadline.remaining / 2), 1.0)
    charts, failures = fetch_charts(bars, url=run.context.settings.quickchart_url, timeout=seconds)
    symbols: dict[str, list[str]] = {}
    for failure in failures:
        start, _, reason = failure.partition(": ")
        symbols.setdefault(reason, []).append(start.removeprefix("no chart for "))
    return charts, [f"no chart for {', '.join(names)}: {reason}" for reason, names in symbols.items()]


def _deliver(run: Run, report: Report, sent: Mapping[str, Any] | None) -> Delivery:
    """Claim the week, send the mail, confirm; after a run that died in between, the next one finds its claim."""
    settings, now, week = run.context.settings, run.context.now(), week_start(report.week.first)
    same = sent is not None and str(sent["message_id"]).startswith(f"<{report.name}@")
    message = build_message(
        report,
        sender=settings.mail_from,
        recipients=settings.mail_to,
        sent_at=now,
        unsubscribe=settings.mail_unsubscribe,
        identity=sent["message_id"] if sent and same else None,
    )
    with transaction(run.context.engine) as connection:
        database.claim_report(
            connection,
            week,
            run_id=run.run_id,
            message_id=str(message["Message-ID"]),
            subject=report.subject,
            recipients=", ".join(settings.mail_to),
            claimed_at=now,
        )
        run.save(connection)
    unconfirmed = same and sent is not None and sent["status"] == "claimed"
    if unconfirmed:
        run.warnings.append(
            "an earlier run claimed this week and did not confirm its mail: if it arrived, this mail is a copy of it"
            f" with the same Message-ID {message['Message-ID']}"
        )
    seconds = max(min(MAIL_SECONDS, run.context.deadline.remaining), 1.0)
    delivery = send(message, settings, page=page(report), timeout=seconds)
    status = "no_prices" if report.empty else "resent" if unconfirmed else "sent"
    with transaction(run.context.engine) as connection:
        database.confirm_report(connection, week, run.context.now(), status)
    return delivery


def _preview(run: Run, report: Report, sent: Mapping[str, Any] | None) -> list[str]:
    """Write the report to the outbox under another name, whatever the mail transport, and return the files."""
    if sent and sent["status"] in DONE:
        run.warnings.append(f"this week's report was sent at {sent['sent_at']}; only force sends it again")
    settings = run.context.settings.model_copy(update={"mail_transport": "outbox"})
    preview = replace(report, name=f"{report.name}-preview")
    message = build_message(
        preview,
        sender=settings.mail_from,
        recipients=settings.mail_to,
        sent_at=run.context.now(),
        unsubscribe=settings.mail_unsubscribe,
    )
    send(message, settings, page=page(preview))
    return outbox_files(settings, preview.name)
