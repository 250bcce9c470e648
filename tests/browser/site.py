"""A published site to test the pages with, and a server with the content policy that a site is served under."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sandbox.bars import BarArrays, recorded_bars, synthetic_bars
from web.build import ASSETS

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DEMO_SESSIONS = 71
RECENT = 4  # sessions that are not settled
FEW = 20  # up to so many symbols the summary holds them all
GROUP_ROWS = 4_000


def recorded_site(folder: Path) -> Path:
    """Write the site of the five recorded symbols, with a correction, a rejected bar and a missing session."""
    return write_site(folder, recorded_bars(), sessions=DEMO_SESSIONS, is_demo=True)


def synthetic_site(folder: Path, symbols: int, sessions: int) -> Path:
    """Write the site of a synthetic market."""
    return write_site(folder, synthetic_bars(symbols, sessions, end=date(2025, 12, 31)), sessions=sessions)


def write_site(folder: Path, bars: BarArrays, *, sessions: int, is_demo: bool = False) -> Path:
    """Write a site in the shape of a published one into a folder, and return the folder."""
    site = _Site(folder)
    days = [str(day) for day in bars.sessions[-sessions:]]
    prices = bars.prices[:, -sessions:, :] / 10_000
    volumes = bars.volumes[-sessions:, :]
    frames = _Frames(bars.symbols, days, prices, volumes)
    overview = frames.overview()
    rows = json.loads(overview.to_json(orient="records"))
    for row, closes in zip(rows, frames.close[-60:].T.tolist()):
        row["spark"] = [close for close in closes if close == close]
    few = len(rows) <= FEW
    summary = _summary(rows, days, few=few)
    corrected, rejected, missing = (days[-20], days[-11], days[-9]) if few else (None, None, None)
    files = {
        "summary": site.json("summary", summary),
        "breadth": site.json("breadth", frames.breadth()),
        "state": site.json("state", _state(rows, days, corrected, rejected, missing, few=few)),
        "calendar": site.json("calendar", _calendar(bars.symbols, days, corrected, rejected, missing, few=few)),
        "overview": site.parquet("overview", pa.Table.from_pandas(overview, preserve_index=False), group=1_000),
        "history": frames.write(site, "history", slice(0, len(days) - RECENT), pieces=1 if few else 32),
        "recent": frames.write(site, "recent", slice(len(days) - RECENT, None), pieces=1 if few else 64),
    }
    index = {
        "version": 1,
        "published_at": "2013-03-02T13:00:05Z",
        "as_of": "2013-03-02",
        "first": days[0],
        "last": days[-1],
        "symbols": len(rows),
        "is_demo": is_demo,
        "sessions": days,
        "files": files,
    }
    site.finish(index)
    return folder


class _Site:
    """A folder of immutable files, the built page and the index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        (folder / "assets").mkdir()

    def write(self, name: str, ending: str, content: bytes) -> dict[str, Any]:
        path = f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
        (self.folder / path).write_bytes(content)
        return {"path": path, "bytes": len(content)}

    def json(self, name: str, value: object) -> dict[str, Any]:
        return self.write(f"data/{name}", "json", json.dumps(value).encode())

    def parquet(self, name: str, table: pa.Table, *, group: int) -> dict[str, Any]:
        buffer = BytesIO()
        for place, field in enumerate(table.schema):
            if pa.types.is_floating(field.type):
                millionths = pc.round(pc.multiply(table.column(place), 1e6)).cast(pa.int64())
                table = table.set_column(place, field.name, millionths)
        integers = [field.name for field in table.schema if pa.types.is_int64(field.type)]
        pq.write_table(
            table,
            buffer,
            compression="snappy",
            row_group_size=group,
            write_statistics=["symbol"],
            use_dictionary=["symbol"],
            column_encoding=dict.fromkeys(integers, "DELTA_BINARY_PACKED"),
        )
        content = buffer.getvalue()
        file = self.write(f"data/{name}", "parquet", content)
        return {**file, "footer": int.from_bytes(content[-8:-4], "little") + 8}

    def finish(self, index: dict[str, Any]) -> None:
        page = (ASSETS / "index.html").read_text()
        for name, ending in (("app", "js"), ("style", "css"), ("licenses", "txt")):
            file = self.write(f"assets/{name}", ending, (ASSETS / f"{name}.{ending}").read_bytes())
            page = page.replace(f"assets/{name}.{ending}", file["path"])
        (self.folder / "index.html").write_text(page)
        (self.folder / "index.json").write_text(json.dumps(index))


