"""Commit responses: what the provider says now replaces what is stored, in one transaction.

Bars, metrics, coverage, revisions, rejected bars and the run's counts commit together. What is corrected, withdrawn or
appears late is kept in ``bar_revisions``.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection

import database
import utils
from domain.coverage import Coverage, Readings, add_reading, is_settled, unread_ranges
from domain.errors import EnvelopeError
from domain.models import EVERY_SYMBOL, Counts, RejectedBar
from domain.planner import GroupedCall, RangeCall
from pipeline.closes import ClosesAtHand
from pipeline.fetcher import Reach, Response
from pipeline.run import Run
from pipeline.splits import is_off, is_suspect, mark_restated, read_history_of, rescale_unreachable
from storage.commits import read_commits
from storage.engine import database_time, transaction
from transformations import add_metrics, clean

FEW = 3  # stored bars that an answer may lack without being doubted
FEW_SHARE = 0.05  # and the share of them

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Answer:
    """What of an answer goes into coverage: its symbols and sessions, and how far the provider was published then."""

    symbols: tuple[str, ...]
    sessions: list[date]
    seen_to: date | None
    doubted: bool = False


@dataclass
class LoadState:
    """What a load has seen so far.

    Attributes
    ----------
    settle : int
        Later sessions with which a session is settled.
    force : bool
        Whether answers in doubt are accepted.
    reach : Reach
        How far the provider's plan reaches back.
    seen_to : datetime.date or None
        The last session of which a bar of any symbol is known.
    adopted_to : datetime.date or None
        The last session that was stored when the table was adopted.
    market : Future of list of str, or None
        For the whole market, the symbols that had rows when the load began; read while the first answer is fetched.
    settled : set of datetime.date
        The sessions that were settled for any wanted symbol when the load began.
    newly_settled, shown : set of datetime.date
        The sessions that this load settled, and those of which it has seen a bar of any symbol.
    closes : ClosesAtHand
        What the metrics of the next batch depend on.
    early : list of Answer
        The answers so far; some were read before a later session was known to be published.
    factors : dict of str to list of float
        By how much closes of a symbol were off.
    suspects : dict of str to str
        Symbols whose whole history is to be read again, with the reason.
    errors : list of EnvelopeError
        Why answers did not count.
    """

    settle: int
    force: bool
    reach: Reach
    seen_to: date | None = None
    adopted_to: date | None = None
    market: Future[list[str]] | None = None
    settled: set[date] = field(default_factory=set)
    newly_settled: set[date] = field(default_factory=set)
    shown: set[date] = field(default_factory=set)
    closes: ClosesAtHand = field(default_factory=ClosesAtHand)
    early: list[Answer] = field(default_factory=list)
    factors: dict[str, list[float]] = field(default_factory=dict)
    suspects: dict[str, str] = field(default_factory=dict)
    errors: list[EnvelopeError] = field(default_factory=list)


def commit_batch(run: Run, batch: Sequence[Response], state: LoadState) -> None:
    """Commit a batch of responses, of which a later bar replaces an earlier one."""
    seen_to = [see(state, response) for response in batch]
    bars = clean(pd.concat([response.accepted for response in batch], ignore_index=True))
    spans = _spans(run, batch, bars, state)
    with transaction(run.context.engine) as connection:
        at = database_time(connection)
        neighbors = state.closes.read_neighbors(connection, spans)
        stored = _stored_pairs(run, batch, neighbors)
        asked = np.logical_or.reduce(stored)
        match = _match(neighbors, bars)
        reasons = _find_suspects(state, neighbors, bars, np.where(asked, match, -1))
        database.record_suspects(connection, reasons, run_id=run.run_id, at=at)
        # A run beside others leaves the restatement of a split to the next one, which works alone.
        if withheld := utils.read_unrestated(connection):
            bars = bars[~bars["symbol"].isin(withheld)].reset_index(drop=True)
            stored = [mask & ~neighbors["symbol"].isin(withheld).to_numpy() for mask in stored]
            asked = np.logical_or.reduce(stored)
        absent = asked & (match < 0)
        doubted = [_doubt(run, state, response, mask, absent) for response, mask in zip(batch, stored, strict=True)]
        trusted = [mask for mask, doubt in zip(stored, doubted, strict=True) if not doubt]
        withdrawn = absent & np.logical_or.reduce([np.zeros(len(neighbors), dtype=bool), *trusted])

        metrics = add_metrics(bars, neighbors, withdrawn)
        counts = database.load_bars(connection, metrics, run_id=run.run_id, at=at)
        removed = neighbors[withdrawn]
        counts.withdrawn = database.remove_bars(connection, removed, run_id=run.run_id, at=at, cause="withdrawn")
        readings = [
            Answer(_asked_symbols(run, response, withheld), response.sessions, seen, doubt)
            for response, seen, doubt in zip(batch, seen_to, doubted, strict=True)
        ]
        fresh = metrics.rows[~metrics.is_stored]
        settled = record_coverage(run, connection, readings, fresh, state, at)
        rejected = [bar for response in batch for bar in response.rejected]
        counts.rejected = run.record_rejected(connection, rejected)
        run.save(connection, counts, seen_to=state.seen_to)
        commits = read_commits(connection)
    run.counts.add(counts)
    if EVERY_SYMBOL not in run.request.symbols:  # which no warning names
        run.stored.update(bars["symbol"].unique().tolist())
    state.newly_settled |= settled
    state.closes.keep(spans, neighbors[~withdrawn], bars, commits)


def see(state: LoadState, response: Response) -> date | None:
    """Take note of what a response shows, and return how far the provider was published then."""
    if response.error and response.error not in state.errors:
        state.errors.append(response.error)
    state.shown |= response.shown
    state.seen_to = max([*response.shown, *([state.seen_to] if state.seen_to else [])], default=None)
    return state.seen_to


def _spans(run: Run, batch: Sequence[Response], bars: pd.DataFrame, state: LoadState) -> pd.DataFrame:
    """The sessions of each symbol that the batch is about: ``symbol, earliest, latest``."""
    answered = [response for response in batch if response.sessions]
    grouped = [response.sessions for response in answered if isinstance(response.call, GroupedCall)]
    ranges = [(response.call, response.sessions) for response in answered if isinstance(response.call, RangeCall)]
    ends: dict[str, tuple[date, date]] = {}
    if grouped:
        symbols = list(run.request.symbols)
        if state.market:
            symbols = sorted({*state.market.result(), *bars["symbol"].unique().tolist()})
        ends = dict.fromkeys(symbols, (min(days[0] for days in grouped), max(days[-1] for days in grouped)))
    for call, days in ranges:
        first, last = ends.get(call.symbol, (days[0], days[-1]))
        ends[call.symbol] = min(first, days[0]), max(last, days[-1])
    pairs = list(ends.values()) if ranges else list(ends.values())[:1]  # without a range, all are the same
    dates = np.array(pairs, dtype="datetime64[s]").reshape(-1, 2)
    earliest, latest = np.broadcast_to(dates, (len(ends), 2)).T.copy()
    return pd.DataFrame({"symbol": pd.array(list(ends), dtype="str"), "earliest": earliest, "latest": latest})


def _stored_pairs(run: Run, batch: Sequence[Response], neighbors: pd.DataFrame) -> list[Mask]:
    """For each response, which of the stored neighbors it was asked for."""
    symbols, dates = neighbors["symbol"].to_numpy(), neighbors["date"].to_numpy()
    wanted = np.ones(len(neighbors), dtype=bool)
    if EVERY_SYMBOL not in run.request.symbols:
        wanted = neighbors["symbol"].isin(run.request.symbols).to_numpy()
    masks = []
    for response in batch:
        if not response.sessions:
            masks.append(np.zeros(len(neighbors), dtype=bool))
            continue
        ends = np.array([response.sessions[0], response.sessions[-1]], dtype="datetime64[s]")
        inside = (dates >= ends[0]) & (dates <= ends[1])
        call = response.call
        masks.append(inside & (symbols == call.symbol if isinstance(call, RangeCall) else wanted))
    return masks


def _match(neighbors: pd.DataFrame, bars: pd.DataFrame) -> npt.NDArray[np.intp]:
    """The place of the new bar of each stored neighbor; -1 where there is none."""
    code, _ = pd.factorize(pd.concat([bars["symbol"], neighbors["symbol"]], ignore_index=True))
    seconds = np.concatenate([bars["date"].to_numpy(), neighbors["date"].to_numpy()]).astype(np.int64)
    key = code * 2**40 + seconds  # the year 9999 is 2**38 seconds away
    places: npt.NDArray[np.intp] = pd.Index(key[: len(bars)]).get_indexer(key[len(bars) :])
    return places


def _find_suspects(
    state: LoadState, neighbors: pd.DataFrame, bars: pd.DataFrame, match: npt.NDArray[np.intp]
) -> dict[str, str]:
    """Find the symbols whose closes are off as by a restatement, over all answers of this load."""
    both = match >= 0
    with np.errstate(divide="ignore", invalid="ignore"):  # an adopted row may have a close of 0
        factors = bars["close"].to_numpy()[match[both]] / neighbors["close"].to_numpy()[both]
    off = is_off(factors)
    if not off.any():
        return {}
    found: dict[str, str] = {}
    for symbol, some in pd.Series(factors[off]).groupby(neighbors["symbol"].to_numpy()[both][off]):
        known = state.factors.setdefault(str(symbol), [])
        known += some.tolist()
        if is_suspect(known):
            found[str(symbol)] = f"{len(known)} closes are off, by factors from {min(known):.6g} to {max(known):.6g}"
    state.suspects |= found
    return found


def _doubt(run: Run, state: LoadState, response: Response, stored: Mask, absent: Mask) -> bool:
    """Whether an answer lacks so much of what is stored that nothing is withdrawn because of it."""
    asked, lacking = int(stored.sum()), int((stored & absent).sum())
    doubted = not state.force and is_doubtful(asked, lacking)
    if doubted:
        run.warnings.append(
            f"the answer to {response.call} lacks {lacking} of {asked} stored bars: they are kept as they are;"
            " force accepts it"
        )
    return doubted


def is_doubtful(stored: int, lacking: int) -> bool:
    """Whether an answer lacks all, or more than 3 and over 5 %, of the stored bars of what it was asked for."""
    return 0 < stored == lacking or lacking > max(FEW, FEW_SHARE * stored)


def _asked_symbols(run: Run, response: Response, withheld: Set[str]) -> tuple[str, ...]:
    asked = (response.call.symbol,) if isinstance(response.call, RangeCall) else run.request.symbols
    return tuple(symbol for symbol in asked if symbol not in withheld)


def record_coverage(
    run: Run,
    connection: Connection,
    answers: Sequence[Answer],
    fresh: pd.DataFrame,
    state: LoadState,
    at: datetime,
) -> set[date]:
    """Record what was read, what of it was read for the first time, and bars that appear in sessions read before.

    A session is read if the provider shows a bar of it or of a later one, of any symbol.

    Parameters
    ----------
    run : Run
    connection : sqlalchemy.Connection
    answers : sequence of Answer
    fresh : pandas.DataFrame
        ``symbol, date`` of the bars that were not stored before.
    state : LoadState
    at : datetime.datetime

    Returns
    -------
    set of datetime.date
        The sessions that are settled by it.
    """
    before = utils.read_coverage(connection, sorted({symbol for answer in answers for symbol in answer.symbols}))
    market = before.get(EVERY_SYMBOL, ())
    after: dict[str, Readings] = {}
    first_reads: dict[tuple[date, date], list[str]] = {}
    settled: set[date] = set()
    for answer in answers:
        published = [day for day in answer.sessions if answer.seen_to and day <= answer.seen_to]
        if not answer.doubted and answer.sessions:
            state.early.append(answer)
        if not published or answer.seen_to is None:
            continue
        ends = published[0], published[-1]
        for symbol in answer.symbols:
            known = after.get(symbol, before.get(symbol, ()))
            after[symbol] = add_reading(known, *ends, answer.seen_to, state.settle, trusted=not answer.doubted)
            if not answer.doubted:
                for gap in unread_ranges(known, *ends):
                    first_reads.setdefault(gap, []).append(symbol)
        if not answer.doubted:
            settled |= {day for day in published if is_settled(day, answer.seen_to, state.settle)}
    changed = {symbol: readings for symbol, readings in after.items() if readings != before.get(symbol)}
    database.replace_coverage(connection, changed)
    pairs: list[database.FirstRead] = [
        {"symbols": symbols, "first": str(first), "last": str(last)} for (first, last), symbols in first_reads.items()
    ]
    database.record_first_load(connection, pairs, run_id=run.run_id, at=at)
    read_before = _are_covered(before, market, fresh)
    read_now = _are_covered(after, after.get(EVERY_SYMBOL, ()), fresh)
    adopted = fresh["date"].to_numpy() <= np.datetime64(state.adopted_to or date.min, "s")
    unlisted = ~read_before & (adopted | ~read_now)
    database.record_appeared(connection, fresh[read_before], run_id=run.run_id, at=at, cause="appeared")
    database.record_appeared(connection, fresh[unlisted], run_id=run.run_id, at=at, cause="loaded")
    return settled - state.settled


def _are_covered(coverage: Coverage, market: Readings, bars: pd.DataFrame) -> Mask:
    """Whether each bar (``symbol, date``) is of a session that has been read."""
    dates = bars["date"].to_numpy()
    covered = np.zeros(len(bars), dtype=bool)

    def mark(rows: Any, readings: Readings) -> None:
        for reading in readings:
            first, last = np.array([reading.first, reading.last], dtype="datetime64[s]")
            covered[rows] |= (dates[rows] >= first) & (dates[rows] <= last)

    mark(slice(None), market)
    own = coverage.keys() - {EVERY_SYMBOL}
    if own and len(bars):
        code, names = pd.factorize(bars["symbol"])
        order = np.argsort(code, kind="stable")
        starts = np.searchsorted(code[order], np.arange(len(names) + 1))
        for n, name in enumerate(names):
            if name in own:
                mark(order[starts[n] : starts[n + 1]], coverage[name])
    return covered


def commit_restatement(run: Run, response: Response, state: LoadState) -> None:
    """Replace the whole history of a symbol by one answer, unless the answer is in doubt."""
    seen_to, sessions = see(state, response), response.sessions
    if response.error or not sessions or not isinstance(response.call, RangeCall):
        return
    symbol, bars = response.call.symbol, clean(response.accepted)
    with transaction(run.context.engine) as connection:
        at = database_time(connection)
        stored = read_history_of(connection, symbol)
        ends = np.array([sessions[0], sessions[-1]], dtype="datetime64[s]")
        inside = ((stored["date"] >= ends[0]) & (stored["date"] <= ends[1])).to_numpy()
        withdrawn = inside & ~stored["date"].isin(bars["date"]).to_numpy()
        counts, settled = Counts(), set[date]()
        rejected: list[RejectedBar] = list(response.rejected)
        if not _doubt(run, state, response, inside, withdrawn):
            rescaled, moved = rescale_unreachable(run, symbol, stored, bars, sessions[0])
            gone = withdrawn | stored["date"].isin([pd.Timestamp(bar.date) for bar in moved if bar.date]).to_numpy()
            new = pd.concat([rescaled, bars], ignore_index=True)
            metrics = add_metrics(new, stored[["symbol", "date", "close"]], gone)
            counts = database.load_bars(connection, metrics, run_id=run.run_id, at=at, cause="restated")
            database.mark_rescaled(connection, symbol, sessions[0], at=at)
            removed = stored[gone]
            counts.withdrawn = database.remove_bars(connection, removed, run_id=run.run_id, at=at, cause="withdrawn")
            fresh = metrics.rows[~metrics.is_stored]
            answer = Answer((symbol,), sessions, seen_to, doubted=False)
            settled = record_coverage(run, connection, [answer], fresh, state, at)
            mark_restated(run, connection, symbol, stored, bars)
            rejected += moved
        counts.rejected = run.record_rejected(connection, rejected)
        run.save(connection, counts, seen_to=state.seen_to)
    run.counts.add(counts)
    state.newly_settled |= settled
