"""Bars of a whole market by column. Arrow parses them without the interpreter, which is free for a commit meanwhile.

Only an answer as regular as nearly all are is read like this.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

_NUMBERS = "ohlcvt"  # in every bar
_RARELY_ABSENT = ["vw", "n"]  # more numbers
_FIELDS = {"T": pa.string(), **dict.fromkeys([*_NUMBERS, *_RARELY_ABSENT], pa.float64()), "otc": pa.bool_()}
_SCHEMA = pa.schema({"results": pa.list_(pa.struct(_FIELDS))})


class BarColumns(Sequence[Any]):
    """Bars by column; as a sequence, the same bars as objects, which are parsed once one is asked for.

    Attributes
    ----------
    columns : dict of str to pyarrow.Array
        ``T``, the symbols, and ``o, h, l, c, v, t`` as float64; no value is null, NaN or infinite.
    """

    def __init__(self, text: bytes, columns: dict[str, Any]) -> None:
        self._text, self.columns = text, columns

    def __len__(self) -> int:
        return len(self.columns["T"])

    def __getitem__(self, place: Any) -> Any:
        return self._objects[place]

    @cached_property
    def _objects(self) -> list[Any]:
        bars: list[Any] = orjson.loads(self._text)
        return bars


def read_columns(body: bytes) -> dict[str, Any] | None:
    """Parse an answer whose ``results`` are bars of many symbols.

    Returns
    -------
    dict or None
        What ``orjson.loads`` returns, but ``results`` are :class:`BarColumns`. None if the answer is irregular in any
        way: not JSON, not ASCII, an escape, another list, or a bar that is not an object, lacks a field, has an unknown
        one or one twice, or a value of another type, below 0 or beyond float64.
    """
    if not body.isascii() or b"\\" in body or body.count(b"[") != 1 or body.count(b"]") != 1:
        return None
    first, end = body.index(b"["), body.index(b"]") + 1
    try:  # all but the bars; where that is valid, Arrow is given nothing but a list, on other JSON it can crash
        envelope = orjson.loads(body[: first + 1] + body[end - 1 :])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(envelope, dict) or envelope.get("results") != []:
        return None
    text = body[first:end]
    columns = _parse(text)
    return None if columns is None else {**envelope, "results": BarColumns(text, columns)}


def _parse(text: bytes) -> dict[str, Any] | None:
    from pyarrow import json

    line = b'{"results":%b}' % text
    try:
        table = json.read_json(
            pa.BufferReader(line),
            json.ReadOptions(use_threads=False, block_size=len(line) + 1),
            json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid:
        return None
    bars = table["results"].combine_chunks().flatten()
    columns = dict(zip(_FIELDS, bars.flatten(), strict=True))
    if not len(bars) or any(columns[name].null_count for name in ["T", *_NUMBERS]):
        return None
    # Arrow also reads NaN and Infinity, and keeps the sign of -0, which orjson does not.
    numbers = [columns[name].drop_null().to_numpy() for name in [*_NUMBERS, *_RARELY_ABSENT]]
    are_regular = all(np.isfinite(values).all() and not np.signbit(values).any() for values in numbers)
    return columns if are_regular else None
