"""The weekly report as a mail: headers, text and HTML side by side, the pictures inside the HTML's part.

What comes in: a :class:`~reporting.Report`, addresses, and the moment of sending. What goes out: an ``EmailMessage``
that mail programs read without complaint, the same bytes for the same input. Pure; this module never sends anything,
and never decides what a report says.
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

NOBODY = "stock-tracker@localhost"  # sender and recipient of a mail that only goes to the outbox


def message_id(name: str, sender: str | None) -> str:
    """The ``Message-ID`` of a report: the same however often it is sent, so that mailboxes keep one."""
    return f"<{name}@{(sender or NOBODY).rpartition('@')[2]}>"


def build_message(
    report: Report,
    *,
    sender: str | None,
    recipients: Sequence[str],
    sent_at: datetime,
    unsubscribe: str | None = None,
    identity: str | None = None,
) -> EmailMessage:
    """The mail.

    Each picture travels once, inline by Content-ID and with a file name. A second copy as an attachment would double
    the mail, and the mail clients that draw attached pictures would show every chart twice.

    Parameters
    ----------
    report : Report
    sender : str or None
        An address; without one, and without recipients, a placeholder stands in, for the outbox.
    recipients : sequence of str
    sent_at : datetime.datetime
        Aware; becomes the ``Date``.
    unsubscribe : str, optional
        A ``mailto:`` or ``https:`` address; becomes ``List-Unsubscribe``, which mail programs show as a button.
    identity : str, optional
        The ``Message-ID`` of an earlier attempt to send this report; default that of :func:`message_id`.

    Returns
    -------
    email.message.EmailMessage
        7-bit clean, with lines under 998 bytes and CRLF.

    Raises
    ------
    ConfigError
        If an address is malformed.
    """
    message = EmailMessage(policy=policy.SMTP)
    message["Subject"] = report.subject
    message["From"] = _address(sender or NOBODY, "MAIL_FROM", "Stock Tracker")
    message["To"] = [_address(recipient, "MAIL_TO") for recipient in recipients or (NOBODY,)]
    message["Date"] = sent_at
    message["Message-ID"] = identity or message_id(report.name, sender)
    message["Auto-Submitted"] = "auto-generated"
    if unsubscribe:
        message["List-Unsubscribe"] = f"<{unsubscribe}>"
    message.set_content(report.text, cte="quoted-printable")
    message.add_alternative(report.html, subtype="html", cte="quoted-printable")
    html = message.get_body(("html",))
    assert isinstance(html, EmailMessage)  # noqa: S101  # it was added one line above
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


def _address(text: str, setting: str, name: str = "") -> Address:
    try:
        return Address(name, addr_spec=text)
    except (ValueError, IndexError, MessageError):
        raise ConfigError(f"{setting} has {text!r}, which is no e-mail address; valid is name@example.com") from None
