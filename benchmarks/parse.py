"""Parse a grouped response of the whole market into valid bars: by column, and bar by bar with two parsers.

All validate the same 11,000 bars by the same rules. The ratios are the standard library's parser / orjson, for the
parser alone and including validation; and bar by bar with orjson / by column, once and in two threads at once, which
the interpreter lets run beside each other by column only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.common import machine, medians, show
from domain.columns import read_columns
from domain.validation import validate_bars
from sandbox.api import Market
from sandbox.history import PriceHistory

SESSION, TODAY = date(2025, 12, 31), date(2026, 1, 2)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--symbols", type=int, default=11_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    market = Market(PriceHistory.synthetic(options.symbols, 1, seed=7, end=SESSION), TODAY, "")
    _, document = market.answer(f"/v2/aggs/grouped/locale/us/market/stocks/{SESSION}")
    body = orjson.dumps(document)
    assert orjson.loads(body) == json.loads(body)

    def by_column() -> None:
        answer = read_columns(body)
        assert answer
        validate_bars(answer["results"], [SESSION])

    def bar_by_bar() -> None:
        validate_bars(orjson.loads(body)["results"], [SESSION])

    seconds = medians(
        {
            "orjson": lambda: orjson.loads(body),
            "json": lambda: json.loads(body),
            "orjson, validated": bar_by_bar,
            "json, validated": lambda: validate_bars(json.loads(body)["results"], [SESSION]),
            "by column, validated": by_column,
            "orjson, validated, in two threads": lambda: in_two_threads(bar_by_bar),
            "by column, validated, in two threads": lambda: in_two_threads(by_column),
        },
        options.repeats,
    )
    results = [{"way": way, "bytes": len(body), "seconds": round(taken, 4)} for way, taken in seconds.items()]
    ratios = {
        "parse": round(seconds["json"] / seconds["orjson"], 2),
        "parse_and_judge": round(seconds["json, validated"] / seconds["orjson, validated"], 2),
        "by_column": round(seconds["orjson, validated"] / seconds["by column, validated"], 2),
        "by_column_in_two_threads": round(
            seconds["orjson, validated, in two threads"] / seconds["by column, validated, in two threads"], 2
        ),
    }
    show({**machine("orjson"), "results": results, "ratios": ratios}, as_json=options.json)


def in_two_threads(way: Callable[[], object]) -> None:
    """Go a way twice at once."""
    with ThreadPoolExecutor(2) as executor:
        for done in [executor.submit(way), executor.submit(way)]:
            done.result()


if __name__ == "__main__":
    main()
