"""A cold start: the import of the handler against bare imports of its libraries, and a first ``daily_update``.

Every measurement is a fresh process. The libraries are those that this project's source imports and that the handler's
import loads. The ratio, ours / bare, therefore shows the cost of our own modules.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import machine, show  # noqa: E402
from layer.function import function_files  # noqa: E402

TODAY = date(2013, 3, 2)
IMPORT = """
import json, sys, time
started = time.perf_counter()
{statements}
seconds = time.perf_counter() - started
print(json.dumps({{"seconds": seconds, "modules": sorted(sys.modules)}}))
"""
UPDATE = """
import json, time
started = time.perf_counter()
from lambda_main import handler
imported = time.perf_counter()
result = handler({{"job_type": "{job_type}", "as_of": "{as_of}"}})
done = time.perf_counter()
from benchmarks.common import peak_memory
print(json.dumps({{
    "status": result["status"],
    "import": imported - started,
    "job": done - imported,
    "peak_mb": peak_memory(),
}}))
"""


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


def main() -> None:
    """Measure, and print a table or JSON."""
    from sandbox.history import PriceHistory
    from sandbox.server import MarketServer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, MarketServer(PriceHistory.recorded(), today=TODAY) as market:
        folder = Path(name)
        environment = {
            "POLYGON_BASE_URL": market.url,
            "POLYGON_API_KEY": market.key,
            "POLYGON_CALLS_PER_MINUTE": "0",
            "SYMBOLS": "AAPL,FB,GOOG,IBM,MSFT",
        }
        ours = IMPORT.format(statements="import lambda_main")
        first = in_fresh_process(ours, environment, folder)  # also compiles the modules
        named = libraries(set(first["modules"]))
        bare = IMPORT.format(statements="\n".join(f"import {library}" for library in named))
        taken: dict[str, list[float]] = {"handler": [], "libraries": [], "job": [], "whole": [], "peak_mb": []}
        for _ in range(options.repeats):
            taken["handler"].append(in_fresh_process(ours, environment, folder)["seconds"])
            taken["libraries"].append(in_fresh_process(bare, environment, folder)["seconds"])
            for database in folder.glob("*.db*"):
                database.unlink()
            in_fresh_process(UPDATE.format(job_type="initialize", as_of="2013-03-01"), environment, folder)
            update = in_fresh_process(UPDATE.format(job_type="daily_update", as_of=TODAY), environment, folder)
            if update["status"] != "ok":
                raise SystemExit(f"daily_update ended with {update['status']}, not ok")
            taken["job"].append(update["job"])
            taken["whole"].append(update["import"] + update["job"])
            taken["peak_mb"].append(update["peak_mb"])
    middle = {name: median(values) for name, values in taken.items()}
    results = [
        {"what": "import of the handler", "seconds": round(middle["handler"], 3)},
        {"what": f"import of its {len(named)} libraries alone", "seconds": round(middle["libraries"], 3)},
        {"what": "first daily_update of 5 symbols, after the import", "seconds": round(middle["job"], 3)},
        {"what": "both, from nothing", "seconds": round(middle["whole"], 3), "peak_mb": round(middle["peak_mb"])},
    ]
    ratios = {"import": round(middle["handler"] / middle["libraries"], 3)}
    show({**machine("requests", "pydantic"), "results": results, "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
