"""Price files: Parquet by symbol range, of which a page reads what it shows by range requests.

Numbers are whole millionths, packed by their differences: half the size of floats, and as exact as the table, since a
reader divides by a million. A column with more decimals than that is stored as floats in its file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from domain.errors import DataError
from domain.rounding import SCALE
from web.files import Published, publish_file

DELTA = "DELTA_BINARY_PACKED"
LARGEST = 2.0**53  # whole floats below it are exact
MAGIC = 8  # bytes after the metadata: their length, and the name of the format
WHOLE = ("volume", "sessions", "streak")  # numbers that are whole, and stored as they are


class Sizes(NamedTuple):
    """From how many rows on a file and a row group end; both end between two symbols."""

    file: int
    group: int


HISTORY = Sizes(file=110_000, group=2_000)  # a footer under 0.05 MB, and a row group under 0.1 MB
RECENT = Sizes(file=1_200, group=1_200)  # under 60 KB, which is read whole


class TableFile:
    """A Parquet file that is written a row group at a time.

    Parameters
    ----------
    path : pathlib.Path
    first : pandas.DataFrame
        Decides the columns: texts, dates (datetime64), and numbers, which are floats if any here is no whole millionth.
    """

    def __init__(self, path: Path, first: pd.DataFrame) -> None:
        self.path, self.rows = path, 0
        self._floats = set(_inexact(first))
        self._schema = pa.schema([(name, self._type(first[name])) for name in first.columns])
        texts = [each.name for each in self._schema if pa.types.is_string(each.type)]
        packed = [each.name for each in self._schema if each.type in (pa.int64(), pa.date32())]
        options: dict[str, Any] = {"use_dictionary": texts, "column_encoding": dict.fromkeys(packed, DELTA)}
        options |= {"write_statistics": ["symbol"], "compression": "snappy", "store_schema": False}
        self._writer = pq.ParquetWriter(path, self._schema, **options)

    def _type(self, values: pd.Series[Any]) -> pa.DataType:
        if values.dtype.kind == "M":
            return pa.date32()
        if values.dtype.kind not in "fiu":
            return pa.string()
        return pa.float64() if values.name in self._floats else pa.int64()

    def takes(self, rows: pd.DataFrame) -> bool:
        """Whether the columns of this file can hold these rows exactly."""
        return self._floats.issuperset(_inexact(rows))

    def write(self, rows: pd.DataFrame) -> None:
        """Write rows as a row group."""
        arrays = [_array(rows[each.name], each.type) for each in self._schema]
        self._writer.write_table(pa.table(arrays, schema=self._schema), row_group_size=len(rows))
        self.rows += len(rows)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def _array(values: pd.Series[Any], stored: pa.DataType) -> pa.Array:
    if stored == pa.date32():
        return pa.array(values.to_numpy().astype("datetime64[D]"), stored, from_pandas=True)
    if stored == pa.string():
        return pa.array(values.to_numpy(dtype=object), stored, from_pandas=True)
    numbers = values.to_numpy(dtype=np.float64)
    if stored == pa.float64():
        return pa.array(numbers, stored, from_pandas=True)
    unknown = np.isnan(numbers)
    return pa.array(_scaled(str(values.name), np.where(unknown, 0, numbers)).astype(np.int64), mask=unknown)


def _scaled(name: str, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return numbers if name in WHOLE else np.rint(numbers * SCALE)


def _inexact(rows: pd.DataFrame) -> Iterator[str]:
    """Yield the columns with a number that is not that of a whole one, or of whole millionths."""
    for name in rows.columns:
        if rows[name].dtype.kind not in "fiu":
            continue
        numbers = rows[name].to_numpy(dtype=np.float64)
        numbers = numbers[~np.isnan(numbers)]
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = _scaled(name, numbers)
            back = scaled if name in WHOLE else scaled / SCALE
            if not ((back == numbers) & (np.abs(scaled) < LARGEST) & (scaled % 1 == 0)).all():
                yield name


def read_table(path: Path, columns: Collection[str], *, rows: int) -> Iterator[pd.DataFrame]:
    """Read a price file in pieces of whole row groups, each of about so many rows.

    Raises
    ------
    DataError
        If it is no such file.
    """
    try:
        with pq.ParquetFile(path) as file:
            groups, held = list[int](), 0
            for group in range(file.num_row_groups):
                groups.append(group)
                held += file.metadata.row_group(group).num_rows
                if held >= rows or group + 1 == file.num_row_groups:
                    yield _frame(file.read_row_groups(groups, columns=list(columns), use_threads=False))
                    groups, held = [], 0
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is no price file: {str(error).splitlines()[0]}") from None


def _frame(table: pa.Table) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_date(column.type):
            columns[name] = column.to_numpy().astype("datetime64[s]")
        elif pa.types.is_string(column.type):
            columns[name] = pd.Series(column.to_pandas(), dtype="str")
        else:
            is_scaled = pa.types.is_integer(column.type) and name not in WHOLE
            columns[name] = column.to_numpy().astype(np.float64) / (SCALE if is_scaled else 1)
    return pd.DataFrame(columns)


def footer_size(path: Path) -> int:
    """How many bytes at a Parquet file's end tell where everything is."""
    with path.open("rb") as file:
        file.seek(-MAGIC, 2)
        return int.from_bytes(file.read(4), "little") + MAGIC


