"""Deliver a mail: by SMTP, by Amazon SES, or to the outbox, a local folder.

Transient failures are retried within the timeout, and a refused recipient does not keep the mail from the others. Any
other failure raises a ``DeliveryError`` whose message is one line and holds no password. What another service says
becomes part of a message in :func:`_said` only.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import IO, Any, Literal

from config import Settings
from domain.errors import ConfigError, CredentialsError, DeliveryError, StockTrackerError
from domain.text import clean_text
from network.connect import connect, within
from report.outbox import write_report

logger = logging.getLogger(f"stock_tracker.{__name__}")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds between attempts; each pause is twice the last
_COPIES = 2  # that a server may get which takes the mail and does not answer
_MAX_REPLIES = 65_536  # bytes of all replies of a connection
# Lost and refused connections may be transient; a wrong certificate or host name is not.
_TRANSIENT = (smtplib.SMTPServerDisconnected, ConnectionError, TimeoutError, ssl.SSLEOFError)
_READY, _ACCEPTED, _START, _UNAVAILABLE = 220, 250, 354, 421  # SMTP reply codes

Transport = Literal["outbox", "smtp", "ses"]


@dataclass(frozen=True)
class Delivery:
    """What became of a mail, per recipient.

    Attributes
    ----------
    recipients : tuple of str
        Who was accepted.
    waiting, refused : dict
        Who was refused for now, or for good, with the last reply.
    location : str, optional
        The mail's path in the outbox.
    doubtful : bool
        Nobody was accepted, but the server has taken the mail and not answered: it may have arrived.
    """

    transport: Transport
    recipients: tuple[str, ...] = ()
    waiting: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    location: str | None = None
    doubtful: bool = False


@dataclass(frozen=True)
class SesAccount:
    """What Amazon SES says of the account and of ``MAIL_FROM``.

    Attributes
    ----------
    is_limited : bool
        It is in the sandbox of SES: recipients must be verified as well.
    is_verified : bool
        The sender, or its domain.
    sent, most : float
        Mails of the last 24 hours, and how many are allowed.
    """

    is_limited: bool
    is_verified: bool
    sent: float
    most: float


class NotAcceptedError(DeliveryError):
    """No recipient was accepted; ``delivery`` has the reasons."""

    def __init__(self, message: str, delivery: Delivery) -> None:
        super().__init__(message)
        self.delivery = delivery


def send(
    message: EmailMessage,
    settings: Settings,
    *,
    recipients: Sequence[str] = (),
    page: str | None = None,
    timeout: float = 20.0,
) -> Delivery:
    """Deliver a mail by the transport of ``MAIL_TRANSPORT``.

    Parameters
    ----------
    message : email.message.EmailMessage
        The part of its ``Message-ID`` before the ``@`` names the files in the outbox.
    settings : config.Settings
        SMTP and SES take sender and recipients from ``MAIL_FROM`` and ``MAIL_TO``, not from the message.
    recipients : sequence of str
        Those of ``MAIL_TO`` to send to; all by default.
    page : str, optional
        The report as an HTML page, which the outbox keeps beside the mail.
    timeout : float
        Seconds for all attempts together, whatever the server does.

    Raises
    ------
    ConfigError
        If ``MAIL_FROM``, ``MAIL_TO`` or ``SMTP_HOST`` is missing and the transport needs it.
    CredentialsError
        If the mail server refuses the login.
    NotAcceptedError
        If no recipient was accepted.
    DeliveryError
        If the transport cannot be used.
    """
    if settings.transport == "outbox":
        return _write_outbox(message, settings.outbox, page)
    sender, everyone = _envelope(settings)
    deliver = _send_ses if settings.transport == "ses" else _send_smtp
    return deliver(message, sender, tuple(recipients) or everyone, settings, timeout)


def prepare(settings: Settings) -> None:
    """Build what the first mail would build: the client of SES, or the certificates to trust.

    Raises
    ------
    DeliveryError
        If SES has no region.
    """
    if settings.transport == "ses":
        _ses_client(settings, 1.0)  # which loads what further ones share
    elif settings.smtp_security != "none":
        _tls_context()


def log_in(settings: Settings, *, timeout: float) -> None:
    """Connect to the mail server and log in, and send nothing. Raises as :func:`send`."""
    _envelope(settings)
    deadline = time.monotonic() + timeout
    with contextlib.closing(_Connection(settings, deadline)) as connection:
        try:
            connection.open()
            with contextlib.suppress(OSError):
                connection.quit()
        except smtplib.SMTPResponseException as error:
            raise _refused_session(error, settings) from None
        except (OSError, ValueError) as error:
            reply = _failure(error, settings, late=time.monotonic() >= deadline, handed_over=False)
            raise DeliveryError(f"the mail server {_server(settings)} cannot be used: {reply.text}") from None


def read_ses_account(settings: Settings, *, timeout: float) -> SesAccount | None:
    """Read the state of the SES account; None if these AWS credentials may not. Raises as :func:`send`."""
    from botocore.exceptions import BotoCoreError, ClientError

    sender, _ = _envelope(settings)
    client = _ses_client(settings, timeout / 3)
    identities = (sender, sender.rpartition("@")[2])

    def is_verified(identity: str) -> bool:
        try:
            return bool(client.get_email_identity(EmailIdentity=identity)["VerifiedForSendingStatus"])
        except client.exceptions.NotFoundException:
            return False

    def read() -> SesAccount:
        account = client.get_account()
        quota = account["SendQuota"]
        verified = any(is_verified(identity) for identity in identities)
        limited = not account["ProductionAccessEnabled"]
        return SesAccount(limited, verified, quota["SentLast24Hours"], quota["Max24HourSend"])

    try:
        return within(timeout, read)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"):
            return None
        raise DeliveryError(f"Amazon SES refused: {_said(str(error), settings)}") from None
    except BotoCoreError as error:
        raise DeliveryError(f"Amazon SES cannot be used: {_said(str(error), settings)}") from None
    except TimeoutError:
        raise DeliveryError("Amazon SES did not answer in time") from None


def _envelope(settings: Settings) -> tuple[str, tuple[str, ...]]:
    why = f"but mail by {settings.transport.upper()} needs it"
    if settings.transport == "smtp" and not settings.smtp_host:
        raise ConfigError(f"SMTP_HOST is not set, {why}; give the mail server's name")
    if not settings.mail_from:
        raise ConfigError(f"MAIL_FROM is not set, {why}; give the sender's address")
    if not settings.mail_to:
        raise ConfigError(f"MAIL_TO is not set, {why}; give the recipients' addresses, separated by commas")
    return settings.mail_from, settings.mail_to


def _write_outbox(message: EmailMessage, folder: Path, page: str | None) -> Delivery:
    local_part = str(message["Message-ID"] or "mail").strip("<> ").partition("@")[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", local_part).lstrip(".") or "mail"
    write_report(folder, name, page=page, mail=message.as_bytes(policy=SMTP))
    recipients = tuple(address.addr_spec for address in message["To"].addresses)
    return Delivery("outbox", recipients, location=str(folder / f"{name}.eml"))


def outbox_files(settings: Settings, name: str) -> list[str]:
    """The paths of the page and the mail of that name in the outbox, if they exist."""
    files = [settings.outbox / f"{name}.html", settings.outbox / f"{name}.eml"]
    return [str(file) for file in files if settings.transport == "outbox" and file.exists()]


def _send_ses(
    message: EmailMessage, sender: str, recipients: tuple[str, ...], settings: Settings, timeout: float
) -> Delivery:
    """Send one mail to all recipients; if SES rejects it for one of them, send to each recipient separately.

    One call reaches all of them or none, so that a run that dies leaves nobody out unnoticed.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    deadline = time.monotonic() + timeout
    client = _ses_client(settings, timeout)
    batches, outcome = [recipients], _Outcome(recipients)
    while batches and time.monotonic() < deadline:
        batch = batches.pop(0)
        started = time.monotonic()
        call = functools.partial(
            client.send_email,
            FromEmailAddress=sender,
            Destination={"ToAddresses": list(batch)},
            Content={"Raw": {"Data": message.as_bytes(policy=SMTP)}},
        )
        replies: dict[str, _Reply] = {}
        try:
            within(deadline - started, call)
        except client.exceptions.MessageRejected as error:
            replies = dict.fromkeys(batch, _Reply(_said(str(error), settings), final=len(batch) == 1))
            batches += [(recipient,) for recipient in batch if len(batch) > 1]
        except (BotoCoreError, ClientError) as error:
            doubtful = isinstance(error, HTTPClientError)
            replies = dict.fromkeys(batch, _Reply(_said(str(error), settings), doubtful=doubtful))
        except TimeoutError:
            replies = dict.fromkeys(batch, _Reply("no answer to the mail (timed out)", doubtful=True))
        outcome.add(batch, replies)
        _log_attempt("Amazon SES", len(batch), len(batch) - len(replies), started)
    return outcome.delivery("ses", "Amazon SES")