class _Frames:
    """Prices as arrays of sessions by symbols, and what is derived from them."""

    def __init__(self, symbols: tuple[str, ...], days: list[str], prices: Any, volumes: Any) -> None:
        self.symbols, self.days = symbols, days
        self.known = volumes >= 0
        self.open, self.high, self.low, self.close = (np.where(self.known, part, np.nan) for part in prices)
        self.volume = volumes
        frame = pd.DataFrame(self.close)
        self.change = frame.pct_change(fill_method=None).mul(100).round(6).to_numpy()
        self.mean = {n: frame.rolling(n).mean().round(6).to_numpy() for n in (5, 20, 50, 200)}

    def overview(self) -> pd.DataFrame:
        last, count = self.close[-1], len(self.days)

        def change(back: int) -> Any:
            return np.round((last / self.close[-1 - back] - 1) * 100, 6) if back < count else np.full(len(last), np.nan)

        year = self.days[-1][:4]
        before = max([n for n, day in enumerate(self.days) if day[:4] < year], default=0)
        high, low = np.nanmax(self.high[-252:], axis=0), np.nanmin(self.low[-252:], axis=0)
        steps = np.diff(self.close[-15:], axis=0)
        gain, loss = np.where(steps > 0, steps, 0).mean(axis=0), np.where(steps < 0, -steps, 0).mean(axis=0)
        figures = {
            "symbol": self.symbols,
            "sessions": self.known.sum(axis=0),
            "first": self.days[0],
            "last": self.days[-1],
            "close": last,
            "change_1d": change(1),
            "change_1w": change(5),
            "change_1m": change(21),
            "change_3m": change(63),
            "change_ytd": change(count - 1 - before),
            "change_1y": change(252),
            "high_52w": high,
            "low_52w": low,
            "place_52w": np.round((last - low) / (high - low), 6),
            "volatility_20": np.round(np.nanstd(self.change[-20:], axis=0) * 252**0.5, 6),
            "volume": self.volume[-1],
            "volume_ratio": np.round(self.volume[-1] / self.volume[-20:].mean(axis=0), 6),
            "sma_20": self.mean[20][-1],
            "sma_50": self.mean[50][-1],
            "sma_200": self.mean[200][-1],
            "distance_50": np.round((last / self.mean[50][-1] - 1) * 100, 6),
            "rsi_14": np.round(100 * gain / (gain + loss), 6),
            "cross": np.where(self.mean[200][-1] < self.mean[50][-1], "golden", "death"),
            "cross_date": self.days[-7],
            "streak": np.sign(self.change[-1]).astype("int64"),
            "range_pct": np.round((self.high[-1] - self.low[-1]) / last * 100, 6),
        }
        if count < 200:
            figures |= {"cross": None, "cross_date": None}
        return pd.DataFrame(figures)

    def breadth(self) -> dict[str, Any]:
        def share(n: int) -> list[float | None]:
            known = ~np.isnan(self.mean[n])
            above = (self.close > self.mean[n]).sum(axis=1)
            return [round(int(a) / int(k), 6) if k else None for a, k in zip(above, known.sum(axis=1))]

        columns = {
            "advancers": (self.change > 0).sum(axis=1),
            "decliners": (self.change < 0).sum(axis=1),
            "unchanged": (self.change == 0).sum(axis=1),
            "new_highs": (pd.DataFrame(self.high).rolling(50).max().to_numpy() == self.high).sum(axis=1),
            "new_lows": (pd.DataFrame(self.low).rolling(50).min().to_numpy() == self.low).sum(axis=1),
        }
        lists = {name: values.tolist() for name, values in columns.items()}
        return {"date": self.days, **lists, "above_50": share(50), "above_200": share(200)}

    def write(self, site: _Site, name: str, days: slice, pieces: int) -> list[dict[str, Any]]:
        files = []
        labels = pd.to_datetime(self.days[days]).date
        for number, columns in enumerate(np.array_split(np.arange(len(self.symbols)), pieces)):
            names = [self.symbols[column] for column in columns]
            flat = {
                label: array[days][:, columns].T.reshape(-1)
                for label, array in {
                    "open": self.open,
                    "high": self.high,
                    "low": self.low,
                    "close": self.close,
                    "volume": self.volume,
                    "rolling_avg": self.mean[5],
                    "daily_pct_change": self.change,
                    "volatility": np.round((self.high - self.low) / self.close * 100, 6),
                    "sma_20": self.mean[20],
                    "sma_50": self.mean[50],
                    "sma_200": self.mean[200],
                }.items()
            }
            frame = pd.DataFrame({"symbol": np.repeat(names, len(labels)), "date": np.tile(labels, len(names)), **flat})
            frame = frame[frame["close"].notna()]
            table = pa.Table.from_pandas(frame, preserve_index=False)
            group = max(1, GROUP_ROWS // len(labels)) * len(labels)
            file = site.parquet(f"{name}-{number}", table, group=group)
            files.append({**file, "first_symbol": names[0], "last_symbol": names[-1], "first": str(labels[0])})
        return files


def _summary(rows: list[dict[str, Any]], days: list[str], *, few: bool) -> dict[str, Any]:
    changes = [row["change_1d"] or 0 for row in rows]
    kept = ("symbol", "close", "change_1d", "volume_ratio", "spark")

    def top(key: str, *, down: bool = True) -> list[dict[str, Any]]:
        known = [row for row in rows if row[key] is not None]
        return [{k: row[k] for k in kept} for row in sorted(known, key=lambda r: r[key], reverse=down)[:10]]

    above = [row["close"] > row["sma_50"] for row in rows if row["sma_50"] is not None]
    tiles = {
        "symbols": len(rows),
        "last_session": days[-1],
        "advancers": sum(change > 0 for change in changes),
        "decliners": sum(change < 0 for change in changes),
        "unchanged": sum(change == 0 for change in changes),
        "new_highs": None if few else 120,
        "new_lows": None if few else 31,
        "above_50": round(sum(above) / len(above), 6) if above else None,
        "above_200": None,
        "completeness": {"missing": 1 if few else 0, "read_again": 3 * len(rows)},
    }
    summary = {
        "tiles": tiles,
        "best": top("change_1d"),
        "worst": top("change_1d", down=False),
        "unusual_volume": top("volume_ratio"),
    }
    return {**summary, "symbols": rows} if few else summary


def _state(
    rows: list[dict[str, Any]], days: list[str], corrected: Any, rejected: Any, missing: Any, *, few: bool
) -> dict[str, Any]:
    run = {"job_type": "daily_update", "as_of": "2013-03-02", "calls": 5, "error": None}
    state: dict[str, Any] = {
        "totals": {"rows": len(rows) * len(days), "missing": 1 if few else 0, "read_again": 3 * len(rows)},
        "oldest_reading": "2013-03-01T13:00:01Z",
        "last_session": days[-1],
        "splits": [],
        "corrections": [],
        "rejected": [],
        "runs": [
            {**run, "started_at": "2013-03-02T13:00:01Z", "status": "ok", "rows": 5},
            {**run, "started_at": "2013-03-01T13:00:01Z", "status": "failed", "rows": 0, "error": "no answer"},
        ],
    }
    if few:
        symbols = [{k: row[k] for k in ("symbol", "first", "last")} for row in rows]
        state["symbols"] = [{**row, "rows": len(days), "missing": 0, "read_again": 3} for row in symbols]
        was = {"open": 198.5, "high": 200.0, "low": 197.51, "close": 200.0, "volume": 3_000_000}
        change = {"symbol": "IBM", "date": corrected, "cause": "corrected", "at": "2013-02-05T13:00:03Z"}
        state["corrections"] = [{**change, "from": was, "to": {**was, "close": 199.97, "volume": 3_012_345}}]
        bar = {"o": 27.4, "h": 27.1, "l": 27.6, "c": 27.5, "v": 3.5e7}
        state["rejected"] = [{"symbol": "FB", "date": rejected, "reason": "high 27.1 is below low 27.6", "bar": bar}]
        state["splits"] = [{"symbol": "AAPL", "date": days[-30], "split_from": 1, "split_to": 2}]
    return state


def _calendar(
    symbols: tuple[str, ...], days: list[str], corrected: Any, rejected: Any, missing: Any, *, few: bool
) -> dict[str, Any]:
    plain = "s" * (len(days) - 3) + "ppp"
    if not few:
        other = {symbols[3]: _runs("o" * 90 + plain[90:]), symbols[40]: _runs("m" * 3 + plain[3:])}
        return {"overall": _runs(plain), "symbols": other}
    own = dict.fromkeys(symbols, plain)
    for symbol, day, letter in (("IBM", corrected, "c"), ("FB", rejected, "r"), ("GOOG", missing, "m")):
        place = days.index(day)
        own[symbol] = own[symbol][:place] + letter + own[symbol][place + 1 :]
    return {"overall": _runs(plain), "symbols": {symbol: _runs(letters) for symbol, letters in own.items()}}


def _runs(letters: str) -> list[list[Any]]:
    return [[found.group()[0], len(found.group())] for found in re.finditer(r"(.)\1*", letters)]


def single_page(folder: Path) -> str:
    """Put a whole site into one page."""
    index = json.loads((folder / "index.json").read_text())
    listed = [file for files in index["files"].values() for file in (files if isinstance(files, list) else [files])]
    texts = {"index": json.dumps(index)}
    for file in listed:
        content = (folder / file["path"]).read_bytes()
        is_json = file["path"].endswith(".json")
        texts[file["path"]] = content.decode() if is_json else json.dumps(base64.b64encode(content).decode())
    scripts = "".join(
        f'<script type="application/json" id="data-{name}">{text.replace("<", chr(92) + "u003c")}</script>\n'
        for name, text in texts.items()
    )
    page = (ASSETS / "index.html").read_text()
    style, app = (ASSETS / "style.css").read_text(), (ASSETS / "app.js").read_text()
    page = page.replace('<link rel="stylesheet" href="assets/style.css">', f"<style>{style}</style>")
    return page.replace('<script src="assets/app.js" defer></script>', f"{scripts}<script>{app}</script>")


class _Handler(SimpleHTTPRequestHandler):
    """Serves files with ranges, under the content policy."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for its own head to be acknowledged

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            super().do_GET()
            return
        start, end = int(wanted[1]), int(wanted[2]) + 1
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(end - start)
        self.send_response(206)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{path.stat().st_size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name of the base class
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that closed its connections."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine, and yield its URL."""
    server = _Server(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
