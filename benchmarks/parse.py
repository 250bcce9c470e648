"""Parse a grouped response of the whole market into valid bars: orjson against the standard library's parser.

Both validate the same 11,000 bars by the same rules; only the parser differs. The ratios are theirs / ours, for the
parser alone and including validation.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.common import machine, medians, show
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
    seconds = medians(
        {
            "orjson": lambda: orjson.loads(body),
            "json": lambda: json.loads(body),
            "orjson, validated": lambda: validate_bars(orjson.loads(body)["results"], [SESSION]),
            "json, validated": lambda: validate_bars(json.loads(body)["results"], [SESSION]),
        },
        options.repeats,
    )
    results = [{"way": way, "bytes": len(body), "seconds": round(taken, 4)} for way, taken in seconds.items()]
    ratios = {
        "parse": round(seconds["json"] / seconds["orjson"], 2),
        "parse_and_judge": round(seconds["json, validated"] / seconds["orjson, validated"], 2),
    }
    show({**machine("orjson"), "results": results, "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
