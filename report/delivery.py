"""Deliver a mail: by SMTP, by Amazon SES, or to the outbox, a local folder.

Transient failures are retried within the timeout, and a refused recipient does not keep the mail from the others. Any
other failure raises a ``DeliveryError`` whose message is one line and holds no password.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import smtplib
import ssl
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP
from pathlib import Path

from config import Settings
from domain.errors import ConfigError, CredentialsError, DeliveryError
from domain.text import clean_text
from report.rendering import render

logger = logging.getLogger(f"stock_tracker.{__name__}")

INDEX = "index.html"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds between attempts; each pause is twice the last
_SES_ATTEMPTS = 3
_HEAD_BYTES = 65_536
# Lost and refused connections may be transient; a wrong certificate or host name is not.
_TRANSIENT = (smtplib.SMTPServerDisconnected, ConnectionError, TimeoutError, ssl.SSLEOFError)
_UNAVAILABLE, _REFUSED = 421, 554  # SMTP reply codes


@dataclass(frozen=True)
class Delivery:
    """Who a mail was accepted for, and who was refused with which reply; ``location`` is its path in the outbox."""

    transport: str
    recipients: tuple[str, ...]
    refused: dict[str, str] = field(default_factory=dict)
    location: str | None = None


def send(message: EmailMessage, settings: Settings, *, page: str | None = None, timeout: float = 20.0) -> Delivery:
    """Deliver a mail by the transport of ``MAIL_TRANSPORT``.

    Parameters
    ----------
    message : email.message.EmailMessage
        The part of its ``Message-ID`` before the ``@`` names the files in the outbox.
    settings : config.Settings
        SMTP and SES take sender and recipients from ``MAIL_FROM`` and ``MAIL_TO``, not from the message.
    page : str, optional
        The report as an HTML page, which the outbox keeps beside the mail.
    timeout : float
        Seconds for all attempts together.

    Raises
    ------
    ConfigError
        If ``MAIL_FROM``, ``MAIL_TO`` or ``SMTP_HOST`` is missing and the transport needs it.
    CredentialsError
        If the mail server refuses the login.
    DeliveryError
        If no recipient was accepted.
    """
    if settings.transport == "outbox":
        return _write_outbox(message, settings.outbox, page)
    sender, recipients = _envelope(settings)
    if settings.transport == "ses":
        return _send_ses(message, sender, recipients, timeout)
    return _send_smtp(message, sender, recipients, settings, timeout)


def _envelope(settings: Settings) -> tuple[str, tuple[str, ...]]:
    why = f"but mail by {settings.transport.upper()} needs it"
    if settings.transport == "smtp" and not settings.smtp_host:
        raise ConfigError(f"SMTP_HOST is not set, {why}; give the mail server's name")
    if not settings.mail_from:
        raise ConfigError(f"MAIL_FROM is not set, {why}; give the sender's address")
    if not settings.mail_to:
        raise ConfigError(f"MAIL_TO is not set, {why}; give the recipients' addresses, separated by commas")
    return settings.mail_from, tuple(dict.fromkeys(settings.mail_to))


def _write_outbox(message: EmailMessage, folder: Path, page: str | None) -> Delivery:
    local_part = str(message["Message-ID"] or "mail").strip("<> ").partition("@")[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", local_part).lstrip(".") or "mail"
    mail = folder / f"{name}.eml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if page is not None:
            _write(folder / f"{name}.html", page.encode())
        _write(mail, message.as_bytes(policy=SMTP))
        _write(folder / INDEX, _index(folder).encode())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DeliveryError(f"the outbox {str(folder)!r} cannot be written: {reason}; set OUTBOX to a folder") from None
    return Delivery("outbox", tuple(address.addr_spec for address in message["To"].addresses), location=str(mail))


def outbox_files(settings: Settings, name: str) -> list[str]:
    """The paths of the page and the mail of that name in the outbox, if they exist."""
    files = [settings.outbox / f"{name}.html", settings.outbox / f"{name}.eml"]
    return [str(file) for file in files if settings.transport == "outbox" and file.exists()]


def _write(path: Path, content: bytes) -> None:
    """Replace a file atomically, so that readers see the old content or the new, never part of it."""
    handle, draft = tempfile.mkstemp(prefix=".", suffix=path.suffix + "~", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(draft, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _index(folder: Path) -> str:
    """Render a page that lists the mails of a folder by name, descending: the newest report first."""
    mails = [
        {"name": mail.stem, "subject": _subject(mail), "page": mail.with_suffix(".html").exists()}
        for mail in sorted(folder.glob("*.eml"), reverse=True)
    ]
    return render("index.html.j2", mails=mails)


def _subject(mail: Path) -> str:
    """Read the subject of a mail file from its first bytes."""
    with mail.open("rb") as file:
        head = BytesParser(policy=SMTP).parsebytes(file.read(_HEAD_BYTES), headersonly=True)
    return str(head["Subject"] or mail.stem)


def _send_ses(message: EmailMessage, sender: str, recipients: tuple[str, ...], timeout: float) -> Delivery:
    """Send one mail to all recipients; if SES rejects it for one of them, send to each recipient separately."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + timeout
    seconds = timeout / _SES_ATTEMPTS
    retries = {"total_max_attempts": _SES_ATTEMPTS, "mode": "standard"}
    pending, accepted, refused = [recipients], list[str](), dict[str, str]()
    try:
        client = boto3.client("sesv2", config=Config(connect_timeout=seconds, read_timeout=seconds, retries=retries))
    except BotoCoreError as error:
        raise DeliveryError(f"Amazon SES cannot be used: {_one_line(str(error))}") from None
    while pending and time.monotonic() < deadline:
        batch = pending.pop(0)
        started = time.monotonic()
        try:
            client.send_email(
                FromEmailAddress=sender,
                Destination={"ToAddresses": list(batch)},
                Content={"Raw": {"Data": message.as_bytes(policy=SMTP)}},
            )
            accepted += batch
        except client.exceptions.MessageRejected as error:
            refused |= dict.fromkeys(batch, _one_line(str(error)))
            pending += [(recipient,) for recipient in batch if len(batch) > 1]
        except (BotoCoreError, ClientError) as error:
            refused |= dict.fromkeys(batch, _one_line(str(error)))
        _log_attempt("Amazon SES", len(batch), sum(recipient in accepted for recipient in batch), started)
    refused = {recipient: reason for recipient, reason in refused.items() if recipient not in accepted}
    if not accepted:
        reasons = "; ".join(dict.fromkeys(refused.values()))
        raise DeliveryError(f"Amazon SES accepted no recipient: {reasons}")
    return Delivery("ses", tuple(accepted), refused)


