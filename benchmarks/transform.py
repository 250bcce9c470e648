"""Compute metrics of 1.1 million bars: ours on sorted arrays against pandas' groupby and rolling, with equal results.

Both start from the same sorted bars in memory: ours from the arrays that the loader keeps, the reference from a
DataFrame with a text column of symbols, as it is usually written. ``groupby_codes`` groups the reference by integer
codes instead of text. Ratios are theirs / ours.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.common import machine, medians, show
from transformations import ROLLING_SESSIONS, compute_metrics


def generated(symbols: int, sessions: int) -> pd.DataFrame:
    """Sorted bars of random walks, in cents."""
    rng = np.random.default_rng(0)
    walk = np.exp(np.cumsum(rng.normal(0, 0.02, (symbols, sessions)), axis=1))
    close = np.round(np.clip(rng.uniform(5, 500, symbols)[:, None] * walk, 1, None), 2).ravel()
    codes = np.repeat(np.arange(symbols), sessions)
    names = np.array([f"SYN{code:05d}" for code in range(symbols)])[codes]
    return pd.DataFrame(
        {
            "symbol": pd.Series(names, dtype="str"),
            "code": codes,
            "high": np.round(close * 1.02, 2),
            "low": np.round(close * 0.98, 2),
            "close": close,
        }
    )


def reference(bars: pd.DataFrame, key: str) -> pd.DataFrame:
    """The same metrics in plain pandas; the key in the rolling mean's index is dropped to align it."""
    closes = bars.groupby(key, sort=False)["close"]
    return bars.assign(
        volatility=((bars["high"] - bars["low"]) / bars["close"] * 100).round(6),
        rolling_avg=closes.rolling(ROLLING_SESSIONS).mean().reset_index(level=0, drop=True).round(6),
        daily_pct_change=(closes.pct_change() * 100).round(6),
    )


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--symbols", type=int, default=11_000)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bars = generated(options.symbols, options.sessions)
    arrays = [bars[name].to_numpy() for name in ("code", "high", "low", "close")]

    metrics = ["volatility", "rolling_avg", "daily_pct_change"]
    mine, theirs = np.stack(compute_metrics(*arrays), axis=1), reference(bars, "symbol")[metrics].to_numpy()
    # The reference rounds a binary result, ours the exact decimal, so ties may round differently.
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1.01e-6)
    differing = int(np.sum(~np.isclose(mine, theirs, rtol=0, atol=1e-9, equal_nan=True)))

    seconds = medians(
        {
            "ours": lambda: compute_metrics(*arrays),
            "groupby": lambda: reference(bars, "symbol"),
            "groupby_codes": lambda: reference(bars, "code"),
        },
        options.repeats,
    )
    results = [{"way": way, "rows": len(bars), "seconds": round(taken, 4)} for way, taken in seconds.items()]
    results.append({"way": "values that a tie rounds differently", "rows": differing})
    ratios = {name: round(seconds[name] / seconds["ours"], 2) for name in ("groupby", "groupby_codes")}
    show({**machine(), "results": results, "ratios": ratios}, as_json=options.json)


if __name__ == "__main__":
    main()
