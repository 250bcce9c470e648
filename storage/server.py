"""What a PostgreSQL server says of itself and of the connection to it."""

from __future__ import annotations

import ssl
import struct
from typing import Any, NamedTuple

from sqlalchemy import Connection

_CONNECTIONS = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int,
    count(*)
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""


class ConnectionCount(NamedTuple):
    """Connections that the server admits, and those that are open, this one included."""

    most: int
    used: int


def server_version(connection: Connection) -> str:
    """Return the version, such as ``18.1``."""
    version: str = connection.exec_driver_sql("SHOW server_version").scalar_one()
    return version.split()[0]


def encryption(connection: Connection) -> str | None:
    """Describe the TLS of the connection; None if it is not encrypted."""
    opened = connection.info["socket"]
    if not isinstance(opened, ssl.SSLSocket):
        return None
    if opened.context.verify_mode == ssl.CERT_NONE:
        return f"{opened.version()}, certificate not verified"
    return f"{opened.version()}, {'certificate and host' if opened.context.check_hostname else 'certificate'} verified"


def is_pooled(connection: Connection) -> bool:
    """Whether a pooler stands between: the process that answers is not the one that was named at the login."""
    driver: Any = connection.connection.dbapi_connection
    named = driver._backend_key_data  # process and secret, by which a statement could be canceled
    process = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    return not named or struct.unpack_from(">i", named) != (process,)


def count_connections(connection: Connection) -> ConnectionCount:
    """Count the connections of the server."""
    return ConnectionCount(*connection.exec_driver_sql(_CONNECTIONS).one())
