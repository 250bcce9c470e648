"""The log and the metrics of an invocation on Lambda: lines of JSON on standard output, for CloudWatch.

The last line is the result or the error. No line holds a key, a password or a connection string, or grows with the
number of symbols.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
from sqlalchemy import Engine

import utils
from config import redact
from domain.calendar import last_sessions, previous_session, sessions_between
from domain.errors import StockTrackerError
from domain.models import EVERY_SYMBOL, JobResult, Request
from pipeline.context import RunContext

if TYPE_CHECKING:
    from entrypoints.doctor import Diagnosis

logger = logging.getLogger(f"stock_tracker.{__name__}")

NAMESPACE = "StockTracker"
SERVICE = "stock-tracker"
SHOWN_SYMBOLS = 5
SHOWN_WARNINGS = 20
SHOWN_EVENT = 1_000  # characters
OUTCOMES = {"partial": "RunPartial"}  # metric by status; every other status is RunSucceeded
SESSIONS_PER_YEAR = 252
LOADS = ("initialize", "daily_update")


class SymbolSummary(TypedDict):
    """How many symbols a run has, and the first few: the whole market would fill the log."""

    count: int
    first: list[str]


class Telemetry:
    """The log and the metrics of one invocation.

    ``LOG_LEVEL`` sets the level of the ``stock_tracker`` loggers. The outcome of a run is logged at every level.

    Parameters
    ----------
    request_id : str
        Lambda's; Lambda's own log lines hold it as well.
    function_name : str
        Of the stage that runs: each has a namespace of its own, so that no stage hides the silence of another.
    """

    def __init__(self, request_id: str, function_name: str = SERVICE) -> None:
        self._began = time.monotonic()
        self._namespace = namespace(function_name)
        self._log = Logger(service=SERVICE, level="INFO", json_serializer=_serialize)
        self._log.structure_logs(function_request_id=request_id)  # and drop the keys of the previous invocation
        self._keys: dict[str, Any] = {"function_request_id": request_id}
        self._request: Request | None = None
        self._engine: Engine | None = None

    def started(self, request: Request, context: RunContext) -> None:
        """Log what is about to run, and add the run's keys to all lines; called again for a retry."""
        self._request, self._engine = request, context.engine
        copy_config_to_registered_loggers(self._log, context.settings.log_level, include={"stock_tracker"})
        self._keys |= {
            "run_id": request.run_id,
            "job": request.job_type,
            "as_of": str(request.as_of),
            "symbols": summarize(request.symbols),
        }
        self._log.append_keys(**self._keys)
        logger.info("%s starts", request.job_type)

    def retrying(self, refused: Exception) -> None:
        """Log that a credential was refused and the run starts over with the rotated secret."""
        self._log.warning(f"{refused}; the secret has been rotated: trying once more")

    def succeeded(self, result: JobResult) -> None:
        """Emit the metrics, then the result as the last line. A dry run emits no metrics."""
        if self._request and not self._request.dry_run:
            self._emit(OUTCOMES.get(result["status"], "RunSucceeded"), _counts(result))
        shown = {
            **result,
            "symbols": summarize(result["symbols"]),
            "warnings": result["warnings"][:SHOWN_WARNINGS],
            "warnings_count": len(result["warnings"]),
        }
        self._log.info(f"{result['job_type']} {result['status']}", result=shown)

    def diagnosed(self, diagnosis: Diagnosis) -> None:
        """Log what a check of the set-up found, as the last line. It is no run, and emits no metrics."""
        self._log.info(f"doctor {'ok' if diagnosis['ok'] else 'failed'}", result=diagnosis)

    def failed(self, error: Exception, event: Any) -> None:
        """Emit the metrics, then the error as the last line, with a traceback if this project did not raise it."""
        self._emit("RunFailed", {})
        self._log.error(
            str(error),
            error=type(error).__name__,
            event=redact(json.dumps(event, default=str))[:SHOWN_EVENT],
            exc_info=not isinstance(error, StockTrackerError),
        )

    def _emit(self, outcome: str, counts: dict[str, float]) -> None:
        metrics = EphemeralMetrics(namespace=self._namespace, service="")  # "": no dimension from the environment
        metrics.add_dimension("job", self._request.job_type if self._request else "unknown")
        for name, value in {outcome: 1, **counts, **self._freshness()}.items():
            metrics.add_metric(name, MetricUnit.Count, value)
        metrics.add_metric("DurationSeconds", MetricUnit.Seconds, round(time.monotonic() - self._began, 3))
        metrics.add_metric("PeakMemoryMB", MetricUnit.Megabytes, peak_memory())
        document: dict[str, Any] = {**metrics.serialize_metric_set(), **self._keys}
        document["_aws"]["CloudWatchMetrics"][0]["Dimensions"].append([])  # count each metric over all jobs as well
        print(json.dumps(document), flush=True)

    def _freshness(self) -> dict[str, float]:
        """Measure how far the table is behind after a daily_update, even a failed one, if the database answers."""
        request = self._request
        if not request or request.job_type != "daily_update" or not self._engine:
            return {}
        try:
            behind = sessions_behind(self._engine, request.symbols, request.as_of)
        except StockTrackerError as error:  # must not replace the run's own outcome
            self._log.warning(f"the freshness is not known: {error}")
            return {}
        return {} if behind is None else {"FreshnessSessions": behind}


