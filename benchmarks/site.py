r"""Publish the market page of the whole market from PostgreSQL, as after a daily update, against ``psql``.

Three publications, each in a new process: the first of all; one after another session was loaded, which reads settled
history from the files that are published; and one after the session with which another week has settled, which writes
these files anew. The reference is ``\copy`` of the columns that the figures need, by an open session of ``psql`` into
``/dev/null``, after each of them.

The claims: 11,000 symbols × 500 sessions are published in under 20 s and 256 MB after a daily update, and what a chart
needs is under 0.3 MB: a footer, a row group, and a file of recent prices. The sizes are those of the synthetic prices.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.common import Psql, machine, peak_memory, psql_path, show  # noqa: E402
from tests.support.postgresql import postgresql_server  # noqa: E402

END = date(2025, 12, 31)  # a Wednesday, with which the week before is settled
SEED = 7
LATER = 2  # sessions that are loaded after the first publication
NEEDED = "symbol, date, high, low, close, volume"


def fill(database: str, symbols: int, sessions: int) -> None:
    """Load a synthetic market, but for its last sessions; then these, one for each line of standard input."""
    from sandbox.bars import synthetic_bars
    from storage.engine import open_engine
    from tests.support.filled_market import FilledMarket

    market = FilledMarket(open_engine(database), synthetic_bars(symbols, sessions, seed=SEED, end=END))
    print(market.load(range(sessions - LATER)), flush=True)
    for n, _ in zip(range(sessions - LATER, sessions), sys.stdin, strict=False):
        print(market.load([n]), flush=True)


def publish(folder: str, as_of: date) -> None:
    """Publish the market, and print what it took."""
    import lambda_main
    from pipeline.site import publish_site
    from web.assets import SCRIPT_TAG, STYLE_TAG, Assets, read_assets
    from web.target import FolderTarget

    placeholder = Assets(f"<html>{STYLE_TAG}{SCRIPT_TAG}</html>", "", "", "")
    context, before = lambda_main.run_context(None), peak_memory()
    started, used = time.monotonic(), time.process_time()
    assets = read_assets() or placeholder
    publication = publish_site(context, ["*"], as_of, FolderTarget(Path(folder)), assets=assets)
    taken = {
        "seconds": time.monotonic() - started,
        "own_seconds": time.process_time() - used,
        "symbols": publication.symbols,
        "written": publication.written,
        "before_mb": before,
        "peak_mb": peak_memory(),
    }
    print(json.dumps(taken))


def measure(symbols: int, sessions: int) -> dict[str, Any]:
    """Publish three times, each with its reference, and return the report."""
    results: list[dict[str, Any]] = []
    path = psql_path()
    with postgresql_server() as database, tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--fill", database, "--symbols", str(symbols), "--sessions", str(sessions)]
        filler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert filler.stdin
        assert filler.stdout
        for name in ("first", "after a daily update", "after a settled week"):
            if results:
                filler.stdin.write("next\n")
                filler.stdin.flush()
            last = date.fromisoformat(filler.stdout.readline().strip())
            results.append({"publication": name, **_published(database, folder, last), **_reference(path, database)})
        filler.stdin.close()
        filler.wait(timeout=60)
        filler.stdout.close()
        index = json.loads((Path(folder) / "index.json").read_text())
        sizes = _sizes(Path(folder), index)
    day = results[1]
    ratios = {"daily_of_20_seconds": day["seconds"] / 20, "daily_peak_of_256_mb": day["peak_mb"] / 256}
    if path:
        ratios["daily_of_psql"] = day["seconds"] / day["psql_seconds"]
    ratios["chart_of_300_kb"] = sizes["chart_kb"] / 300
    return {
        **machine(),
        "results": [*results, sizes],
        "ratios": {key: round(value, 3) for key, value in ratios.items()},
    }


def _published(database: str, folder: str, last: date) -> dict[str, Any]:
    from domain.calendar import next_session

    command = [sys.executable, __file__, "--publish", folder, "--as-of", str(next_session(last))]
    environment = {**os.environ, "DATABASE_URL": database, "SYMBOLS": "*"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    taken = json.loads(done.stdout.splitlines()[-1])
    written = [Path(folder) / path for path in taken["written"]]
    return {
        "symbols": taken["symbols"],
        "seconds": round(taken["seconds"], 2),
        "own_cpu_seconds": round(taken["own_seconds"], 2),
        "before_mb": round(taken["before_mb"]),
        "peak_mb": round(taken["peak_mb"]),
        "files_written": len(written),
        "mb_written": round(sum(each.stat().st_size for each in written) / 1e6, 1),
    }


def _reference(path: str | None, database: str) -> dict[str, float]:
    if not path:
        return {}
    with closing(Psql(path, database)) as psql:
        psql.run("SELECT 1 \\g /dev/null")
        started = time.monotonic()
        psql.run(f"\\copy (SELECT {NEEDED} FROM stock_data) TO '/dev/null' WITH (FORMAT csv)")
        return {"psql_seconds": round(time.monotonic() - started, 2)}


def _sizes(folder: Path, index: dict[str, Any]) -> dict[str, Any]:
    """The largest parts that a chart fetches, and what the first page does, beside its script."""
    import pyarrow.parquet as pq

    history, groups = index["files"]["history"], []
    for entry in history:
        metadata = pq.read_metadata(folder / entry["path"])
        for n in range(metadata.num_row_groups):
            group = metadata.row_group(n)
            groups.append(sum(group.column(k).total_compressed_size for k in range(group.num_columns)))
    footer, recent = max(each["footer"] for each in history), max(each["bytes"] for each in index["files"]["recent"])
    first = (folder / "index.json").stat().st_size
    first += sum(index["files"][name]["bytes"] for name in ("summary", "breadth"))
    return {
        "history_files": len(history),
        "history_mb": round(sum(each["bytes"] for each in history) / 1e6, 1),
        "footer_kb": round(footer / 1e3, 1),
        "row_group_kb": round(max(groups) / 1e3, 1),
        "recent_kb": round(recent / 1e3, 1),
        "chart_kb": round((footer + max(groups) + recent) / 1e3, 1),
        "overview_kb": round(index["files"]["overview"]["bytes"] / 1e3, 1),
        "first_page_data_kb": round(first / 1e3, 1),
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--symbols", type=int, default=11_000)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fill", help=argparse.SUPPRESS)
    parser.add_argument("--publish", help=argparse.SUPPRESS)
    parser.add_argument("--as-of", type=date.fromisoformat, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        return fill(options.fill, options.symbols, options.sessions)
    if options.publish:
        return publish(options.publish, options.as_of)
    return show(measure(options.symbols, options.sessions), as_json=options.json)


if __name__ == "__main__":
    main()
