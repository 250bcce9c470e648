"""Build the report's mail: headers, text and HTML as alternatives, charts inside the HTML part.

Pure: the same input gives the same bytes. :mod:`report.delivery` sends the mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage

from domain.errors import ConfigError
from report.model import Report, content_id

PLACEHOLDER = "stock-tracker@localhost"  # sender and recipient of a mail that only goes to the outbox


def message_id(name: str, sender: str | None) -> str:
    """The ``Message-ID`` of a report; it is the same for every attempt, so that mailboxes keep one copy."""
    return f"<{name}@{(sender or PLACEHOLDER).rpartition('@')[2]}>"


def build_message(
    report: Report,
    *,
    sender: str | None,
    recipients: Sequence[str],
    sent_at: datetime,
    unsubscribe: str | None = None,
    identity: str | None = None,
) -> EmailMessage:
    """Build the mail of a report.

    Each chart is in the mail once, inline by Content-ID and with a file name. A second copy as an attachment would
    double the size, and clients that show attached pictures would show every chart twice.

    Parameters
    ----------
    sender, recipients : str or None, sequence of str
        Addresses; a placeholder replaces missing ones, for mails that only go to the outbox.
    sent_at : datetime.datetime
        Timezone-aware; becomes ``Date``.
    unsubscribe : str, optional
        A ``mailto:`` or ``https:`` address; becomes ``List-Unsubscribe``, which mail programs show as a button.
    identity : str, optional
        The ``Message-ID`` of an earlier attempt to send this report; by default that of :func:`message_id`.

    Returns
    -------
    email.message.EmailMessage
        7-bit, in lines of at most 998 bytes that end with CRLF.

    Raises
    ------
    ConfigError
        If an address is malformed.
    """
    message = EmailMessage(policy=policy.SMTP)
    message["Subject"] = report.subject
    message["From"] = _address(sender or PLACEHOLDER, "MAIL_FROM", "Stock Tracker")
    message["To"] = [_address(recipient, "MAIL_TO") for recipient in recipients or (PLACEHOLDER,)]
    message["Date"] = sent_at
    message["Message-ID"] = identity or message_id(report.name, sender)
    message["Auto-Submitted"] = "auto-generated"
    if unsubscribe:
        message["List-Unsubscribe"] = f"<{unsubscribe}>"
    message.set_content(report.text, cte="quoted-printable")
    message.add_alternative(report.html, subtype="html", cte="quoted-printable")
    html = message.get_body(("html",))
    assert isinstance(html, EmailMessage)  # noqa: S101  # added by the line above
    for n, chart in enumerate(report.charts):
        name = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "_" for c in chart.symbol)
        cid = f"<{content_id(n, report.week)}>"
        html.add_related(chart.png, "image", "png", cid=cid, filename=f"{name}.png", disposition="inline")
    if report.csv is not None:
        message.add_attachment(
            report.csv.encode(), "text", "csv", filename=f"{report.week.name}.csv", params={"charset": "utf-8"}
        )
    for n, part in enumerate(part for part in message.walk() if part.is_multipart()):
        part.set_boundary(f"=_{report.week.name}_{n}")  # "=_" occurs in no quoted-printable or base64 line
    return message


def build_test_mail(*, sender: str, recipients: Sequence[str], sent_at: datetime) -> EmailMessage:
    """Build a mail that shows that mail arrives. Raises as :func:`build_message`."""
    message = EmailMessage(policy=policy.SMTP)
    message["Subject"] = "Stock Tracker: test mail"
    message["From"] = _address(sender, "MAIL_FROM", "Stock Tracker")
    message["To"] = [_address(recipient, "MAIL_TO") for recipient in recipients]
    message["Date"] = sent_at
    message["Message-ID"] = message_id(f"test-mail-{sent_at:%Y%m%dT%H%M%S}", sender)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("Mail of Stock Tracker arrives. The weekly report will come the same way.\n")
    return message


def _address(text: str, setting: str, name: str = "") -> Address:
    try:
        return Address(name, addr_spec=text)
    except (ValueError, IndexError, MessageError):
        raise ConfigError(f"{setting} has {text!r}, which is no e-mail address; write name@example.com") from None
