"""Make and deliver the weekly report from stored prices: read the week, fetch charts, claim, send, confirm.

The week is claimed in ``sent_reports`` before the mail leaves and confirmed afterwards, so that a run that dies in
between is noticed by the next one. A report of chosen symbols has a claim of its own. Nothing here fetches prices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import pandas as pd
from sqlalchemy import Connection

import database
import utils
from config import Settings
from domain.calendar import last_sessions, week_start
from domain.errors import ConfigError, CredentialsError, DeliveryError
from domain.models import EVERY_SYMBOL, Outcome, ReportStatus, SentReport, Undelivered
from pipeline.run import Run
from report import notices
from report.chart_config import CHART_SESSIONS
from report.charts import Chart, fetch_charts
from report.delivery import Delivery, NotAcceptedError, outbox_files, send
from report.email import build_message
from report.model import Report, Week
from reporting import build_report, chart_symbols, page
from storage.engine import transaction
from transformations import weekly_performance

CHART_SECONDS, MAIL_SECONDS = 10.0, 20.0
REPORT_SECONDS = CHART_SECONDS + MAIL_SECONDS + 10  # reserved for the report by the steps before it
DONE: tuple[ReportStatus, ...] = ("sent", "resent")  # of a report that was delivered
LONGEST_NAME = 40  # characters of chosen symbols in a report's name
UNCONFIRMED = Undelivered(reply="its run has not confirmed it", final=False)


def already_sent(run: Run, sessions: Sequence[date]) -> Outcome | None:
    """Return the outcome of a run whose week was reported to everyone before, else None.

    ``force`` and ``dry_run`` ignore it.
    """
    if run.request.force or run.request.dry_run:
        return None
    sent = _sent_report(run, sessions)
    if sent is None or sent.status not in DONE or sent.lacking(_mailed(run.context.settings)):
        return None
    return _already_sent_result(run, sessions, sent)


def send_report(run: Run, sessions: Sequence[date], shortfall: Sequence[str]) -> Outcome:
    """Build the week's report from stored rows and deliver it; a dry run only leaves a preview in the outbox.

    A week without any price is reported as such, once; when prices have arrived, the next run sends the full report.
    Recipients who were refused for now get the report from the next run of the week, with what is stored then.

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
        As :func:`report.delivery.send`, unless others have got the report before; the next run sends again.
    """
    if known := already_sent(run, sessions):  # by another run, while this one loaded the week
        return known
    request, settings = run.request, run.context.settings
    history, gaps, changes = _read_week(run, sessions)
    performance = weekly_performance(history, pd.Timestamp(sessions[0]))
    sent = _sent_report(run, sessions)
    if performance.empty and sent and not (request.force or request.dry_run):
        told = sent.status == "no_prices" and not sent.lacking(_mailed(settings))
        if told or sent.status in DONE:
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
        suffix=_name_suffix(_chosen(run)),
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
    sent = _sent_report(run, sessions)
    assert sent is not None  # noqa: S101  # it was claimed
    if not delivery.recipients:
        return _already_sent_result(run, sessions, sent)
    waiting, refused = _not_reached(run, sent)
    files = outbox_files(settings, report.name)
    return {
        **outcome,
        "recipients": list(delivery.recipients),
        "waiting": waiting,
        "refused": refused,
        "files": files,
    }


def _chosen(run: Run) -> str:
    """Name the symbols that were chosen for this run; empty if they are those of the settings.

    They are named by themselves, or by a digest if they are many.
    """
    symbols, configured = set(run.request.symbols), set(run.context.settings.symbols)
    if symbols == configured:
        return ""
    name = "-".join(sorted(symbols))
    if len(name) <= LONGEST_NAME and all(symbol.isalnum() for symbol in symbols):
        return name
    return hashlib.sha256(",".join(sorted(symbols)).encode()).hexdigest()[:16]


def _name_suffix(chosen: str) -> str:
    return f"-{chosen}" if chosen else ""


def _mailed(settings: Settings) -> tuple[str, ...]:
    """The recipients of mails; the outbox has none."""
    return () if settings.transport == "outbox" else settings.mail_to


def _sent_report(run: Run, sessions: Sequence[date]) -> SentReport | None:
    with utils.reading(run.context.engine) as stored:
        return utils.read_sent_report(stored, week_start(sessions[0]), _chosen(run)) if stored else None


def _already_sent_result(run: Run, sessions: Sequence[date], sent: SentReport) -> Outcome:
    waiting, refused = _not_reached(run, sent)
    return {
        "status": "already_sent",
        "sessions": list(sessions),
        "subject": sent.subject,
        "sent_at": str(sent.sent_at),
        "recipients": list(sent.delivered),
        "waiting": waiting,
        "refused": refused,
        "charts": [],
        "files": outbox_files(run.context.settings, sent.message_id.strip("<").partition("@")[0]),
    }


def _not_reached(run: Run, sent: SentReport) -> tuple[dict[str, str], dict[str, str]]:
    """Return who of ``MAIL_TO`` was refused for now and who for good, with the last replies, and warn of them."""
    mailed = _mailed(run.context.settings)
    waiting, refused = sent.replies(mailed, final=False), sent.replies(mailed, final=True)
    for recipient, reply in waiting.items():
        run.warnings.append(f"{recipient} was refused for now: {reply}; the next weekly_report of this week sends it")
    for recipient, reply in refused.items():
        run.warnings.append(f"{recipient} was refused: {reply}; only force tries again")
    return waiting, refused


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
    url = run.context.settings.quickchart_url
    charts, failures = fetch_charts(bars, url=url, timeout=seconds, mask=run.redact)
    symbols: dict[str, list[str]] = {}
    for failure in failures:
        start, _, reason = failure.partition(": ")
        symbols.setdefault(reason, []).append(start.removeprefix("no chart for "))
    return charts, [f"no chart for {', '.join(names)}: {reason}" for reason, names in symbols.items()]


def _deliver(run: Run, report: Report, sent: SentReport | None) -> Delivery:
    """Claim the week, send the mail to those who lack it, and record who got it.

    After a run that died in between, or whose mail was taken without an answer, the next one finds its claim. A failed
    delivery to those who lack the report is no error: the others have it.
    """
    settings, now, force = run.context.settings, run.context.now(), run.request.force
    earlier = sent if sent and sent.message_id.startswith(f"<{report.name}@") else None
    everyone = _mailed(settings)
    pending = everyone if force or not earlier else earlier.lacking(everyone) or everyone
    message = build_message(
        report,
        sender=settings.mail_from,
        recipients=settings.mail_to,
        sent_at=now,
        unsubscribe=settings.mail_unsubscribe,
        identity=earlier.message_id if earlier else None,
    )
    key = week_start(report.week.first), _chosen(run)
    known, have, left = (earlier.recipients, earlier.delivered, earlier.undelivered) if earlier else ((), (), {})
    before: tuple[ReportStatus, datetime | None] = (earlier.status, earlier.sent_at) if earlier else ("failed", None)
    with transaction(run.context.engine) as connection:
        database.claim_report(
            connection,
            *key,
            run_id=run.run_id,
            message_id=str(message["Message-ID"]),
            subject=report.subject,
            recipients=", ".join(dict.fromkeys([*known, *pending])),
            undelivered=left | dict.fromkeys(pending, UNCONFIRMED),
            claimed_at=now,
        )
        run.save(connection)
    unconfirmed = earlier is not None and earlier.status == "claimed"
    if unconfirmed:
        run.warnings.append(
            "an earlier run claimed this week and did not confirm its mail: if it arrived, this mail is a copy of it"
            f" with the same Message-ID {message['Message-ID']}"
        )

    def confirm(delivery: Delivery, status: ReportStatus, sent_at: datetime | None) -> None:
        replies = {name: why for name, why in left.items() if name not in pending}
        replies |= {name: Undelivered(reply=text, final=False) for name, text in delivery.waiting.items()}
        replies |= {name: Undelivered(reply=text, final=True) for name, text in delivery.refused.items()}
        undelivered = {name: why for name, why in replies.items() if name not in have}
        with transaction(run.context.engine) as connection:
            database.confirm_report(connection, *key, status=status, sent_at=sent_at, undelivered=undelivered)

    seconds = max(min(MAIL_SECONDS, run.context.deadline.remaining), 1.0)
    try:
        delivery = send(message, settings, recipients=pending, page=page(report), timeout=seconds)
    except NotAcceptedError as error:
        if not error.delivery.doubtful:
            confirm(error.delivery, *before)
            if have and not force:
                return error.delivery
        raise
    except (ConfigError, CredentialsError, DeliveryError) as error:  # the mail has not left
        confirm(Delivery(settings.transport, waiting=dict.fromkeys(pending, str(error))), *before)
        raise
    confirm(delivery, "no_prices" if report.empty else "resent" if unconfirmed else "sent", run.context.now())
    return delivery


def _preview(run: Run, report: Report, sent: SentReport | None) -> list[str]:
    """Write the report to the outbox under another name, whatever the mail transport, and return the files."""
    if sent and sent.status in DONE:
        lacking = ", ".join(sent.lacking(_mailed(run.context.settings)))
        then = f"the next run sends it to {lacking}" if lacking else "only force sends it again"
        run.warnings.append(f"this week's report was sent at {sent.sent_at}; {then}")
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
