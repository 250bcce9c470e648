"""Read a function's log as CloudWatch does.

Metrics follow the specification of the embedded metric format. Fields follow Logs Insights, which joins nested names
with dots.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

UNITS = {"Count", "Seconds", "Megabytes"}  # CloudWatch knows more; these are in use


def documents(lines: list[str]) -> list[dict[str, Any]]:
    """Parse the lines that are JSON objects."""
    parsed = [json.loads(line) for line in lines if line.startswith("{")]
    assert all(isinstance(document, dict) for document in parsed)
    return parsed


def metrics(document: dict[str, Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, str]]:
    """Value and unit by name and dimensions; what CloudWatch would drop silently fails here."""
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
    """Every field that a query can name, and its value."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
