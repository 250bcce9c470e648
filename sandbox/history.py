"""The market's history: bars and splits, as visible on a given day.

It serves bars in the provider's wire format, raw or adjusted for splits. Tests add corrections and splits. It opens no
socket and reads no clock: every query takes ``today``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from datetime import date, datetime, time
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from domain.calendar import NEW_YORK
from domain.models import Split
from sandbox.bars import Bar, BarArrays, recorded_bars, synthetic_bars

_OPENING, _CLOSING = time(0), time(16)
_MICRO = Decimal("0.000001")
_EXACT = Context(prec=350, rounding=ROUND_HALF_EVEN)  # holds any finite float with 6 decimals
_PRICES = ("o", "h", "l", "c", "vw")


RECORDED_SPLITS = (
    Split("AAPL", date(2000, 6, 21), split_from=1, split_to=2),
    Split("MSFT", date(2003, 2, 18), split_from=1, split_to=2),
    Split("AAPL", date(2005, 2, 28), split_from=1, split_to=2),
)


def exists(session: date, today: date) -> bool:
    """Whether the bar of a session is published: the data is end-of-day, so only sessions before ``today`` are."""
    return session < today


class PriceHistory:
    """Unadjusted bars and splits, changed only through the methods below.

    Instances share the arrays that they start from and hold only their own changes, so a new one costs nothing.

    Parameters
    ----------
    arrays : BarArrays
        The bars to start from.
    splits : iterable of Split, optional
        The splits to start from.
    """

    def __init__(self, arrays: BarArrays, splits: Iterable[Split] = ()) -> None:
        self._arrays = arrays
        self._splits = _in_order(splits)
        self._changes: dict[date, dict[str, Bar | None]] = {}  # None is a bar that was removed

    @classmethod
    def recorded(cls) -> PriceHistory:
        """Real prices of AAPL, FB, GOOG, IBM and MSFT to 2013-03-01, and their three splits."""
        return cls(recorded_bars(), RECORDED_SPLITS)

    @classmethod
    def synthetic(cls, symbols: int, sessions: int, *, seed: int = 0, end: date | None = None) -> PriceHistory:
        """Synthetic prices of SYN00000, SYN00001, …; see :func:`sandbox.bars.synthetic_bars`."""
        return cls(synthetic_bars(symbols, sessions, seed=seed, end=end))

    @property
    def symbols(self) -> list[str]:
        """Every symbol that has or had a bar, sorted."""
        return sorted(set(self._arrays.symbols).union(*self._changes.values()))

    @property
    def splits(self) -> list[Split]:
        """Every split, by execution date, then symbol."""
        return list(self._splits)

    @property
    def first(self) -> date:
        """The first session in which any symbol has or had a bar."""
        return min([self._arrays.sessions[0], *self._changes])

    @property
    def last(self) -> date:
        """The last session in which any symbol has or had a bar."""
        return max([self._arrays.sessions[-1], *self._changes])

    def put_bar(
        self,
        symbol: str,
        session: date,
        *,
        open: object,  # noqa: A002 - a word of the field
        high: object,
        low: object,
        close: object,
        volume: object,
    ) -> None:
        """Add or correct a bar, without the optional ``vw`` and ``n``.

        Parameters
        ----------
        open, high, low, close, volume : object
            Numbers, or anything else that JSON can hold (None, "abc", -1), to test how a client handles it.
        """
        values = {"v": volume, "o": open, "c": close, "h": high, "l": low}
        bar = {key: float(value) if isinstance(value, Decimal) else value for key, value in values.items()}
        self._changes.setdefault(session, {})[symbol] = bar

    def remove_bar(self, symbol: str, session: date) -> None:
        """Remove a symbol's bar for a session, if there is one."""
        self._changes.setdefault(session, {})[symbol] = None

    def add_split(self, split: Split) -> None:
        """Add a split; from its execution date on it is listed and earlier history is restated."""
        self._splits = _in_order([*self._splits, split])

    def with_splits(self, splits: Iterable[Split]) -> PriceHistory:
        """The same bars with further splits, as an instance that shares them."""
        other = PriceHistory(self._arrays, [*self._splits, *splits])
        other._changes = self._changes
        return other

    def splits_between(
        self, first: date, last: date, *, today: date, symbols: Collection[str] | None = None
    ) -> list[Split]:
        """List the splits executed from ``first`` to ``last``, both included, and not after ``today``.

        Parameters
        ----------
        symbols : collection of str, optional
            Only these; default all.

        Returns
        -------
        list of Split
            By execution date, then symbol.
        """
        return [
            split
            for split in self._splits
            if first <= split.execution_date <= min(last, today) and (symbols is None or split.symbol in symbols)
        ]

    def range_bars(self, symbol: str, first: date, last: date, *, adjusted: bool, today: date) -> list[Bar]:
        """List the published bars of one symbol from ``first`` to ``last``, both included.

        Parameters
        ----------
        symbol : str
            Case-sensitive; an unknown symbol has no bars.
        adjusted : bool
            Whether to adjust earlier prices for splits up to ``today``.

        Returns
        -------
        list of dict
            ``v, vw, o, c, h, l, t, n``, ascending; ``t`` is the start of the session's day, midnight New York, in ms.
        """
        found: dict[date, Bar | None] = {}
        if (column := self._arrays.columns.get(symbol)) is not None:
            sessions = self._arrays.sessions
            rows = slice(bisect_left(sessions, first), bisect_right(sessions, last))
            found = dict(zip(sessions[rows], self._arrays.bars(rows, column), strict=True))
        for session, changed in self._changes.items():
            if first <= session <= last and symbol in changed:
                found[session] = changed[symbol]
        splits = self.splits_between(date.min, date.max, today=today, symbols={symbol}) if adjusted else []
        return [
            _wire(bar, session, splits, t=_milliseconds(session, _OPENING))
            for session, bar in sorted(found.items())
            if bar is not None and exists(session, today)
        ]

    def grouped_bars(self, session: date, *, adjusted: bool, today: date) -> list[Bar]:
        """List the bars of every symbol that traded in a session, if it is published.

        Parameters
        ----------
        adjusted : bool
            Whether to adjust earlier prices for splits up to ``today``.

        Returns
        -------
        list of dict
            As for :meth:`range_bars`, plus ``T``, the symbol; sorted by symbol. ``t`` is the close, 16:00 New York.
        """
        if not exists(session, today):
            return []
        found: dict[str, Bar | None] = {}
        row = bisect_left(self._arrays.sessions, session)
        if self._arrays.sessions[row : row + 1] == (session,):
            found = dict(zip(self._arrays.symbols, self._arrays.bars(row, slice(None)), strict=True))
        if changed := self._changes.get(session):
            found = dict(sorted({**found, **changed}.items()))
        splits: dict[str, list[Split]] = {}
        for split in self.splits_between(date.min, date.max, today=today) if adjusted else []:
            splits.setdefault(split.symbol, []).append(split)
        t = _milliseconds(session, _CLOSING)
        return [
            _wire(bar, session, splits.get(symbol), T=symbol, t=t) for symbol, bar in found.items() if bar is not None
        ]