def _send_smtp(
    message: EmailMessage, sender: str, recipients: tuple[str, ...], settings: Settings, timeout: float
) -> Delivery:
    """Send the mail until every recipient is accepted or refused for good, or the time is up."""
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    pending, accepted, refused = list(recipients), list[str](), dict[str, str]()
    while True:
        started = time.monotonic()
        replies = dict.fromkeys(pending, (_REFUSED, "no attempt"))
        try:
            replies = _attempt(message, sender, pending, settings, deadline - started)
        except DeliveryError as error:
            if not accepted:
                raise
            replies = dict.fromkeys(pending, (_REFUSED, str(error)))
        finally:
            _log_attempt(_server(settings), len(pending), len(pending) - len(replies), started)
        accepted += [recipient for recipient in pending if recipient not in replies]
        refused |= {recipient: reply for recipient, (_, reply) in replies.items()}
        pending = [recipient for recipient, (code, _) in replies.items() if _is_transient(code)]
        if not pending or time.monotonic() + pause >= deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    refused = {recipient: reply for recipient, reply in refused.items() if recipient not in accepted}
    if not accepted:
        reasons = "; ".join(
            f"{', '.join(recipient for recipient in refused if refused[recipient] == reply)}: {reply}"
            for reply in dict.fromkeys(refused.values())
        )
        raise DeliveryError(f"the mail server {_server(settings)} accepted no recipient: {reasons}")
    return Delivery("smtp", tuple(accepted), refused)


