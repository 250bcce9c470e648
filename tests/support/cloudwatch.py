"""CloudWatch's reading of a function's log: what it takes a line for.

Metrics follow the embedded metric format's specification, fields the rules of Logs Insights for JSON: nested names with
dots between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

UNITS = {"Count", "Seconds", "Megabytes"}  # those in use, of the ones that CloudWatch knows


def documents(lines: list[str]) -> list[dict[str, Any]]:
    """The lines that are JSON objects."""
    parsed = [json.loads(line) for line in lines if line.startswith("{")]
    assert all(isinstance(document, dict) for document in parsed)
    return parsed


def metrics(document: dict[str, Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, str]]:
    """Value and unit by name and dimensions; whatever CloudWatch would drop without a word fails here."""
    found = {}
    header = document["_aws"]
    assert isinstance(header["Timestamp"], int)
    assert header["Timestamp"] > 10**12, "milliseconds"
    for directive in header["CloudWatchMetrics"]:
        assert re.fullmatch(r"[A-Za-z0-9._/#:-]{1,255}", directive["Namespace"])
        assert 1 <= len(directive["Metrics"]) <= 100
        for dimensions in directive["Dimensions"]:
            assert len(dimensions) <= 30
            named = tuple((name, document[name]) for name in dimensions)
            assert all(isinstance(value, str) and 1 <= len(value) <= 1024 for _, value in named)
            for metric in directive["Metrics"]:
                values = document[metric["Name"]]
                (value,) = values if isinstance(values, list) else [values]
                assert isinstance(value, int | float)
                assert not isinstance(value, bool)
                assert metric["Unit"] in UNITS
                found[metric["Name"], named] = (value, metric["Unit"])
    return found


def fields(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that a query can name, with its value."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
