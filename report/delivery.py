"""Handing one mail over: to an SMTP server, to Amazon SES, or into a folder that people open.

What comes in: a finished ``EmailMessage``, the settings, and how many seconds it may take. What goes out: a
:class:`Delivery` that says who got it. A temporary failure is tried again within the time, some refused recipients do
not keep it from the others, and everything else is a ``DeliveryError`` of one line without a password.
This module knows nothing about stocks, and never changes a message.
"""

from __future__ import annotations

import contextlib
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

INDEX = "index.html"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds between attempts; each is twice the last
_SES_ATTEMPTS = 3
_HEAD_BYTES = 65_536
# A server that cannot be talked to now may be in a moment; a certificate or a name that is wrong stays wrong.
_PASSING = (smtplib.SMTPServerDisconnected, ConnectionError, TimeoutError, ssl.SSLEOFError)
_UNAVAILABLE, _REFUSED = 421, 554  # as a server would say it


@dataclass(frozen=True)
class Delivery:
    """Who got the mail, and how; ``location`` is the mail's path in the outbox."""

    transport: str
    recipients: tuple[str, ...]
    refused: dict[str, str] = field(default_factory=dict)
    location: str | None = None


def send(message: EmailMessage, settings: Settings, *, page: str | None = None, timeout: float = 20.0) -> Delivery:
    """Hand a mail over as ``MAIL_TRANSPORT`` says.

    Parameters
    ----------
    message : email.message.EmailMessage
        With ``Message-ID``; the part before its ``@`` names the files in the outbox.
    settings : config.Settings
        ``MAIL_FROM`` and ``MAIL_TO`` are the envelope of SMTP and SES.
    page : str, optional
        The same as a page for browsers; the outbox keeps it beside the mail.
    timeout : float
        Seconds for all attempts together.

    Returns
    -------
    Delivery

    Raises
    ------
    ConfigError
        If SMTP or SES is asked for and ``MAIL_FROM``, ``MAIL_TO`` or ``SMTP_HOST`` is missing.
    CredentialsError
        If the mail server refuses the login.
    DeliveryError
        If no recipient's mail was taken.
    """
    if settings.transport == "outbox":
        return _to_outbox(message, settings.outbox, page)
    sender, recipients = _envelope(settings)
    if settings.transport == "ses":
        return _by_ses(message, sender, recipients, timeout)
    return _by_smtp(message, sender, recipients, settings, timeout)


def _envelope(settings: Settings) -> tuple[str, tuple[str, ...]]:
    via = f"which mail by {settings.transport.upper()} needs"
    if settings.transport == "smtp" and not settings.smtp_host:
        raise ConfigError(f"SMTP_HOST is not set, {via}; give the mail server's name")
    if not settings.mail_from:
        raise ConfigError(f"MAIL_FROM is not set, {via}; give the sender's address")
    if not settings.mail_to:
        raise ConfigError(f"MAIL_TO is not set, {via}; give one address, or several with commas between")
    return settings.mail_from, tuple(dict.fromkeys(settings.mail_to))


def _to_outbox(message: EmailMessage, folder: Path, page: str | None) -> Delivery:
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
    """The page and the mail of that name in the outbox, if they are there."""
    files = [settings.outbox / f"{name}.html", settings.outbox / f"{name}.eml"]
    return [str(file) for file in files if settings.transport == "outbox" and file.exists()]