class PriceFiles:
    """Writes rows that arrive by symbol into files and row groups of whole symbols.

    Parameters
    ----------
    folder : pathlib.Path
        Where the files are made.
    name : str
        What they are called.
    sizes : Sizes

    Attributes
    ----------
    written : list of Published
        The finished files, in the order of their symbols.
    """

    def __init__(self, folder: Path, name: str, sizes: Sizes) -> None:
        self.written: list[Published] = []
        self._draft, self._name, self._sizes = folder / f"{name}.parquet", name, sizes
        self._waiting: list[pd.DataFrame] = []
        self._file: TableFile | None = None
        self._facts: dict[str, Any] = {}

    def add(self, rows: pd.DataFrame) -> None:
        """Take the rows of some symbols, sorted by symbol and date, behind all that were added before."""
        symbols = rows["symbol"].to_numpy(dtype=object)
        starts = (np.flatnonzero(symbols[1:] != symbols[:-1]) + 1).tolist()
        begin, held = 0, sum(map(len, self._waiting))
        for end in [*starts, len(rows)]:
            if held + end - begin >= self._sizes.group:
                self._waiting.append(rows.iloc[begin:end])
                self._end_group()
                begin, held = end, 0
        if begin < len(rows):
            self._waiting.append(rows.iloc[begin:])

    def _end_group(self) -> None:
        rows, self._waiting = pd.concat(self._waiting, ignore_index=True), []
        if self._file and not self._file.takes(rows):
            self._end_file()
        if not self._file:
            self._file = TableFile(self._draft, rows)
            self._facts = {"first_symbol": str(rows["symbol"].iloc[0]), "first": rows["date"].min()}
            self._facts["last"] = self._facts["first"]
        self._file.write(rows)
        self._facts["last_symbol"] = str(rows["symbol"].iloc[-1])
        self._facts["first"] = min(self._facts["first"], rows["date"].min())
        self._facts["last"] = max(self._facts["last"], rows["date"].max())
        if self._file.rows >= self._sizes.file:
            self._end_file()

    def _end_file(self) -> None:
        assert self._file  # noqa: S101 - one is open
        self._file.close()
        facts = {**self._facts, **{name: str(self._facts[name].date()) for name in ("first", "last")}}
        facts |= {"rows": self._file.rows, "footer": footer_size(self._draft)}
        self.written.append(publish_file(self._draft, self._name, **facts))
        self._file = None

    def finish(self) -> None:
        """Write what was added since the last file, if anything, so that the next rows begin another one."""
        if self._waiting:
            self._end_group()
        if self._file:
            self._end_file()
