"""A cold start on Lambda: the zips as they are deployed, with 256 MB and 0.145 of a core, and unprepared.

Each measurement is a fresh process, which sees nothing but the unpacked zips, and beside them what AWS's layers hold.
INIT imports the handler with a whole core; the first invocation has the share of one that Lambda gives for its memory
(by a control group, where this machine allows it; CPU seconds are measured anywhere). It runs a job of five symbols on
an ordinary morning: one new session, and three that are read again, each in a grouped answer of 11,000 bars.

The reference, *before*, is the same zips without their bytecode and without preparation: nothing is done at INIT but
the import of the handler and of the jobs. A second part compares that import with those of its libraries alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy
from sqlalchemy import make_url, text

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.cgroups import Group, control_group  # noqa: E402
from benchmarks.common import machine, show  # noqa: E402
from benchmarks.market import TODAY, provider  # noqa: E402
from config import settings  # noqa: E402
from domain.calendar import previous_session  # noqa: E402
from lambda_main import handler  # noqa: E402
from layer.build import build  # noqa: E402
from layer.function import function_files  # noqa: E402
from sandbox.local_http import LocalServer, Reply  # noqa: E402
from storage.engine import open_engine  # noqa: E402
from tests.support.mail_server import Box, smtp_server  # noqa: E402
from tests.support.postgresql import postgresql_server  # noqa: E402

JOBS = ("daily_update", "weekly_report")
LISTED, SYMBOLS, HISTORY = 11_000, 5, 70
THERE = (
    "pandas",
    "numpy",
    "numpy.libs",
    "pyarrow",
    "pyarrow.libs",
    "dateutil",
    "six.py",
    "boto3",
    "botocore",
    "s3transfer",
)
IN_LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "stock-tracker", "AWS_REGION": "us-east-1"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(30_000)  # as large as a chart

FUNCTION = """
import json, sys, time
sys.path[:0] = json.loads(sys.argv[1])
sys.stdin.readline()  # the process is in its control group
started, used = time.monotonic(), time.process_time()
from lambda_main import handler
from pipeline import jobs
init = {"init_seconds": time.monotonic() - started, "init_cpu": time.process_time() - used}
print(json.dumps(init), flush=True)

class Context:
    aws_request_id = "cold"
    def get_remaining_time_in_millis(self):
        return 300_000

event = json.loads(sys.stdin.readline())
started, used = time.monotonic(), time.process_time()
result = handler(event, Context())
taken = {"seconds": time.monotonic() - started, "cpu": time.process_time() - used, "status": result["status"]}
with open("/proc/self/status") as status:
    taken["peak_mb"] = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps(taken), flush=True)