def _write(path: Path, content: bytes) -> None:
    """Put a whole file in place: whoever opens it sees the old one or the new one, never half of one."""
    handle, draft = tempfile.mkstemp(prefix=".", suffix=path.suffix + "~", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(draft, 0o644)  # a temporary file is readable by its owner only; a report is for others too
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _index(folder: Path) -> str:
    """A page that lists the mails of a folder, the last name first, which is the newest where names end in a date."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=templates, autoescape=True, undefined=StrictUndefined)
    mails = [
        {"name": mail.stem, "subject": _subject(mail), "page": mail.with_suffix(".html").exists()}
        for mail in sorted(folder.glob("*.eml"), reverse=True)
    ]
    return environment.get_template("index.html.j2").render(mails=mails)


def _subject(mail: Path) -> str:
    """The subject of a mail on disk, of which only the beginning is read."""
    with mail.open("rb") as file:
        head = BytesParser(policy=SMTP).parsebytes(file.read(_HEAD_BYTES), headersonly=True)
    return str(head["Subject"] or mail.stem)


def _by_ses(message: EmailMessage, sender: str, recipients: tuple[str, ...], timeout: float) -> Delivery:
    """One mail for all; SES rejects it whole for one bad recipient, and then each is offered a mail of their own."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + timeout
    seconds = timeout / _SES_ATTEMPTS
    retries = {"total_max_attempts": _SES_ATTEMPTS, "mode": "standard"}
    waiting, taken, refused = [recipients], list[str](), dict[str, str]()
    try:
        client = boto3.client("sesv2", config=Config(connect_timeout=seconds, read_timeout=seconds, retries=retries))
    except BotoCoreError as error:
        raise DeliveryError(f"Amazon SES cannot be used: {_one_line(str(error))}") from None
    while waiting and time.monotonic() < deadline:
        some = waiting.pop(0)
        try:
            client.send_email(
                FromEmailAddress=sender,
                Destination={"ToAddresses": list(some)},
                Content={"Raw": {"Data": message.as_bytes(policy=SMTP)}},
            )
            taken += some
        except client.exceptions.MessageRejected as error:
            refused |= dict.fromkeys(some, _one_line(str(error)))
            waiting += [(recipient,) for recipient in some if len(some) > 1]
        except (BotoCoreError, ClientError) as error:
            refused |= dict.fromkeys(some, _one_line(str(error)))
    refused = {recipient: reason for recipient, reason in refused.items() if recipient not in taken}
    if not taken:
        reasons = "; ".join(dict.fromkeys(refused.values()))
        raise DeliveryError(f"Amazon SES took the mail for nobody: {reasons}")
    return Delivery("ses", tuple(taken), refused)


def _by_smtp(
    message: EmailMessage, sender: str, recipients: tuple[str, ...], settings: Settings, timeout: float
) -> Delivery:
    """Offer the mail until each recipient is taken or refused for good, or time is up."""
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    waiting, taken, refused = list(recipients), list[str](), dict[str, str]()
    while True:
        try:
            replies = _offer(message, sender, waiting, settings, deadline - time.monotonic())
        except DeliveryError as error:
            if not taken:
                raise
            replies = dict.fromkeys(waiting, (_REFUSED, str(error)))
        taken += [recipient for recipient in waiting if recipient not in replies]
        refused |= {recipient: reply for recipient, (_, reply) in replies.items()}
        waiting = [recipient for recipient, (code, _) in replies.items() if _is_passing(code)]
        if not waiting or time.monotonic() + pause >= deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    refused = {recipient: reply for recipient, reply in refused.items() if recipient not in taken}
    if not taken:
        reasons = "; ".join(
            f"{', '.join(recipient for recipient in refused if refused[recipient] == reply)}: {reply}"
            for reply in dict.fromkeys(refused.values())
        )
        raise DeliveryError(f"the mail server {_server(settings)} took the mail for nobody: {reasons}")
    return Delivery("smtp", tuple(taken), refused)


def _offer(
    message: EmailMessage, sender: str, recipients: Sequence[str], settings: Settings, seconds: float
) -> dict[str, tuple[int, str]]:
    """One attempt: code and text for each recipient not taken; a failure that may pass is a 4xx for all of them."""
    server = _server(settings)
    try:
        with _connected(settings, seconds) as connection:
            replies = connection.send_message(message, sender, recipients)
    except smtplib.SMTPRecipientsRefused as error:
        replies = error.recipients
    except smtplib.SMTPResponseException as error:
        reply = _reply(error.smtp_code, error.smtp_error, settings)
        if _is_passing(error.smtp_code):
            return dict.fromkeys(recipients, (error.smtp_code, reply))
        if isinstance(error, smtplib.SMTPAuthenticationError):
            raise CredentialsError(
                f"the mail server {server} refused the login of {settings.smtp_user!r}: {reply}; "
                "check SMTP_USER and SMTP_PASSWORD"
            ) from None
        raise DeliveryError(f"the mail server {server} refused the mail: {reply}") from None
    except _PASSING as error:
        reason = error.strerror or str(error) or type(error).__name__
        return dict.fromkeys(recipients, (_UNAVAILABLE, f"no connection ({_one_line(reason)})"))
    except (ssl.SSLError, smtplib.SMTPNotSupportedError) as error:
        reason = f"{_one_line(str(error))}; check SMTP_SECURITY ({settings.smtp_security}) and SMTP_PORT"
        raise DeliveryError(f"the mail server {server} offers no such connection: {reason}") from None
    except UnicodeError:
        names = "SMTP_HOST, SMTP_USER, SMTP_PASSWORD, MAIL_FROM and MAIL_TO"
        raise DeliveryError(f"the mail server {server} takes only ASCII; check {names}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(f"the mail server {server} cannot be used: {_one_line(str(error))}") from None
    return {recipient: (code, _reply(code, text, settings)) for recipient, (code, text) in replies.items()}


@contextlib.contextmanager
def _connected(settings: Settings, seconds: float) -> Iterator[smtplib.SMTP]:
    """A connection that is secured and logged in as the settings say; certificates are verified."""
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
        # The mail is taken by now: a farewell that fails must not make it look otherwise, and be sent again.
        with contextlib.suppress(OSError):
            connection.quit()
    finally:
        connection.close()


def _is_passing(code: int) -> bool:
    return 400 <= code < 500


def _server(settings: Settings) -> str:
    return f"{settings.smtp_host}:{settings.smtp_port}"


def _reply(code: int, text: bytes | str, settings: Settings) -> str:
    """A server's reply in one line, without the password should it repeat that."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    password = settings.smtp_password.get_secret_value()
    return _one_line(f"{code} {words.replace(password, '***') if password else words}")


def _one_line(text: str) -> str:
    return " ".join(text.split())