def _ses_client(settings: Settings, timeout: float) -> Any:
    """Return a client whose calls take so many seconds, two attempts included."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    seconds = timeout / (2 * _COPIES)  # of an attempt: to connect, and to answer
    limits = Config(
        connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": _COPIES, "mode": "standard"}
    )
    try:
        return boto3.client("sesv2", config=limits)
    except BotoCoreError as error:
        raise DeliveryError(f"Amazon SES cannot be used: {_said(str(error), settings)}") from None


def _send_smtp(
    message: EmailMessage, sender: str, recipients: tuple[str, ...], settings: Settings, timeout: float
) -> Delivery:
    """Send the mail until every recipient is accepted or refused for good, or the time is up.

    A server that takes the mail and does not answer may have delivered it: it gets at most two copies.
    """
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    outcome, unanswered = _Outcome(recipients), 0
    while True:
        started, pending = time.monotonic(), list(outcome.waiting)
        replies = dict.fromkeys(pending, _Reply("no attempt"))
        try:
            replies = _attempt(message, sender, pending, settings, deadline)
        except (DeliveryError, CredentialsError) as error:
            if not (outcome.accepted or unanswered):
                raise
            outcome.add(pending, dict.fromkeys(pending, _Reply(str(error))))
            break
        finally:
            _log_attempt(_server(settings), len(pending), len(pending) - len(replies), started)
        outcome.add(pending, replies)
        unanswered += any(reply.doubtful for reply in replies.values())
        if not outcome.waiting or unanswered == _COPIES or time.monotonic() + pause >= deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return outcome.delivery("smtp", f"the mail server {_server(settings)}")


@dataclass(frozen=True)
class _Reply:
    """Why a recipient was not accepted; ``doubtful``: the server has the mail, and did not say what became of it."""

    text: str
    final: bool = False
    doubtful: bool = False


class _Outcome:
    """What became of a mail so far, per recipient."""

    def __init__(self, recipients: Sequence[str]) -> None:
        self.accepted: list[str] = []
        self.waiting = dict.fromkeys(recipients, "no attempt in the time that there was")
        self.refused: dict[str, str] = {}
        self.doubtful = False

    def add(self, tried: Sequence[str], replies: Mapping[str, _Reply]) -> None:
        """Add an attempt: who was tried, and the replies to those who were not accepted."""
        self.doubtful |= any(reply.doubtful for reply in replies.values())
        for recipient in tried:
            reply = replies.get(recipient)
            if reply is None or reply.final:
                del self.waiting[recipient]
            if reply is None:
                self.accepted.append(recipient)
            else:
                (self.refused if reply.final else self.waiting)[recipient] = reply.text

    def delivery(self, transport: Transport, server: str) -> Delivery:
        """Return what became of the mail; raise a NotAcceptedError if nobody was accepted."""
        delivery = Delivery(
            transport, tuple(self.accepted), self.waiting, self.refused, doubtful=self.doubtful and not self.accepted
        )
        if not self.accepted:
            said = {**self.waiting, **self.refused}
            reasons = "; ".join(
                f"{', '.join(recipient for recipient in said if said[recipient] == text)}: {text}"
                for text in dict.fromkeys(said.values())
            )
            raise NotAcceptedError(f"{server} accepted no recipient: {reasons}", delivery)
        return delivery


def _attempt(
    message: EmailMessage, sender: str, recipients: Sequence[str], settings: Settings, deadline: float
) -> dict[str, _Reply]:
    """Try once; return the replies to the recipients who were not accepted.

    Only a refusal of a recipient or of the mail's content is final; one of the session may end when settings change.
    """
    with contextlib.closing(_Connection(settings, deadline)) as connection:
        try:
            connection.open()
            refused = connection.send_message(message, sender, recipients)
            # The server has accepted the mail: a QUIT that fails must not cause a second attempt.
            with contextlib.suppress(OSError):
                connection.quit()
        except smtplib.SMTPRecipientsRefused as error:
            # After a 421 the session is over, also for recipients who had been accepted until then.
            refused = dict.fromkeys(recipients, (_UNAVAILABLE, b"the session ended")) | error.recipients
        except smtplib.SMTPResponseException as error:
            code, text = error.smtp_code, _coded(error.smtp_code, error.smtp_error, settings)
            if _is_transient(code) or isinstance(error, smtplib.SMTPDataError):
                return dict.fromkeys(recipients, _Reply(text, _is_final(code), connection.handed_over))
            raise _refused_session(error, settings) from None
        except (OSError, ValueError) as error:  # smtplib's other errors are OSErrors
            reply = _failure(error, settings, late=time.monotonic() >= deadline, handed_over=connection.handed_over)
            return dict.fromkeys(recipients, reply)
    return {
        recipient: _Reply(_coded(code, text, settings), _is_final(code)) for recipient, (code, text) in refused.items()
    }


def _refused_session(error: smtplib.SMTPResponseException, settings: Settings) -> StockTrackerError:
    server, text = _server(settings), _coded(error.smtp_code, error.smtp_error, settings)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return CredentialsError(
            f"the mail server {server} refused the login of {settings.smtp_user!r}: {text};"
            " check SMTP_USER and SMTP_PASSWORD"
        )
    return DeliveryError(f"the mail server {server} refused the mail: {text}")


def _failure(error: OSError | ValueError, settings: Settings, *, late: bool, handed_over: bool) -> _Reply:
    """Return the reply that a failed connection amounts to; raise if another attempt would fail as well."""
    server = _server(settings)
    text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    reason = "timed out" if late else _said(text, settings) or "connection lost"
    if late or handed_over or isinstance(error, _TRANSIENT):
        return _Reply(f"no {'answer to the mail' if handed_over else 'connection'} ({reason})", doubtful=handed_over)
    if isinstance(error, ssl.SSLError | smtplib.SMTPNotSupportedError):
        reason = f"{reason}; check SMTP_SECURITY ({settings.smtp_security}) and SMTP_PORT"
        raise DeliveryError(f"the mail server {server} offers no such connection: {reason}") from None
    if isinstance(error, UnicodeError):
        names = "SMTP_HOST, SMTP_USER, SMTP_PASSWORD, MAIL_FROM and MAIL_TO"
        raise DeliveryError(f"the mail server {server} accepts only ASCII; check {names}") from None
    raise DeliveryError(f"the mail server {server} cannot be used: {reason}") from None


class _Connection(smtplib.SMTP):
    """A connection to the settings' mail server that is cut at a deadline, whatever the server does until then.

    A timeout of the socket alone bounds each read: a server that sends a byte a second would never exceed it.

    Attributes
    ----------
    handed_over : bool
        Whether the server has told us to send the mail, and has not said since what became of it.
    """

    def __init__(self, settings: Settings, deadline: float) -> None:
        self._settings, self._deadline, self.handed_over = settings, deadline, False
        self._twin: socket.socket | None = None  # of the TCP connection: TLS replaces the first object, not this one
        self._timer = threading.Timer(self._remaining, self._cut)
        self._timer.daemon = True
        super().__init__(local_hostname="[127.0.0.1]", timeout=self._remaining)

    @property
    def _remaining(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)

    def open(self) -> None:
        """Connect, secure the connection and log in, as the settings say; certificates are verified."""
        settings, self._host = self._settings, self._settings.smtp_host
        self._timer.start()
        code, text = self.connect(settings.smtp_host, settings.smtp_port)
        if code != _READY:
            raise smtplib.SMTPConnectError(code, text)
        if settings.smtp_security == "starttls":
            self.starttls(context=_tls_context())
        if settings.smtp_user:
            self.login(settings.smtp_user, settings.smtp_password.get_secret_value())

    def _get_socket(self, host: str, port: int, _timeout: float) -> socket.socket:
        if "." in (name := within(self._remaining, socket.getfqdn)):
            self.local_hostname = name
        connection = connect(host, port, self._remaining)
        connection.settimeout(self._remaining)
        self._twin = connection.dup()
        if self._settings.smtp_security == "tls":
            return _tls_context().wrap_socket(connection, server_hostname=host)
        return connection

    def getreply(self) -> tuple[int, bytes]:
        """Read a reply, of which no part and no number of lines is longer than an honest server's."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("connection lost")
        if self.file is None:
            self.file = _Replies(self.sock.makefile("rb"))
        code, text = super().getreply()
        self.handed_over |= code == _START
        return code, text

    def data(self, msg: Any) -> tuple[int, bytes]:
        """Send the mail, and read what became of it."""
        code, text = super().data(msg)
        self.handed_over = not (code == _ACCEPTED or _is_transient(code) or _is_final(code))
        return code, text

    def _cut(self) -> None:
        if twin := self._twin:
            with contextlib.suppress(OSError):
                twin.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        super().close()
        self._timer.cancel()
        if self._twin:
            self._twin.close()