def _attempt(
    message: EmailMessage, sender: str, recipients: Sequence[str], settings: Settings, seconds: float
) -> dict[str, tuple[int, str]]:
    """Try once; return reply code and text of each recipient not accepted, 4xx for all on a transient failure."""
    server = _server(settings)
    try:
        with _connected(settings, seconds) as connection:
            replies = connection.send_message(message, sender, recipients)
    except smtplib.SMTPRecipientsRefused as error:
        replies = error.recipients
    except smtplib.SMTPResponseException as error:
        reply = _reply(error.smtp_code, error.smtp_error, settings)
        if _is_transient(error.smtp_code):
            return dict.fromkeys(recipients, (error.smtp_code, reply))
        if isinstance(error, smtplib.SMTPAuthenticationError):
            raise CredentialsError(
                f"the mail server {server} refused the login of {settings.smtp_user!r}: {reply}; "
                "check SMTP_USER and SMTP_PASSWORD"
            ) from None
        raise DeliveryError(f"the mail server {server} refused the mail: {reply}") from None
    except _TRANSIENT as error:
        reason = error.strerror or str(error) or type(error).__name__
        return dict.fromkeys(recipients, (_UNAVAILABLE, f"no connection ({_one_line(reason)})"))
    except (ssl.SSLError, smtplib.SMTPNotSupportedError) as error:
        reason = f"{_one_line(str(error))}; check SMTP_SECURITY ({settings.smtp_security}) and SMTP_PORT"
        raise DeliveryError(f"the mail server {server} offers no such connection: {reason}") from None
    except UnicodeError:
        names = "SMTP_HOST, SMTP_USER, SMTP_PASSWORD, MAIL_FROM and MAIL_TO"
        raise DeliveryError(f"the mail server {server} accepts only ASCII; check {names}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(f"the mail server {server} cannot be used: {_one_line(str(error))}") from None
    return {recipient: (code, _reply(code, text, settings)) for recipient, (code, text) in replies.items()}


@contextlib.contextmanager
def _connected(settings: Settings, seconds: float) -> Iterator[smtplib.SMTP]:
    """Connect, secure the connection and log in, as the settings say; certificates are verified."""
    host, port, secure = settings.smtp_host, settings.smtp_port, ssl.create_default_context()
    connection = (
        smtplib.SMTP_SSL(host, port, timeout=seconds, context=secure)
        if settings.smtp_security == "tls"
        else smtplib.SMTP(host, port, timeout=seconds)
    )
    try:
        if settings.smtp_security == "starttls":
            connection.starttls(context=secure)
        if settings.smtp_user:
            connection.login(settings.smtp_user, settings.smtp_password.get_secret_value())
        yield connection
        # The server has accepted the mail: a QUIT that fails must not cause a second attempt.
        with contextlib.suppress(OSError):
            connection.quit()
    finally:
        connection.close()


def _is_transient(code: int) -> bool:
    return 400 <= code < 500


def _log_attempt(server: str, recipients: int, accepted: int, started: float) -> None:
    seconds = time.monotonic() - started
    logger.debug("mail to %s: %d of %d recipients accepted in %.0f ms", server, accepted, recipients, seconds * 1000)


def _server(settings: Settings) -> str:
    return f"{settings.smtp_host}:{settings.smtp_port}"


def _reply(code: int, text: bytes | str, settings: Settings) -> str:
    """Put a server's reply in one line without secrets, which it may repeat."""
    return f"{code} {clean_text(text, mask=settings.redact)}"


def _one_line(text: str) -> str:
    return clean_text(text)
