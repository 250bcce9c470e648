"""What Lambda does not keep: a file beside the code, which is read-only, and a report in any folder."""

from __future__ import annotations

from config import Settings
from domain.errors import ConfigError


def reject_local_database(configured: Settings) -> None:
    """Raise a ConfigError if the database is a file in the folder of the code."""
    url = configured.database_url.get_secret_value()
    if url.startswith("sqlite") and not url.startswith("sqlite:////"):
        problem = "a file in the folder of the code" if "database_url" in configured.model_fields_set else "not set"
        raise ConfigError(
            f"DATABASE_URL is {problem}: valid on Lambda is postgresql://…; put it into the secret that SECRET_ID names"
        )


def reject_outbox(configured: Settings) -> None:
    """Raise a ConfigError if reports are left in a folder."""
    if configured.transport == "outbox":
        raise ConfigError(
            f"MAIL_TRANSPORT is {configured.mail_transport!r} and SMTP_HOST is {configured.smtp_host!r}, which leaves"
            " reports in a folder: on Lambda set SMTP_HOST, or MAIL_TRANSPORT=ses, and MAIL_FROM, MAIL_TO"
        )