class _Replies:
    """The lines that a server sends, up to a size that no honest server reaches."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, _MAX_REPLIES
        self.close = file.close

    def readline(self, size: int) -> bytes:
        """Read a line; raise an OSError if it or all of them are too long."""
        line = self._file.readline(size)
        self._left -= len(line)
        if len(line) >= size or self._left < 0:
            raise OSError("its reply is too long")
        return line


def _is_transient(code: int) -> bool:
    return 400 <= code < 500


def _is_final(code: int) -> bool:
    return 500 <= code < 600


def _log_attempt(server: str, recipients: int, accepted: int, started: float) -> None:
    seconds = time.monotonic() - started
    logger.debug("mail to %s: %d of %d recipients accepted in %.0f ms", server, accepted, recipients, seconds * 1000)


def _tls_context() -> ssl.SSLContext:
    return _trusting(ssl.get_default_verify_paths())


@functools.lru_cache(maxsize=1)
def _trusting(_default: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates at the default paths, which takes 20 ms to read."""
    return ssl.create_default_context()


def _server(settings: Settings) -> str:
    return f"{settings.smtp_host}:{settings.smtp_port}"


def _coded(code: int, text: bytes | str, settings: Settings) -> str:
    """A reply with its code; smtplib's code of what is no reply is -1."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return _said(f"{code} {words}" if code >= 0 else words, settings) or "an empty reply"


def _said(text: str, settings: Settings) -> str:
    """Put what another service said in one line without secrets, which it may repeat."""
    return clean_text(text, mask=settings.redact)
