"""Read all stored prices once, a block of symbols at a time: into figures, breadth and price files.

Settled history changes rarely. The price files of an earlier publication are read in place of the database, unless
something in them has changed, and are written anew when another week has settled.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection

import utils
from domain.calendar import next_session, week_start
from domain.errors import DataError
from domain.figures import AVERAGES, Histories, market_breadth, symbol_figures
from domain.models import BAR_COLUMNS, EVERY_SYMBOL
from web.documents import SPARK
from web.files import Published, is_intact
from web.prices import HISTORY, RECENT, PriceFiles, read_table
from web.target import Target

BLOCK_ROWS = 15_000  # of one read of a price file: a function has 256 MB, of which the libraries take two thirds
BLOCK_SYMBOLS = 40  # of one query of the database
COLUMNS = [*BAR_COLUMNS, "rolling_avg", "daily_pct_change", "volatility"]
FOR_FIGURES = ["symbol", "date", "high", "low", "close", "volume"]


@dataclass(frozen=True)
class Market:
    """What one reading of all prices leaves.

    Attributes
    ----------
    figures : pandas.DataFrame
        A row per symbol: ``symbol``, and the columns of :func:`domain.figures.symbol_figures`.
    counts : pandas.DataFrame
        Of :func:`domain.figures.market_breadth`.
    sparks : numpy.ndarray of float64
        The last closes of each symbol, NaN before its first.
    stored : numpy.ndarray of bool, shape (m, n)
        Which of the m stored symbols have a bar of which of the n sessions.
    history, recent : list of Published
        Price files of the sessions up to the last settled week, and of those after it, in the order of their symbols.
    damaged : set of str
        Paths of published price files that are not what their names say.
    """

    figures: pd.DataFrame
    counts: pd.DataFrame
    sparks: npt.NDArray[np.float64]
    stored: npt.NDArray[np.bool_]
    history: list[Published]
    recent: list[Published]
    damaged: set[str]


@dataclass(frozen=True)
class _Part:
    """Symbols side by side, and what the index says of their price file if nothing in it has changed."""

    symbols: list[str]
    entry: Mapping[str, Any] | None = None


def history_end(sessions: Sequence[date], settle: int) -> date | None:
    """Return the last session of the last week of which all sessions are settled; None if there is none.

    Parameters
    ----------
    sessions : sequence of datetime.date
        All up to the last one that is published, ascending.
    settle : int
        Later sessions with which one is settled.
    """
    settled = sessions[: len(sessions) - settle]
    return next((day for day in reversed(settled) if week_start(next_session(day)) != week_start(day)), None)


@dataclass
class MarketReader:
    """One reading of all prices.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction that sees one moment.
    symbols : sequence of str
        Every stored symbol, sorted.
    sessions : sequence of datetime.date
        Those to tell of which have a bar.
    end : datetime.date or None
        The last session of the history files.
    before : mapping or None
        The index of the site that is published.
    target : Target
        Where that is.
    staging : pathlib.Path
        A folder for files.
    """

    connection: Connection
    symbols: Sequence[str]
    sessions: Sequence[date]
    end: date | None
    before: Mapping[str, Any] | None
    target: Target
    staging: Path
    _figures: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    _counts: pd.DataFrame = field(default_factory=lambda: market_breadth(_no_bars()))
    _taken: int = 0  # symbols
    _damaged: set[str] = field(default_factory=set)

    def read(self) -> Market:
        """Read all prices."""
        self._days = np.array(self.sessions, dtype="datetime64[D]")
        self._stored = np.zeros((len(self.symbols), len(self._days)), dtype=bool)
        # What stays is allocated first and as a whole: in pieces, it would keep freed memory from being given back.
        self._sparks = np.full((len(self.symbols), SPARK), np.nan)
        self._rows = {symbol: row for row, symbol in enumerate(self.symbols)}
        self._history = PriceFiles(self.staging, "history", HISTORY)
        self._recent = PriceFiles(self.staging, "recent", RECENT)
        parts, earlier_end = self._parts()
        is_same_week = earlier_end == self.end
        kept: list[Published] = []
        if any(part.entry for part in parts):
            self._read_late(earlier_end or date.min)
        for part in parts:
            published = self._published(part)
            is_kept = published is not None and is_same_week
            for rows in self._blocks(part, published, FOR_FIGURES if is_same_week else COLUMNS):
                self._take(rows, into_history=not is_kept)
            if is_same_week:  # else all files are written anew, and may end where they will
                self._history.finish()
            if is_kept and published:
                kept.append(published)
        self._history.finish()
        self._recent.finish()
        history = sorted([*kept, *self._history.written], key=lambda each: str(each.facts["first_symbol"]))
        figures = pd.DataFrame({name: values[: self._taken] for name, values in self._figures.items()})
        figures = figures.astype(dict.fromkeys(figures.columns.intersection(["symbol", "cross"]), "str"))
        return Market(figures, self._counts, self._sparks, self._stored, history, self._recent.written, self._damaged)

    def _parts(self) -> tuple[list[_Part], date | None]:
        """Divide the symbols by the files of the earlier publication; return its history's last session as well."""
        whole = [_Part(list(self.symbols))], self.end
        try:
            before = self.before or {}
            entries = sorted(before["files"]["history"], key=lambda each: str(each["first_symbol"]))
            end = date.fromisoformat(before["history_end"])
            since = utils.Watermark(**before["watermark"])
        except (LookupError, TypeError, ValueError):
            return whole
        if not entries or self.end is None or end > self.end:
            return whole
        changed = utils.read_changed_symbols(self.connection, since, end)
        firsts = [entry["first_symbol"] for entry in entries]
        members: list[list[str]] = [[] for _ in entries]
        for symbol in self.symbols:
            members[max(bisect.bisect_right(firsts, symbol) - 1, 0)].append(symbol)
        is_new = EVERY_SYMBOL in changed
        return [
            _Part(names, None if is_new or not changed.isdisjoint(names) else entry)
            for entry, names in zip(entries, members, strict=True)
        ], end

    def _read_late(self, end: date) -> None:
        """Read the rows after the last session of the published history."""
        rows = utils.read_table(self.connection, [EVERY_SYMBOL], first=end + timedelta(days=1))
        self._late = rows.sort_values(["symbol", "date"], ignore_index=True)[COLUMNS]
        code, symbols = pd.factorize(self._late["symbol"])
        self._late_symbols = list(symbols)
        self._late_starts = np.searchsorted(code, np.arange(len(symbols) + 1)).tolist()

    def _late_until(self, symbol: str) -> int:
        """How many late rows there are up to those of a symbol."""
        return int(self._late_starts[bisect.bisect_right(self._late_symbols, symbol)])

    def _published(self, part: _Part) -> Published | None:
        """Find a part's price file; None if it is not what it was, or has a symbol that is stored no more."""
        if part.entry is None or not part.symbols:
            return None
        entry = part.entry
        path = self.target.fetch(entry["path"], self.staging)
        if path is None or not is_intact(path, entry["path"]):
            self._damaged.add(entry["path"])
            return None
        try:
            for rows in read_table(path, ["symbol"], rows=BLOCK_ROWS):
                if not set(rows["symbol"].unique()).issubset(part.symbols):
                    return None
        except DataError:
            return None
        facts = {name: value for name, value in entry.items() if name not in ("path", "bytes")}
        return Published(entry["path"], path.stat().st_size, path, facts)

    def _blocks(self, part: _Part, published: Published | None, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield the rows of a part's symbols, those of some symbols at a time, sorted by symbol and date."""
        if published is None:
            for start in range(0, len(part.symbols), BLOCK_SYMBOLS):
                rows = utils.read_table(self.connection, part.symbols[start : start + BLOCK_SYMBOLS])
                yield _sorted(rows)
            return
        place = self._late_starts[bisect.bisect_left(self._late_symbols, part.symbols[0])]
        for rows in read_table(published.source, columns, rows=BLOCK_ROWS):
            utils.keep_alive(self.connection)
            until = self._late_until(rows["symbol"].iloc[-1])
            yield _sorted(pd.concat([rows, self._late.iloc[place:until]], ignore_index=True) if place < until else rows)
            place = until
        if place < (until := self._late_until(part.symbols[-1])):
            yield self._late.iloc[place:until].reset_index(drop=True)

    def _take(self, rows: pd.DataFrame, *, into_history: bool) -> None:
        """Compute the figures of some symbols, and add their rows to the price files."""
        close = rows["close"].to_numpy(dtype=np.float64)
        with np.errstate(invalid="ignore"):
            usable = np.isfinite(close) & (close > 0)  # an adopted table may hold anything
        priced = rows if usable.all() else rows[usable]
        if len(priced):
            code, symbols = pd.factorize(priced["symbol"])
            numbers = (priced[name].to_numpy(dtype=np.float64) for name in ("high", "low", "close", "volume"))
            bars = Histories(code, priced["date"].to_numpy().astype("datetime64[D]"), *numbers)
            self._add_figures(np.asarray(symbols, dtype=object), bars)
            self._counts = self._counts.add(market_breadth(bars), fill_value=0).astype(np.int64)
            averages = {f"sma_{sessions}": bars.averages(sessions) for sessions in AVERAGES}
        else:
            averages = {f"sma_{sessions}": np.empty(0) for sessions in AVERAGES}
        rows = rows.assign(**{name: _spread(values, usable) for name, values in averages.items()})
        self._note_stored(rows)
        is_settled = rows["date"] <= pd.Timestamp(self.end or date.min)
        if into_history:
            self._history.add(rows[is_settled])
        self._recent.add(rows[~is_settled])

    def _add_figures(self, symbols: npt.NDArray[Any], bars: Histories) -> None:
        table = {"symbol": symbols, **{name: each.to_numpy() for name, each in symbol_figures(bars).items()}}
        place = slice(self._taken, self._taken + len(symbols))
        self._taken = place.stop
        for name, values in table.items():
            if name not in self._figures:
                self._figures[str(name)] = np.empty(len(self.symbols), dtype=values.dtype)
            self._figures[str(name)][place] = values
        for row, end, length in zip(range(place.start, place.stop), bars.last + 1, bars.lengths, strict=True):
            closes = bars.close[max(end - length, end - SPARK) : end]
            self._sparks[row, SPARK - len(closes) :] = closes

    def _note_stored(self, rows: pd.DataFrame) -> None:
        code, symbols = pd.factorize(rows["symbol"])
        days = rows["date"].to_numpy().astype("datetime64[D]")
        place = np.minimum(np.searchsorted(self._days, days), len(self._days) - 1)
        known = self._days[place] == days
        row = np.array([self._rows[symbol] for symbol in symbols], dtype=np.intp)[code]
        self._stored[row[known], place[known]] = True


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(["symbol", "date"], ignore_index=True).reindex(columns=COLUMNS)


def _spread(values: npt.NDArray[np.float64], usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Put the values of the usable rows where these are; the others have none."""
    spread = np.full(len(usable), np.nan)
    spread[usable] = values
    return spread


def _no_bars() -> Histories:
    nothing = np.empty(0)
    return Histories(np.empty(0, np.intp), np.empty(0, "datetime64[D]"), nothing, nothing, nothing, nothing)
