"""Bars of a whole market by column. Arrow parses them outside the interpreter, which is free for a commit meanwhile.

Only regular answers are read like this, as nearly all are. All others are left to the parser of single bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

MOST_BYTES = 4_000_000  # three times the whole market; Arrow takes several times as much
_REQUIRED = ["T", "o", "h", "l", "c", "v", "t"]
_NUMBERS = [*_REQUIRED[1:], "vw", "n"]
_FIELDS = {"T": pa.string(), **dict.fromkeys(_NUMBERS, pa.float64()), "otc": pa.bool_()}
_SCHEMA = pa.schema({"results": pa.list_(pa.struct(_FIELDS))})


class BarColumns(Sequence[Any]):
    """Bars by column; as a sequence, the same bars as objects, which are parsed once one is asked for.

    Attributes
    ----------
    columns : dict of str to pyarrow.Array
        ``T``, the symbols, and ``o, h, l, c, v, t`` as float64; no value is null, NaN or infinite.
    """

    def __init__(self, line: bytes, columns: dict[str, Any]) -> None:
        self._line, self.columns = line, columns

    def __len__(self) -> int:
        return len(self.columns["T"])

    def __getitem__(self, place: Any) -> Any:
        return self._objects[place]

    @cached_property
    def _objects(self) -> list[Any]:
        bars: list[Any] = orjson.loads(self._line)["results"]
        return bars


def read_columns(body: bytes) -> dict[str, Any] | None:
    """Parse an answer whose ``results`` are bars of many symbols.

    Returns
    -------
    dict or None
        What ``orjson.loads`` returns, but ``results`` are :class:`BarColumns`. None if the answer is irregular in any
        way: not JSON, too large, not ASCII, an escape, a second list or page, or a bar that is not an object, lacks a
        field, has an unknown one or one twice, or a value of another type, below 0 or beyond float64.
    """
    if len(body) > MOST_BYTES or not body.isascii() or b"\\" in body or body.count(b"[") != 1:
        return None
    first = body.find(b"[")
    last = body.find(b"]", first)
    try:  # Without escapes, this is valid only where no bracket was in a string.
        envelope = orjson.loads(body[: first + 1] + body[last:])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(envelope, dict) or envelope.get("results") != [] or envelope.get("next_url"):
        return None
    line = b'{"results":%b}' % body[first : last + 1]  # nothing but a list: on other JSON Arrow can crash
    columns = _parse(line)
    return None if columns is None else {**envelope, "results": BarColumns(line, columns)}


def _parse(line: bytes) -> dict[str, Any] | None:
    from pyarrow import json

    try:
        table = json.read_json(
            pa.BufferReader(line),
            json.ReadOptions(use_threads=False, block_size=len(line) + 1),
            json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="error"),
            memory_pool=pa.system_memory_pool(),  # it gives back what is no longer needed: a function has 256 MB
        )
    except pa.ArrowInvalid:
        return None
    bars = table["results"].combine_chunks().flatten()
    columns = dict(zip(_FIELDS, bars.flatten(), strict=True))
    if not len(bars) or any(columns[name].null_count for name in _REQUIRED):
        return None
    # Arrow also reads NaN and Infinity, and keeps the sign of -0, which orjson does not.
    numbers = [columns[name].drop_null().to_numpy() for name in _NUMBERS]
    are_regular = all(np.isfinite(values).all() and not np.signbit(values).any() for values in numbers)
    return columns if are_regular else None