"""
IMPORT = """
import json, sys, time
started = time.perf_counter()
{statements}
seconds = time.perf_counter() - started
print(json.dumps({{"seconds": seconds, "modules": sorted(sys.modules)}}))
"""


def unpack(folder: Path) -> dict[str, list[str]]:
    """Build the zips and unpack them; return where Python finds modules, before and after."""
    paths = {}
    there = folder / "there"
    there.mkdir()
    site = Path(numpy.__file__).parent.parent
    for name in THERE:
        if (site / name).exists():
            (there / name).symlink_to(site / name)
    for what in ("function", "layer"):
        print(build(what, "x86_64", folder), file=sys.stderr)
    for name in ("before", "after"):
        task, opt = folder / name / "task", folder / name / "opt"
        zipfile.ZipFile(folder / "function.zip").extractall(task)
        zipfile.ZipFile(folder / "layer-x86_64.zip").extractall(opt)
        paths[name] = [str(task), str(opt / "python"), str(there)]
    for cache in list((folder / "before").rglob("__pycache__")):
        shutil.rmtree(cache)
    return paths


def cold_start(
    paths: Sequence[str], environment: Mapping[str, str], event: Mapping[str, str], group: Group | None
) -> Any:
    """Start the function, invoke it once, and return what both took."""
    command = [sys.executable, "-I", "-S", "-B", "-c", FUNCTION, json.dumps(paths)]
    variables = {"PATH": os.environ["PATH"], "TZ": "UTC", **environment}
    with subprocess.Popen(
        command, env=variables, cwd=paths[0], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        if group:
            group.add(process.pid)
        print(file=process.stdin, flush=True)
        init = json.loads(process.stdout.readline())
        if group:
            group.throttle()
        print(json.dumps(event), file=process.stdin, flush=True)
        invoked = json.loads(process.stdout.read().splitlines()[-1])
    return {**init, **invoked}


@contextmanager
def prepared_databases(url: str, environment: Mapping[str, str]) -> Iterator[Callable[[], str]]:
    """Load the history up to the day before; the function returns the URL of a new copy of that database."""
    os.environ.update(environment, DATABASE_URL=url)
    server = open_engine(url).execution_options(isolation_level="AUTOCOMMIT")

    def database(name: str, template: str) -> str:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return make_url(url).set(database=name).render_as_string(hide_password=False)

    prepared = database("prepared", "template1")
    os.environ["DATABASE_URL"] = prepared
    settings.cache_clear()
    handler({"job_type": "initialize", "as_of": str(previous_session(TODAY)), "sessions": HISTORY})
    open_engine(prepared).dispose()
    copies = count(1)
    yield lambda: database(f"copy_{next(copies)}", "prepared")


def measure(repeats: int, group: Group | None) -> dict[tuple[str, str], dict[str, float]]:
    """Measure each job, before and after in turn, and return the medians."""
    taken: dict[tuple[str, str], list[Any]] = {}
    charts = LocalServer(lambda _: Reply(200, PNG, {"Content-Type": "image/png"}))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = unpack(folder)
        market = stack.enter_context(provider(LISTED, HISTORY + 10))
        url, port = stack.enter_context(postgresql_server()), stack.enter_context(smtp_server(Box()))
        charts.start()
        stack.callback(charts.stop)
        given = {
            "POLYGON_BASE_URL": market,
            "POLYGON_API_KEY": "sandbox-key",
            "POLYGON_CALLS_PER_MINUTE": "0",
            "SYMBOLS": ",".join(f"SYN{n:05d}" for n in range(SYMBOLS)),
            "QUICKCHART_URL": f"{charts.url}/chart",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_SECURITY": "none",
            "MAIL_FROM": "me@example.com",
            "MAIL_TO": "me@example.com",
        }
        new_copy = stack.enter_context(prepared_databases(url, given))
        for _ in range(repeats):
            for job in JOBS:
                for name in ("before", "after"):
                    variables = {**given, "DATABASE_URL": new_copy(), **(IN_LAMBDA if name == "after" else {})}
                    event = {"job_type": job, "as_of": str(TODAY)}
                    figures = cold_start(paths[name], variables, event, group)
                    if figures.pop("status") not in ("ok", "sent"):
                        raise SystemExit(f"{job} has not done its work")
                    taken.setdefault((job, name), []).append(figures)
    return {key: {name: median(each[name] for each in all_) for name in all_[0]} for key, all_ in taken.items()}


def in_fresh_process(code: str, environment: dict[str, str], folder: Path) -> dict[str, Any]:
    """Run a program in its own process and return the JSON that it prints last."""
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=folder, check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def libraries(loaded: set[str]) -> list[str]:
    """The modules, other than our own, that our loaded modules import, in order of appearance."""
    own = {
        name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): ROOT / name
        for name in function_files(ROOT)
        if name.endswith(".py")
    }
    ours = {name.partition(".")[0] for name in own}
    named: dict[str, None] = {}
    for module in sorted(own.keys() & loaded):
        for name in _imported(own[module]):
            if name.partition(".")[0] not in ours and name in loaded and name != "__future__":
                named[name] = None
    return list(named)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def compare_imports(repeats: int) -> tuple[list[dict[str, Any]], float]:
    """Compare the import of the handler with those of its libraries; return the results and the ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder, ours = Path(name), IMPORT.format(statements="import lambda_main")
        named = libraries(set(in_fresh_process(ours, {}, folder)["modules"]))  # also compiles the modules
        bare = IMPORT.format(statements="\n".join(f"import {library}" for library in named))
        taken: dict[str, list[float]] = {"handler": [], "libraries": []}
        for _ in range(repeats):
            taken["handler"].append(in_fresh_process(ours, {}, folder)["seconds"])
            taken["libraries"].append(in_fresh_process(bare, {}, folder)["seconds"])
    middle = {name: median(values) for name, values in taken.items()}
    results = [
        {"what": "import of the handler", "seconds": round(middle["handler"], 3)},
        {"what": f"import of its {len(named)} libraries alone", "seconds": round(middle["libraries"], 3)},
    ]
    return results, round(middle["handler"] / middle["libraries"], 3)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=int, default=256, help="MB of the function, which set its share of a core")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with control_group(options.memory) as group:
        if group is None:
            print(
                "no control group can be made here: the processes have whole cores, and only CPU seconds count",
                file=sys.stderr,
            )
        taken = measure(options.repeats, group)
    results: list[dict[str, Any]] = [
        {"job": job, "zips": name, **{figure: round(value, 2) for figure, value in figures.items()}}
        for (job, name), figures in taken.items()
    ]
    ratios = {
        f"{job}_{figure}": round(taken[job, "after"][figure] / taken[job, "before"][figure], 3)
        for job in JOBS
        for figure in ("init_cpu", "cpu", *(["seconds"] if group else []))
    }
    imports, ratios["import"] = compare_imports(options.repeats)
    show({**machine("requests", "pydantic"), "results": [*results, *imports], "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
