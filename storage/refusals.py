"""What a database refuses, as one of our errors: one line that names the place."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from domain.errors import CredentialsError, DataError, StockTrackerError, TimeUpError
from domain.text import clean_text
from storage.limits import Limits

LONGEST_MESSAGE = 500  # characters of what the server says
LOGIN_REFUSED = "28"  # class of SQLSTATE: invalid authorization specification
LOCK_NOT_AVAILABLE, QUERY_CANCELED = "55P03", "57014"  # SQLSTATE of a limit that was reached
SQLITE_BUSY = 5  # its primary result code
UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN")  # beginnings of names of its result codes


def refusal(place: str, error: BaseException | None, limits: Limits) -> StockTrackerError:
    """Return the error of ours for one of the driver or of a socket, in a transaction with such limits."""
    code = server_error_fields(error).get("C", "")
    message = f"{place}: {one_line_message(error)}"
    if code.startswith(LOGIN_REFUSED):
        return CredentialsError(f"{message}; check the user and the password in DATABASE_URL")
    is_locked = code == LOCK_NOT_AVAILABLE or getattr(error, "sqlite_errorcode", 0) & 0xFF == SQLITE_BUSY
    if is_locked:
        message = f"{place}: another session holds a lock that is needed, for more than {round(limits.lock, 1):g} s"
    elif _is_unanswered(error):
        message = f"{place} did not answer in time"
    is_time = is_locked or is_time_up(error)
    if str(getattr(error, "sqlite_errorname", "")).startswith(UNWRITABLE):
        message = f"{message}; its folder must exist, and you need the right to write to the folder and the file"
    return TimeUpError(message) if limits.is_deadline and is_time else DataError(message)


def login_refusal(error: BaseException | None) -> BaseException | None:
    """Return the server's refusal of a login, if that is behind it: the driver fails to close what the server has."""
    while error is not None and not server_error_fields(error):
        error = error.__context__
    return error


def is_time_up(error: BaseException | None) -> bool:
    """Return whether a limit ended a statement or the wait for its answer; that of a lock is an error of its own."""
    error = error.orig if isinstance(error, DBAPIError) else error
    interrupted = getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT"
    return interrupted or server_error_fields(error).get("C") == QUERY_CANCELED or _is_unanswered(error)


def _is_unanswered(error: BaseException | None) -> bool:
    """Whether the socket's time was over; the driver names the cause of its own error."""
    return isinstance(error, TimeoutError) or (error is not None and isinstance(error.__cause__, TimeoutError))


def one_line_message(error: BaseException | None) -> str:
    """Return the driver's or the server's message as one clean line."""
    said = error.args[0] if error and error.args else error
    return clean_text(server_error_fields(error).get("M") or str(said), LONGEST_MESSAGE)


def server_error_fields(error: BaseException | None) -> dict[str, str]:
    """Return the fields of PostgreSQL's error (``C`` is the SQLSTATE, ``M`` the message); empty for other errors."""
    said = error.args[0] if error and error.args else None
    return said if isinstance(said, dict) else {}
