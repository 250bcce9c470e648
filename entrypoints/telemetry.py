"""What an invocation on Lambda tells CloudWatch: structured log lines, and metrics in the embedded format.

What comes in: the request, and then its result or its error. What goes out: lines of JSON on standard output, of which
the last one is the result or the error. Nothing here decides anything, and no line holds a key, a password or a
connection string, or grows with the number of symbols.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
from sqlalchemy import Engine

import utils
from domain.calendar import last_sessions, previous_session, sessions_between
from domain.errors import StockTrackerError
from domain.models import EVERY_SYMBOL, Request
from pipeline.run import RunContext

NAMESPACE = "StockTracker"
SERVICE = "stock-tracker"
SHOWN = 5  # symbols of a list
SHOWN_WARNINGS = 20
SHOWN_EVENT = 1_000  # characters
OUTCOMES = {"partial": "RunPartial"}  # every other status is a success
SESSIONS_A_YEAR = 252
LOADS = ("initialize", "daily_update")


class Telemetry:
    """The lines and the metrics of one invocation.

    Parameters
    ----------
    request_id : str
        Lambda's, which stands in its own lines as well.
    """

    def __init__(self, request_id: str) -> None:
        self._log = Logger(service=SERVICE, level="INFO")
        self._keys: dict[str, Any] = {"function_request_id": request_id}
        self._began = time.monotonic()
        self._request: Request | None = None
        self._engine: Engine | None = None

    def started(self, request: Request, context: RunContext) -> None:
        """Say what is about to run; again, if it is tried again with other credentials."""
        self._request, self._engine = request, context.engine
        self._log.setLevel(context.settings.log_level)
        self._keys |= {
            "run_id": request.run_id,
            "job": request.job_type,
            "as_of": str(request.as_of),
            "symbols": brief(request.symbols),
        }
        self._log.info(f"{request.job_type} starts", **self._keys)

    def goes_on(self, refused: Exception) -> None:
        """Say that the run is tried once more with a secret that has changed."""
        self._log.warning(f"{refused}; the secret has changed: trying once more", **self._keys)

    def succeeded(self, result: dict[str, Any]) -> None:
        """Emit the run's metrics, then its result as the last line; a dry run changed nothing and counts nowhere."""
        if self._request and not self._request.dry_run:
            self._emit(OUTCOMES.get(result["status"], "RunSucceeded"), _measured(result))
        shown = {
            **result,
            "symbols": brief(result["symbols"]),
            "warnings": result["warnings"][:SHOWN_WARNINGS],
            "warnings_count": len(result["warnings"]),
        }
        self._log.info(f"{result['job_type']} {result['status']}", result=shown, **self._keys)

    def failed(self, error: Exception, event: Any) -> None:
        """Emit the failure's metrics, then the error as the last line; one that nobody foresaw with its traceback."""
        self._emit("RunFailed", {})
        foreseen = isinstance(error, StockTrackerError)
        self._log.error(
            str(error),
            error=type(error).__name__,
            event=json.dumps(event, default=str)[:SHOWN_EVENT],
            exc_info=not foreseen,
            **self._keys,
        )

    def _emit(self, outcome: str, counts: dict[str, float]) -> None:
        metrics = EphemeralMetrics(namespace=NAMESPACE, service="")  # "": no dimension from the environment
        metrics.add_dimension("job", self._request.job_type if self._request else "unknown")
        for name, value in {outcome: 1, **counts, **self._freshness()}.items():
            metrics.add_metric(name, MetricUnit.Count, value)
        metrics.add_metric("DurationSeconds", MetricUnit.Seconds, round(time.monotonic() - self._began, 3))
        metrics.add_metric("PeakMemoryMB", MetricUnit.Megabytes, peak_memory())
        document: dict[str, Any] = {**metrics.serialize_metric_set(), **self._keys}
        document["_aws"]["CloudWatchMetrics"][0]["Dimensions"].append([])  # and once more over all jobs
        print(json.dumps(document), flush=True)

    def _freshness(self) -> dict[str, float]:
        """How far the table is behind after a daily_update, also one that failed, if the database answers."""
        request = self._request
        if not request or request.job_type != "daily_update" or not self._engine:
            return {}
        try:
            behind = sessions_behind(self._engine, request.symbols, request.as_of)
        except StockTrackerError as error:  # the run has its own outcome, which this must not replace
            self._log.warning(f"the freshness is not known: {error}", **self._keys)
            return {}
        return {} if behind is None else {"FreshnessSessions": behind}


def brief(symbols: Sequence[str]) -> dict[str, Any]:
    """How many symbols, and the first few, as a list of the whole market would fill the log."""
    return {"count": len(symbols), "first": list(symbols[:SHOWN])}


def _measured(result: dict[str, Any]) -> dict[str, float]:
    rows = result["rows"]
    measured = {
        "RowsInserted": rows["inserted"],
        "RowsUpdated": rows["updated"],
        "RowsRejected": rows["rejected"],
        "ApiCalls": result["api_calls"],
    }
    if result["job_type"] in LOADS and result["status"] != "partial":  # of a partial run, only some are loaded
        measured["SessionsLoaded"] = result["sessions"]["count"]
    return measured


def sessions_behind(engine: Engine, symbols: Sequence[str], as_of: date) -> int | None:
    """The trading sessions by which what was fetched is behind the last session before as-of; 0 is fresh.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    symbols : sequence of str
        It is the one that is behind most that counts; one without trades counts as fetched.
    as_of : datetime.date

    Returns
    -------
    int or None
        The sessions of a year, 252, if one of the symbols was never fetched; None of a database without tables.

    Raises
    ------
    DataError, CredentialsError
        If the database cannot be reached or refuses.
    """
    with utils.reading(engine) as stored:
        if stored is None:
            return None
        fetched = utils.read_coverage(stored, symbols)
    never = last_sessions(SESSIONS_A_YEAR + 1, as_of)[0]
    ends = {symbol: max(last for _, last in ranges) for symbol, ranges in fetched.items()}
    market = ends.get(EVERY_SYMBOL, never)
    until = min(max(ends.get(symbol, never), market) for symbol in symbols)
    return len(sessions_between(until + timedelta(days=1), previous_session(as_of)))


def peak_memory() -> float:
    """The most memory that this process has held so far, in MB, whichever of a warm container's invocations it was."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return round(int(kilobytes[1]) / 1024, 1) if kilobytes else 0.0
