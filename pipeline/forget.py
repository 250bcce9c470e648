"""Forget a symbol: keep its prices in a file, and remove its rows from every table."""

from __future__ import annotations

import csv
from pathlib import Path

from sqlalchemy import Engine

import database
import utils
from domain.errors import DataError
from storage.engine import redacted_url, transaction
from storage.schema import TABLE


def count_rows(engine: Engine, symbol: str) -> int:
    """Return how many rows of a symbol are stored.

    Raises
    ------
    DataError
        If there are none.
    """
    with utils.reading(engine) as connection:
        stored = utils.read_stored(connection, [symbol]) if connection else {}
    if symbol not in stored:
        raise DataError(f"{symbol!r} has no rows in {redacted_url(engine)}; `status` names the symbols that have")
    return stored[symbol][0]


def forget_symbol(engine: Engine, symbol: str, backup: Path) -> int:
    """Write a symbol's rows of ``stock_data`` to a CSV file, and remove all that is known of it, in one transaction.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    symbol : str
    backup : pathlib.Path
        A file that does not exist.

    Returns
    -------
    int
        How many rows of ``stock_data`` there were.

    Raises
    ------
    DataError
        If the file exists. Nothing was removed.
    """
    with transaction(engine) as connection:
        rows = utils.read_rows_as_stored(connection, symbol)
        try:
            with backup.open("x", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([TABLE, *rows])
        except FileExistsError:
            raise DataError(f"{backup} exists, and the rows of {symbol} would replace it: move it away first") from None
        database.forget(connection, symbol)
    return len(rows)
