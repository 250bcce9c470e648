"""An independent calculation of the market page's figures, bar by bar in decimal arithmetic.

It shares no code with the project. A history is the adjusted bars of one symbol, oldest first; its last bar is the one
that the figures are of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

from tests.support.oracle import Bar

PLACES = Decimal("0.000001")
History = Sequence[Bar]


def figures(history: History) -> dict[str, Any]:
    """The figures of a symbol: numbers as decimals of 6 places, None where there are none."""
    with localcontext(prec=60):
        now, closes = history[-1], [bar.close for bar in history]
        year = [bar for bar in history if bar.session > months_before(now.session, 12)]
        high, low = max(bar.high for bar in year), min(bar.low for bar in year)
        averages = {n: mean(closes[-n:]) if len(closes) >= n else None for n in (20, 50, 200)}
        usual = mean([bar.volume for bar in history[-21:-1]]) if len(history) > 20 else None
        cross = last_cross(closes)
        found: dict[str, Any] = {
            "close": now.close,
            "change_1d": change(now.close, closes[-2] if len(closes) > 1 else None),
            "change_1w": change(now.close, close_until(history, now.session - timedelta(days=7))),
            "change_1m": change(now.close, close_until(history, months_before(now.session, 1))),
            "change_3m": change(now.close, close_until(history, months_before(now.session, 3))),
            "change_ytd": change(now.close, close_until(history, date(now.session.year - 1, 12, 31))),
            "change_1y": change(now.close, close_until(history, months_before(now.session, 12))),
            "high_52w": high,
            "low_52w": low,
            "place_52w": (now.close - low) / (high - low) if high != low else None,
            "volatility_20": volatility(closes[-21:]) if len(closes) > 20 else None,
            "volume": now.volume,
            "volume_ratio": now.volume / usual if usual else None,
            **{f"sma_{n}": average for n, average in averages.items()},
            "distance_50": change(now.close, averages[50]),
            "rsi_14": wilder(closes),
            "range_pct": (now.high - now.low) / now.close * 100,
        }
        rounded = {name: None if value is None else places(value) for name, value in found.items()}
        return {
            "sessions": len(history),
            "first": history[0].session,
            "last": now.session,
            **rounded,
            "cross": cross[0] if cross else None,
            "cross_date": history[cross[1]].session if cross else None,
            "streak": streak(closes),
        }


def places(value: Decimal) -> Decimal:
    """Round to 6 places, half to even, without a negative zero."""
    return value.quantize(PLACES, ROUND_HALF_EVEN) + 0


def mean(values: Sequence[Decimal]) -> Decimal:
    return sum(values, Decimal(0)) / len(values)


def change(now: Decimal, then: Decimal | None) -> Decimal | None:
    return None if then is None else (now - then) / then * 100


def close_until(history: History, day: date) -> Decimal | None:
    """The close of the last session up to a day."""
    return next((bar.close for bar in reversed(history) if bar.session <= day), None)


def months_before(day: date, months: int) -> date:
    """The same day of an earlier month, or the last of that month if it is too short."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    for last in range(day.day, 0, -1):
        try:
            return date(year, month + 1, last)
        except ValueError:
            continue
    raise AssertionError


def volatility(closes: Sequence[Decimal]) -> Decimal:
    returns = [(now / then).ln() for then, now in zip(closes, closes[1:], strict=False)]
    center = mean(returns)
    variance = sum(((each - center) ** 2 for each in returns), Decimal(0)) / (len(returns) - 1)
    return (variance * 252).sqrt() * 100


def wilder(closes: Sequence[Decimal]) -> Decimal | None:
    """The index as Wilder's book computes it, step by step."""
    changes = [now - then for then, now in zip(closes, closes[1:], strict=False)]
    if len(changes) < 14:
        return None
    gains, losses = [max(each, Decimal(0)) for each in changes], [max(-each, Decimal(0)) for each in changes]
    gain, loss = mean(gains[:14]), mean(losses[:14])
    for up, down in zip(gains[14:], losses[14:], strict=True):
        gain, loss = (gain * 13 + up) / 14, (loss * 13 + down) / 14
    if loss == 0:
        return Decimal(100) if gain else Decimal(50)
    return 100 - 100 / (1 + gain / loss)


def last_cross(closes: Sequence[Decimal]) -> tuple[str, int] | None:
    """The last cross, and the index of its bar."""
    found, before = None, 0
    for bar in range(199, len(closes)):
        if bar == 199:
            short, long = sum(closes[150:200], Decimal(0)), sum(closes[:200], Decimal(0))
        else:
            short, long = short + closes[bar] - closes[bar - 50], long + closes[bar] - closes[bar - 200]
        side = (short / 50 > long / 200) - (short / 50 < long / 200)
        if side and before == -side:
            found = ("golden" if side > 0 else "death", bar)
        before = side or before
    return found


def streak(closes: Sequence[Decimal]) -> int:
    count = 0
    for then, now in zip(closes, closes[1:], strict=False):
        way = (now > then) - (now < then)
        count = count + way if way and count * way >= 0 else way
    return count


def breadth(histories: Sequence[History], session: date) -> dict[str, int]:
    """The market's counts in a session, from the whole history of each symbol."""
    until = [[bar for bar in history if bar.session <= session] for history in histories]
    traded = [history for history in until if history and history[-1].session == session]
    old = [history for history in traded if history[0].session <= months_before(session, 12)]
    years = [[bar for bar in history[:-1] if bar.session > months_before(session, 12)] for history in old]

    def moved(test: Callable[[Decimal, Decimal], bool]) -> int:
        return sum(test(history[-1].close, history[-2].close) for history in traded if len(history) > 1)

    def above(sessions: int) -> tuple[int, int]:
        long = [history for history in traded if len(history) >= sessions]
        over = [h for h in long if h[-1].close > mean([bar.close for bar in h[-sessions:]])]
        return len(over), len(long)

    with localcontext(prec=60):
        over_50, with_50 = above(50)
        over_200, with_200 = above(200)
        highs = [h[-1].high > max(bar.high for bar in year) for h, year in zip(old, years, strict=True) if year]
        lows = [h[-1].low < min(bar.low for bar in year) for h, year in zip(old, years, strict=True) if year]
        return {
            "advancers": moved(lambda now, then: now > then),
            "decliners": moved(lambda now, then: now < then),
            "unchanged": moved(lambda now, then: now == then),
            "over_50": over_50,
            "with_50": with_50,
            "over_200": over_200,
            "with_200": with_200,
            "new_highs": sum(highs),
            "new_lows": sum(lows),
            "with_year": len(old),
        }
