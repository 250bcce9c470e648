"""The pages under test: the report and the index of the demo, and the longest possible report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from report.charts import Chart
from report.model import Report, Week
from reporting import build_report, page

ROOT = Path(__file__).parents[2]
DEMO = "weekly-report-2013-03-01"


def demo(folder: Path) -> Path:
    """Run the demo in a folder and return its outbox, with the report of five symbols and the index."""
    run_command(folder, "run")
    return folder / "outbox"


def add_reports(folder: Path) -> None:
    """Add to a demo's outbox the reports of four earlier weeks, one of chosen symbols, and one at will."""
    for saturday in ("2013-02-02", "2013-02-09", "2013-02-16", "2013-02-23"):
        run_command(folder, "weekly_report", "--sandbox", "--as-of", saturday)
    run_command(folder, "weekly_report", "--sandbox", "--symbols", "AAPL,IBM")
    run_command(folder, "report", "--sandbox", "--symbols", "GOOG,MSFT", "--week", "2013-02-15")


def run_command(folder: Path, *arguments: str) -> None:
    """Run a command of the command line in a folder, with the default settings."""
    subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        cwd=folder,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"PYTHONUTF8": "1"},
        capture_output=True,
        check=True,
    )


def longest_report(week: Week, picture: bytes) -> Report:
    """Build a report with 20 rows, nine charts and one that failed, every kind of notice, and the longest numbers.

    `picture` is the PNG of every chart.
    """
    rows = [
        {
            "symbol": f"BRK.LA{n:04}",
            "sessions": 5 - n % 2,
            "open": 600_000.0,
            "close": 612_345.67 if n % 3 else 0.000123,
            "high": 623_456.78,
            "low": 599_999.99 if n % 3 else 0.0001,
            "return_pct": 1_234.56 - 99.99 * n if n < 13 else -99.9,
            "range_pct": 1_123.45,
            "avg_volatility": 123.45,
            "volume": 123_456_789.0,
            "volume_ratio": 123.45,
            "closes": [float(n * k % 17 + 1) for k in range(30)],
        }
        for n in range(3_000)
    ]
    table = pd.DataFrame(rows)
    charted = [*table["symbol"].head(5), *table["symbol"].tail(4)]
    notices = [
        "The exchange was closed on Monday and Tuesday.",
        "Some prices of this week could not be loaded: the provider at api.example.com did not answer"
        " /v2/aggs/grouped/locale/us/market/stocks/2013-03-01 after 5 attempts: Connection refused.",
        *[f"The bar of BRK.LA{n:04} for Friday was rejected: {'its high is below its low, ' * 7}." for n in range(11)],
        *[f"BRK.LA{n:04} split 2 for 1 on Tuesday; all its prices are adjusted for the split." for n in range(11)],
        f"no chart for BRK.LA2999: the chart service says {'Error' * 40!r}",
    ]
    charts = [Chart(symbol, picture, f"{symbol}, 30 sessions: closed at $612,345.67.") for symbol in charted]
    return build_report(table, week, charts=charts, notices=notices)


def write_longest(folder: Path, week: Week, picture: bytes) -> Path:
    """Write the page of :func:`longest_report` into a folder."""
    path = folder / "longest.html"
    path.write_text(page(longest_report(week, picture)), encoding="utf-8")
    return path