def namespace(function_name: str) -> str:
    """Return the namespace of a function's metrics; that of production has the name alone."""
    return NAMESPACE if function_name == SERVICE else f"{NAMESPACE}/{function_name}"


def _serialize(line: dict[str, Any]) -> str:
    """Write a log line as JSON, without secrets."""
    return redact(json.dumps(line, default=str, separators=(",", ":"), ensure_ascii=False))


def summarize(symbols: Sequence[str]) -> SymbolSummary:
    """Count the symbols and name the first few, without secrets."""
    return {"count": len(symbols), "first": [redact(symbol) for symbol in symbols[:SHOWN_SYMBOLS]]}


def _counts(result: JobResult) -> dict[str, float]:
    rows = result["rows"]
    counts: dict[str, float] = {
        "RowsInserted": rows["inserted"],
        "RowsUpdated": rows["updated"],
        "RowsRejected": rows["rejected"],
        "RowsCorrected": rows["corrected"],
        "RowsWithdrawn": rows["withdrawn"],
        "ApiCalls": result["api_calls"],
    }
    if result["job_type"] in LOADS and result["status"] != "partial":  # a partial run loaded only some of them
        counts["SessionsLoaded"] = result["sessions"]["count"]
    if result["job_type"] == "weekly_report":
        counts["RecipientsNotReached"] = len(result.get("waiting", {})) + len(result.get("refused", {}))
    return counts


def sessions_behind(engine: Engine, symbols: Sequence[str], as_of: date) -> int | None:
    """Count the trading sessions between the last one fetched and the last one before `as_of`; 0 is fresh.

    The symbol that is furthest behind counts. A session in which a symbol did not trade counts as fetched.

    Returns
    -------
    int or None
        252, the sessions of a year, if one of the symbols was never fetched; None if the database has no tables.

    Raises
    ------
    DataError, CredentialsError
        If the database cannot be reached or refuses the login.
    """
    with utils.reading(engine) as stored:
        if stored is None:
            return None
        fetched = utils.read_coverage(stored, symbols)
    never = last_sessions(SESSIONS_PER_YEAR + 1, as_of)[0]
    ends = {symbol: max(reading.last for reading in readings) for symbol, readings in fetched.items()}
    market = ends.get(EVERY_SYMBOL, never)
    until = min(max(ends.get(symbol, never), market) for symbol in symbols)
    return len(sessions_between(until + timedelta(days=1), previous_session(as_of)))


def peak_memory() -> float:
    """Read the peak memory of this process in MB, over all invocations of a warm container."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return round(int(kilobytes[1]) / 1024, 1) if kilobytes else 0.0
