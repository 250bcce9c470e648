"""A synthetic market put straight into the tables, as daily updates of the whole market would leave it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from config import Settings
from database import insert_bars, record_first_load, replace_coverage
from domain.coverage import Readings, add_reading
from domain.models import EVERY_SYMBOL, PRICE_COLUMNS
from sandbox.bars import TICKS_PER_DOLLAR, BarArrays
from storage.commits import count_commit
from storage.engine import database_time, transaction
from storage.migration import ensure_schema
from transformations import compute_metrics

SETTLE_SESSIONS: int = Settings.model_fields["settle_sessions"].default


class FilledMarket:
    """The tables of a market in which every symbol trades in each session.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of an empty database.
    bars : BarArrays
    """

    def __init__(self, engine: Engine, bars: BarArrays) -> None:
        self._engine, self._bars, self._readings = engine, bars, Readings()
        self._prices = bars.prices / TICKS_PER_DOLLAR
        shape = len(bars.symbols), len(bars.sessions)
        code = np.repeat(np.arange(shape[0]), shape[1])
        metrics = compute_metrics(code, *(self._prices[n].T.ravel() for n in (1, 2, 3)))
        self._volatility, self._average, self._change = (values.reshape(shape) for values in metrics)
        with transaction(engine) as connection:
            ensure_schema(connection)

    def load(self, places: Sequence[int]) -> date:
        """Load the sessions at these places, one after the other, and return the last one."""
        first, last = (self._bars.sessions[places[n]] for n in (0, -1))
        self._readings = add_reading(self._readings, first, last, last, SETTLE_SESSIONS)
        pairs: Any = [{"symbols": [EVERY_SYMBOL], "first": str(first), "last": str(last)}]
        with transaction(self._engine) as connection:
            for place in places:
                insert_bars(connection, self._rows(place))
            replace_coverage(connection, {EVERY_SYMBOL: self._readings})
            record_first_load(connection, pairs, run_id="filled", at=database_time(connection))
            count_commit(connection)
        return last

    def _rows(self, place: int) -> pd.DataFrame:
        columns = {
            "date": np.datetime64(self._bars.sessions[place], "s"),
            "symbol": pd.Series(self._bars.symbols, dtype="str"),
            **{name: self._prices[n, place] for n, name in enumerate(PRICE_COLUMNS)},
            "volume": self._bars.volumes[place],
            "volatility": self._volatility[:, place],
            "rolling_avg": self._average[:, place],
            "daily_pct_change": self._change[:, place],
        }
        return pd.DataFrame(columns)
