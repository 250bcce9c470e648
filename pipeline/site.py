"""Publish the market page: read the tables as of one moment, make the site's files, and put them in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection

import utils
from domain.calendar import previous_session, sessions_between
from domain.coverage import Grid, count_pairs, unread_pairs, unsettled_pairs
from domain.errors import DataError, DeliveryError, TimeUpError
from domain.models import EVERY_SYMBOL, PRICE_COLUMNS, Request
from pipeline.context import RunContext, is_sandbox
from pipeline.market import MarketReader, history_end
from pipeline.plan import LoadPlan, plan_update
from storage.engine import redacted_url
from web import documents
from web.assets import MISSING, Assets, read_assets
from web.documents import FEW, Completeness
from web.files import Published, publish_bytes, publish_file
from web.prices import TableFile, footer_size
from web.publish import VERSION, put_site, read_index, settle_index
from web.target import Target

OVERVIEW_ROWS = 1_000  # per row group, of which a symbol's page reads one
SHOWN_CHANGES, SHOWN_REJECTED, SHOWN_RUNS = 50, 50, 20
STATE_SYMBOLS = 1_000  # whose states are told at a time
LONGEST_BAR = 500  # characters of a rejected bar


@dataclass(frozen=True)
class Publication:
    """A site that is in its place.

    Attributes
    ----------
    symbols : int
        How many it shows.
    written : list of str
        The paths that were written; empty if nothing had changed.
    single : bytes or None
        The page with everything inside, of few symbols.
    """

    symbols: int
    written: list[str]
    single: bytes | None


def publish_site(
    context: RunContext, symbols: Sequence[str], as_of: date, target: Target, *, assets: Assets | None = None
) -> Publication:
    """Publish all that is stored.

    Parameters
    ----------
    context : RunContext
    symbols : sequence of str
        Those that runs keep up to date, by which completeness is measured.
    as_of : datetime.date
        Stands for today.
    target : Target
    assets : Assets, optional
        The built page; by default that of this installation.

    Raises
    ------
    DataError
        If nothing is stored, or the database cannot be read.
    DeliveryError
        If the page has not been built, or the target cannot be read or written.
    TimeUpError
        If the time left does not hold it; readers keep the site that they have.
    """
    assets = assets or read_assets()
    if assets is None:
        raise DeliveryError(MISSING)
    before = read_index(target)
    plan = plan_update(Request("daily_update", tuple(symbols), as_of, dry_run=True), context)
    with TemporaryDirectory(prefix="stock-tracker-site-") as folder:
        staging = Path(folder)
        with utils.reading(context.engine, snapshot=True) as connection:
            rows, first, last = utils.read_totals(connection) if connection is not None else (0, None, None)
            if connection is None or not rows or not first or not last:
                raise DataError(f"{redacted_url(context.engine)} holds no prices yet: run initialize first")
            ends = date.fromisoformat(first), date.fromisoformat(last)
            names = sorted(utils.read_stored_symbols(connection))
            sessions = sessions_between(ends[0], max(ends[1], previous_session(as_of)))
            end = history_end(sessions_between(*ends), context.settings.settle_sessions)
            market = MarketReader(connection, names, sessions, end, before, target, staging).read()
            state = _state(connection, plan, symbols, names, (rows, first, last))
            calendar = _calendar(connection, context, plan, symbols, names, market.stored, sessions)
            facts = {
                "as_of": str(as_of),
                "first": first,
                "last": last,
                "symbols": len(market.figures),
                "is_demo": all(map(is_sandbox, utils.read_providers(connection) or ["-"])),
                "sessions": [str(day) for day in sessions],
                "history_end": str(end) if end else None,
                "watermark": utils.read_watermark(connection)._asdict(),
            }
        completeness = Completeness(count_pairs(plan.missing), count_pairs(plan.provisional))
        summary = documents.summary(market.figures, market.counts, market.sparks, completeness)
        contents = {
            "summary": summary,
            "breadth": documents.breadth(market.counts),
            "state": state,
            "calendar": calendar,
        }
        files: dict[str, Published | list[Published]] = {
            name: publish_bytes(staging, name, ".json", documents.to_json(content))
            for name, content in contents.items()
        }
        files["overview"] = _write_overview(market.figures, staging)
        files |= {"history": market.history, "recent": market.recent}
        page_files, page = assets.publish(staging)
        index: dict[str, Any] = {"version": VERSION, "published_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", **facts}
        index["assets"] = {name: file.path for name, file in page_files.items()}
        index["files"] = {
            name: [each.entry() for each in file] if isinstance(file, list) else file.entry()
            for name, file in files.items()
        }
        index = settle_index(index, before)
        everything = list(page_files.values())
        for file in files.values():
            everything += file if isinstance(file, list) else [file]
        single = assets.single(index, everything) if len(names) <= FEW else None
        if context.deadline.remaining <= 0:
            raise TimeUpError("the time left does not hold putting the market page in its place")
        written = put_site(target, everything, index, before, page=page, single=single, damaged=market.damaged)
    return Publication(len(market.figures), written, single)


def _write_overview(figures: pd.DataFrame, staging: Path) -> Published:
    """Write the figures, a row per symbol, so that a page reads those of one symbol or of all."""
    draft = staging / "overview.parquet"
    file = TableFile(draft, figures)
    for start in range(0, len(figures), OVERVIEW_ROWS):
        file.write(figures.iloc[start : start + OVERVIEW_ROWS])
    file.close()
    return publish_file(draft, "overview", footer=footer_size(draft))


def _state(
    connection: Connection,
    plan: LoadPlan,
    symbols: Sequence[str],
    names: Sequence[str],
    stored_totals: tuple[int, str, str],
) -> dict[str, Any]:
    """Collect what is known of the data: what is missing, what changed, what was rejected, and the last runs."""
    rows, first, last = stored_totals
    totals = {"symbols": len(names), "rows": rows, "missing": count_pairs(plan.missing)}
    document: dict[str, Any] = {
        "totals": {**totals, "read_again": count_pairs(plan.provisional)},
        "last_session": last,
        "oldest_reading": _text(utils.read_oldest_reading(connection, symbols)),
        "symbols": [],
    }
    if len(names) <= FEW:
        stored = utils.read_stored(connection, [EVERY_SYMBOL])
        pairs = zip(plan.missing, plan.provisional, strict=True)
        counts = {
            symbol: (missing.bit_count(), again.bit_count())
            for symbol, (missing, again) in zip(symbols, pairs, strict=True)
        }
        for symbol in sorted({*names, *symbols} - {EVERY_SYMBOL}):
            missing, again = counts.get(symbol, counts.get(EVERY_SYMBOL, (0, 0)))
            count, since, until = stored.get(symbol, (0, None, None))
            document["symbols"].append(
                {
                    "symbol": symbol,
                    "rows": count,
                    "first": _text(since),
                    "last": _text(until),
                    "missing": missing,
                    "read_again": again,
                }
            )
    changes = utils.read_revisions(connection, [EVERY_SYMBOL], date.min, date.max, newest=SHOWN_CHANGES)
    document["corrections"] = [
        {
            "symbol": change.symbol,
            "date": str(change.session),
            "cause": change.cause,
            "at": str(change.as_of),
            "bars": change.bars,
            "from": dict(zip(PRICE_COLUMNS, change.old, strict=True)),
            "to": dict(zip(PRICE_COLUMNS, change.new, strict=True)),
        }
        for change in changes
    ]
    document["rejected"] = [
        {"symbol": symbol, "date": _text(day), "reason": reason, "bar": bar[:LONGEST_BAR]}
        for symbol, day, reason, bar in utils.read_last_rejected(connection, SHOWN_REJECTED)
    ]
    splits = utils.read_splits(connection, [EVERY_SYMBOL], date.fromisoformat(first), date.max)
    document["splits"] = [
        {
            "symbol": split.symbol,
            "date": str(split.execution_date),
            "split_from": split.split_from,
            "split_to": split.split_to,
        }
        for split, _ in splits
    ]
    document["runs"] = [_run(row) for row in utils.read_last_runs(connection, SHOWN_RUNS)]
    return document


def _run(row: Mapping[str, Any]) -> dict[str, Any]:
    written = sum(int(row[name]) for name in ("inserted", "updated", "withdrawn"))
    shown = {name: row[name] for name in ("started_at", "job_type", "status", "error")}
    return {**shown, "as_of": str(row["as_of"]), "calls": row["api_calls"], "rows": written}


def _text(day: date | None) -> str | None:
    return str(day) if day else None


def _calendar(
    connection: Connection,
    context: RunContext,
    plan: LoadPlan,
    symbols: Sequence[str],
    names: Sequence[str],
    stored: npt.NDArray[np.bool_],
    sessions: Sequence[date],
) -> dict[str, Any]:
    """Tell the state of each symbol's sessions; wanted symbols of which nothing is stored are among them."""
    lines = sorted({*names, *symbols} - {EVERY_SYMBOL})
    row = {symbol: place for place, symbol in enumerate(lines)}
    column = {day: place for place, day in enumerate(sessions)}

    def places(pairs: Iterable[tuple[str, date | None]]) -> tuple[list[int], list[int]]:
        known = [(row[symbol], column[day]) for symbol, day in pairs if symbol in row and day in column]
        return [each[0] for each in known], [each[1] for each in known]

    if len(lines) > len(names):
        wider = np.zeros((len(lines), len(sessions)), dtype=bool)
        wider[[row[name] for name in names]] = stored
        stored = wider
    within = [(place, column[day]) for place, day in enumerate(plan.sessions) if day in column]
    planned, shown = ([pair[side] for pair in within] for side in (0, 1))
    unread = _matrix(plan.missing, len(plan.sessions))
    plan_row = {symbol: place for place, symbol in enumerate(symbols)}
    coverage = utils.read_coverage(connection, [EVERY_SYMBOL])
    grid, settle = np.empty(stored.shape, dtype=np.uint8), context.settings.settle_sessions
    for start in range(0, len(lines), STATE_SYMBOLS):
        some = lines[start : start + STATE_SYMBOLS]
        part = slice(start, start + len(some))
        missing = np.zeros((len(some), len(sessions)), dtype=bool)
        for place, symbol in enumerate(some):
            if (planned_row := plan_row.get(symbol, plan_row.get(EVERY_SYMBOL))) is not None:
                missing[place, shown] = unread[planned_row, planned]
        grid[part] = documents.states(
            stored=stored[part],
            unread=_matrix(unread_pairs(some, sessions, coverage), len(sessions)),
            missing=missing,
            unsettled=_matrix(unsettled_pairs(some, sessions, coverage, settle), len(sessions)),
        )
    bounds = sessions[0], sessions[-1]
    documents.mark_changes(
        grid,
        corrected=places(utils.read_corrected(connection, *bounds)),
        rejected=places((name, day) for name, day, _ in utils.read_rejected(connection, [EVERY_SYMBOL], *bounds)),
    )
    return documents.calendar(lines, grid)


def _matrix(grid: Grid, sessions: int) -> npt.NDArray[np.bool_]:
    """Return the pairs of a grid as an array with a row per symbol and a column per session."""
    rows = b"".join(row.to_bytes(-(-sessions // 8), "little") for row in grid)
    packed = np.frombuffer(rows, dtype=np.uint8).reshape(len(grid), -1)
    return np.unpackbits(packed, axis=1, count=sessions, bitorder="little").astype(bool)
