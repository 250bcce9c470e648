"""What Lambda does before the first event: with a whole core, import and build what every job needs."""

from __future__ import annotations

from importlib import import_module

LATER = (  # modules that are imported where they are first needed, so that the command line starts at once
    "entrypoints.telemetry",
    "pg8000",
    "pipeline.audit",
    "pipeline.weekly_report",
    "pyarrow.csv",
    "storage.driver",
)


def prepare() -> None:
    """Import the modules of all jobs."""
    for name in LATER:
        import_module(name)