def _in_order(splits: Iterable[Split]) -> list[Split]:
    return sorted(splits, key=lambda split: (split.execution_date, split.symbol))


def _milliseconds(session: date, at: time) -> int:
    return int(datetime.combine(session, at, tzinfo=NEW_YORK).timestamp()) * 1000


def _wire(bar: Bar, session: date, splits: Iterable[Split] | None, **stamps: object) -> Bar:
    """A copy of the bar with its time stamp, adjusted for those of ``splits`` executed after its session."""
    wire = {**bar, **stamps}
    factor = Fraction(1)
    for split in splits or ():
        if session < split.execution_date:
            factor *= price_factor(split)
    if factor != 1:
        old, new = factor.as_integer_ratio()
        wire.update({key: scaled(wire[key], old, new) for key in _PRICES if key in wire}, v=scaled(wire["v"], new, old))
    return wire


def price_factor(split: Split) -> Fraction:
    """The exact factor that adjusts a price from before a split."""
    return Fraction(split.split_from) / Fraction(split.split_to)


def scaled(value: object, numerator: int, denominator: int) -> object:
    """Compute ``value * numerator / denominator`` in decimal, rounded half to even to 6 places.

    Parameters
    ----------
    value : object
        A number counts as the decimal that it prints as; anything else, NaN included, is returned unchanged.

    Returns
    -------
    object
        An int if the result is whole, else a float.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    decimal = Decimal(str(value))
    if not decimal.is_finite():
        return value
    exact = _EXACT.divide(_EXACT.multiply(decimal, numerator), denominator)
    rounded = exact.quantize(_MICRO, context=_EXACT)
    return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)
