"""Check the services that a run asks: the provider with its key and plan, the mail server or SES, and the charts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from urllib.parse import urlsplit

import pandas as pd

import utils
from api_client import PolygonClient
from domain.calendar import last_sessions
from domain.errors import (
    ApiError,
    ConfigError,
    CredentialsError,
    DeliveryError,
    OutOfPlanError,
    StockTrackerError,
    TimeUpError,
)
from domain.models import EVERY_SYMBOL
from entrypoints.checks import Check, Setup, failed, ok, refused_login, skipped, try_folder, warning
from entrypoints.places import reject_outbox
from report.charts import fetch_charts
from report.delivery import log_in, read_ses_account, send
from report.email import build_test_mail

FREE_CALLS, FREE_DAYS = 5, 731  # per minute, and of history, on the provider's free plan
LISTED = "AAPL"  # a symbol to ask for where all are wanted
PROVIDER = "https://massive.com"


def check_key_and_plan(setup: Setup) -> Iterator[Check]:
    """Ask once for all that initialize would load of one symbol, which a plan may not include."""
    place = setup.place("POLYGON_API_KEY")
    if not setup.has_key:
        without = "no job runs" if setup.on_lambda else "jobs run on recorded prices only, with --sandbox"
        cure = f"put a key of {PROVIDER} (the free plan will do) into {place}"
        yield failed("key", f"POLYGON_API_KEY is not set: {without}", cure)
        yield _unknown_plan()
        return
    client = PolygonClient(
        base_url=setup.settings.polygon_base_url,
        api_key=setup.settings.polygon_api_key.get_secret_value(),
        calls_per_minute=setup.settings.polygon_calls_per_minute,
        deadline=setup.limit(),
    )
    if not client.is_ready:
        for name in ("key", "plan"):
            yield skipped(name, "this process has made all calls of this minute", "run doctor again in a minute")
        return
    try:
        yield from _ask(setup, client)
    except CredentialsError as error:
        yield failed("key", str(error), f"copy the key from {PROVIDER} again into POLYGON_API_KEY in {place}")
        yield _unknown_plan()
    except (ApiError, TimeUpError, ConfigError) as error:  # the last one of certificates that cannot be read
        silent = "check the network, a proxy, and POLYGON_BASE_URL"
        cure = "run doctor again in a minute: the provider answers, but not this" if client.provider_time else silent
        yield failed("key", str(error), cure)
        yield _unknown_plan()
    if client.provider_time:
        setup.drifts["the provider"] = client.provider_time - setup.now()


def _unknown_plan() -> Check:
    return skipped("plan", "not known without an answer", "mend the key first")


def _ask(setup: Setup, client: PolygonClient) -> Iterator[Check]:
    """Ask, and check the answer. Raises as the client does, but for what the plan does not include."""
    configured, host = setup.settings, urlsplit(setup.settings.polygon_base_url).netloc
    sessions = last_sessions(configured.history_sessions, setup.today)
    first, last = sessions[0], sessions[-1]
    symbol = LISTED if configured.symbols == (EVERY_SYMBOL,) else configured.symbols[0]
    try:
        bars = client.range_bars(symbol, first, last)
    except OutOfPlanError as error:
        yield ok("key", f"{host} accepts it")
        yield _short_plan(setup, error, first)
        return
    if bars:
        yield ok("key", f"{host} accepts it, and has {len(bars):,} bars of {symbol}")
    else:
        found = f"{host} accepts it, but has no bar of {symbol} from {first} to {last}"
        yield warning("key", found, "check the spelling in SYMBOLS: tickers are case-sensitive, as BRK.B")
    yield _check_pace(setup, f"includes all {configured.history_sessions} sessions, from {first} on")


def _short_plan(setup: Setup, error: OutOfPlanError, first: date) -> Check:
    if (setup.today - first).days < FREE_DAYS:
        return failed("plan", str(error), f"take a plan with daily bars of stocks at {PROVIDER}")
    wanted = f"all that HISTORY_SESSIONS={setup.settings.history_sessions} wants, from {first} on"
    cure = "lower HISTORY_SESSIONS (the free plan has two years, some 500 sessions), or take a longer plan"
    return warning("plan", f"it does not include {wanted}", cure)


def _check_pace(setup: Setup, reach: str) -> Check:
    """Compare the calls per minute with the plan, as far as it is known."""
    calls, days = setup.settings.polygon_calls_per_minute, _history_days(setup)
    said = f"{reach}; {calls} calls per minute" if calls else f"{reach}; calls without a limit"
    if days is not None:
        said += f"; a run has learned that it reaches back {days} days"
    if days is not None and days <= FREE_DAYS and not 0 < calls <= FREE_CALLS:
        place = setup.place("POLYGON_CALLS_PER_MINUTE")
        return warning("plan", said, f"the free plan allows 5: set POLYGON_CALLS_PER_MINUTE=5 in {place}")
    return ok("plan", said)


def _history_days(setup: Setup) -> int | None:
    if setup.engine is None:
        return None
    try:
        with utils.reading(setup.limited(setup.engine)) as stored:
            return utils.read_marks(stored).history_days if stored else None
    except StockTrackerError:  # the checks of the database say so
        return None


def check_mail(setup: Setup) -> Check:
    """Log in to the mail server, ask SES for its account, or try the outbox; send nothing."""
    configured = setup.settings
    envelope = f"from {configured.mail_from} to {', '.join(configured.mail_to)}"
    try:
        if configured.transport == "outbox":
            return _check_outbox(setup)
        if configured.transport == "ses":
            return _check_ses(setup, envelope)
        log_in(configured, timeout=setup.limit().remaining)
    except CredentialsError as error:
        return refused_login("mail", error, setup.place("SMTP_PASSWORD"))
    except ConfigError as error:
        message, _, cure = str(error).partition("; ")
        return failed("mail", message, cure or "do so in the stack's parameters")
    except DeliveryError as error:
        what = "AWS credentials and region" if configured.transport == "ses" else "SMTP_HOST, SMTP_PORT and network"
        return failed("mail", str(error), f"check {what}")
    login = f"the login of {configured.smtp_user}" if configured.smtp_user else "mail without a login"
    return ok("mail", f"{configured.smtp_host}:{configured.smtp_port} accepts {login}; {envelope}")


def _check_outbox(setup: Setup) -> Check:
    if setup.on_lambda:
        reject_outbox(setup.settings)
    folder = setup.settings.outbox
    try:
        try_folder(folder)
    except OSError as error:
        cure = f"set OUTBOX in {setup.place('OUTBOX')} to a folder that you may write to"
        return failed("mail", f"the outbox {str(folder)!r} cannot be written: {error.strerror}", cure)
    return ok("mail", f"reports go to the folder {folder.absolute()}, which can be written")


def _check_ses(setup: Setup, envelope: str) -> Check:
    account, sender = read_ses_account(setup.settings, timeout=setup.limit().remaining), setup.settings.mail_from
    if account is None:
        cure = "send a test mail (--send, or send in the payload), or allow ses:GetAccount and ses:GetEmailIdentity"
        return skipped("mail", f"Amazon SES, {envelope}: this role may send, but not read the account", cure)
    if not account.is_verified:
        return failed("mail", f"Amazon SES has not verified {sender}", f"verify {sender} or its domain in SES")
    found = f"Amazon SES has sent {account.sent:g} of {account.most:g} mails of a day; {envelope}"
    if account.is_limited:
        cure = "verify each recipient in SES, or ask AWS for production access"
        return warning("mail", f"{found}; it is in the sandbox of SES", cure)
    return ok("mail", found)


def send_test_mail(setup: Setup, mail: Check) -> Check:
    """Send a mail to ``MAIL_TO``, unless the check of mail failed."""
    name, configured = "test mail", setup.settings
    if configured.transport == "outbox":
        return skipped(name, "reports are not mailed", "set SMTP_HOST, or MAIL_TRANSPORT=ses, and MAIL_FROM, MAIL_TO")
    if mail["status"] == "failed" or configured.mail_from is None:
        return skipped(name, "mail cannot be sent", "mend mail first")
    moment = setup.now().replace(microsecond=0)
    try:
        message = build_test_mail(sender=configured.mail_from, recipients=configured.mail_to, sent_at=moment)
        delivery = send(message, configured, timeout=setup.limit().remaining)
    except StockTrackerError as error:
        return failed(name, str(error), "check MAIL_FROM and MAIL_TO")
    sent = f"sent to {', '.join(delivery.recipients)}"
    if not_reached := {**delivery.waiting, **delivery.refused}:
        refused = "; ".join(f"{recipient} was refused: {reply}" for recipient, reply in not_reached.items())
        return warning(name, f"{sent}; {refused}", "correct MAIL_TO, or try again later")
    return ok(name, sent)


def check_charts(setup: Setup) -> Check:
    """Let the chart service draw a chart of five sessions."""
    url = setup.settings.quickchart_url
    prices = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 1_000.0, "rolling_avg": 11.0}
    bars = pd.DataFrame({"symbol": "TEST", "date": pd.to_datetime(last_sessions(5, setup.today)), **prices})
    charts, warnings = fetch_charts(bars, url=url, timeout=setup.limit().remaining, mask=setup.settings.redact)
    if not charts:
        reason = warnings[0].removeprefix("no chart for TEST: ")
        cure = "check the network and QUICKCHART_URL; until then reports have no charts"
        return failed("charts", f"{url} drew nothing: {reason}", cure)
    return ok("charts", f"{url} drew a picture of {len(charts[0].png):,} bytes")
