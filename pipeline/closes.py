"""The closes at hand: what the metrics of a load's next batch depend on, kept from the batch before."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd
from sqlalchemy import Connection

import utils
from storage.commits import read_commits
from transformations import last_closes


@dataclass
class ClosesAtHand:
    """The last stored closes of symbols, as the last batch of a load left them.

    They stand in for the table while no other commit has changed a bar, and for a batch that lies wholly after them.

    Attributes
    ----------
    closes : pandas.DataFrame
        ``symbol, date, close`` of the last 4 stored bars of each symbol.
    symbols : set of str
        The symbols of which these are the last ones, also those that have none. No later bar of them is stored.
    commits : int
        The counter of commits when they were stored, or what the last batch has left.
    """

    closes: pd.DataFrame = field(default_factory=utils.no_closes)
    symbols: set[str] = field(default_factory=set)
    commits: int = 0
    _left: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame] | None = None  # by the last batch, until the next one asks

    def read_neighbors(self, connection: Connection, spans: pd.DataFrame) -> pd.DataFrame:
        """Return what :func:`utils.read_neighbors` does, and read only what is not at hand.

        Closes of other symbols may be among them, all from before the spans.
        """
        self._take_over()
        if not self._can_serve(connection, spans):
            self.closes, self.symbols = utils.no_closes(), set()
            return utils.read_neighbors(connection, spans)
        unknown = [symbol not in self.symbols for symbol in spans["symbol"].tolist()]
        read = utils.read_neighbors(connection, spans[unknown].reset_index(drop=True))
        return pd.concat([self.closes, read], ignore_index=True)

    def _can_serve(self, connection: Connection, spans: pd.DataFrame) -> bool:
        if not self.symbols:
            return False
        is_after = self.closes.empty or bool(spans["earliest"].min() > self.closes["date"].max())
        return is_after and read_commits(connection) == self.commits

    def keep(self, spans: pd.DataFrame, neighbors: pd.DataFrame, bars: pd.DataFrame, commits: int) -> None:
        """Keep what a batch leaves stored, once it is committed, for the next one, if there is any.

        Parameters
        ----------
        spans, neighbors : pandas.DataFrame
            What was asked of :meth:`read_neighbors` for the batch, and what it returned, without removed bars.
        bars : pandas.DataFrame
            The new bars.
        commits : int
            The counter at the end of the batch's transaction.
        """
        self._left, self.commits = (spans, neighbors, bars), commits

    def _take_over(self) -> None:
        """Reduce what the last batch has left to the last closes."""
        if self._left is None:
            return
        (spans, neighbors, bars), self._left = self._left, None
        self.closes = last_closes(neighbors, bars)
        self.symbols |= set(spans["symbol"].tolist())
        # Of a symbol with bars after its span only the next few were read: which are its last is not known.
        if goes_on := set(neighbors["symbol"][neighbors["date"] > spans["latest"].min()].tolist()):
            self.closes = self.closes[[symbol not in goes_on for symbol in self.closes["symbol"].tolist()]]
            self.symbols -= goes_on
