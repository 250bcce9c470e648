"""The provider's HTTP API as a function from path and query to a JSON document.

It answers the three calls that this project makes (daily bars of one symbol, daily bars of every symbol, splits) with
the provider's envelopes, limits and paging. Sockets, keys and rate limits belong to :mod:`sandbox.server`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cached_property, reduce
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from domain.calendar import NEW_YORK
from domain.models import EVERY_SYMBOL, Split
from sandbox.bars import Bar
from sandbox.history import PriceHistory, price_factor
from sandbox.misbehavior import Misbehavior, Question, Restate

RANGE = re.compile(r"/v2/aggs/ticker/([^/]+)/range/1/day/([^/]+)/([^/]+)")
GROUPED = re.compile(r"/v2/aggs/grouped/locale/us/market/stocks/([^/]+)")
SPLITS = re.compile(r"/stocks/v1/splits")

Query = Mapping[str, str]
Document = dict[str, Any]


class BadRequestError(ValueError):
    """The provider would answer 400 with this message."""


class OutOfPlanError(Exception):
    """The provider would answer 403 with this message."""


class NoSuchPathError(LookupError):
    """The provider would answer 404."""


@dataclass(frozen=True)
class Market:
    """Everything that an answer depends on.

    Parameters
    ----------
    today : date
        The provider's current date.
    origin : str
        The scheme, host and port that ``next_url`` starts with.
    misbehaviors : sequence of Misbehavior
        Applied in this order while they are in effect.
    """

    history: PriceHistory
    today: date
    origin: str
    misbehaviors: Sequence[Misbehavior] = ()

    def answer(self, target: str) -> tuple[str, Document]:
        """Answer one GET request.

        Parameters
        ----------
        target : str
            Path and query, percent-encoded, without the key.

        Returns
        -------
        kind : str
            ``range``, ``grouped`` or ``splits``.
        document : dict
            The envelope, without ``request_id``.

        Raises
        ------
        BadRequestError
            If part of the path or the query is malformed.
        OutOfPlanError
            If the plan does not reach back so far.
        NoSuchPathError
            If the path is none of the three.
        """
        path, _, text = target.partition("?")
        query = dict(parse_qsl(text, keep_blank_values=True))
        if "cursor" in query:
            query = _from_cursor(query["cursor"])
        if match := RANGE.fullmatch(path):
            return "range", self._range(match[1], match[2], match[3], query)
        if match := GROUPED.fullmatch(path):
            return "grouped", self._grouped(match[1], query)
        if SPLITS.fullmatch(path):
            return "splits", self._splits(query)
        raise NoSuchPathError(path)

    @cached_property
    def _active(self) -> list[Misbehavior]:
        return [each for each in self.misbehaviors if each.is_active(self.today)]

    @cached_property
    def _restated(self) -> PriceHistory:
        """The history with the splits that bars are adjusted for, listed or not."""
        return self._with(each.split for each in self._active if isinstance(each, Restate))

    @cached_property
    def _listed(self) -> PriceHistory:
        """The history with the splits that are listed."""
        restatements = [each for each in self._active if isinstance(each, Restate)]
        return self._with(each.split for each in restatements if each.listed <= self.today)

    def _with(self, splits: Iterable[Split]) -> PriceHistory:
        further = list(splits)
        return self.history.with_splits(further) if further else self.history

    def _admit(self, question: Question) -> None:
        if any(each.refuses(question) for each in self._active):
            raise OutOfPlanError("Your plan doesn't include this data timeframe. Please upgrade your plan.")

    def _changed(self, question: Question, bars: list[Bar]) -> list[Bar]:
        return reduce(lambda left, each: each.bars(question, left), self._active, bars)

    def _enveloped(self, question: Question, document: Document) -> Document:
        return reduce(lambda left, each: each.document(question, left), self._active, document)

    def _range(self, encoded: str, start: str, end: str, query: Query) -> Document:
        adjusted = _one_of(query, "adjusted", "true", "false") == "true"
        order = _one_of(query, "sort", "asc", "desc")
        limit = _limit(query, default=5_000, maximum=50_000)
        symbol, first, last = unquote(encoded), _day("from", start), _day("to", end)
        if first > last:
            raise BadRequestError(f"'from' ({start}) is after 'to' ({end})")
        question = Question(symbol, first, last)
        self._admit(question)
        source = reduce(lambda left, each: each.source(question._replace(symbol=left)), self._active, symbol)
        bars = self._restated.range_bars(source, first, last, adjusted=adjusted, today=self.today)
        bars = self._changed(question, bars)
        if order == "desc":
            bars.reverse()
        document = {"ticker": symbol, **_envelope(bars[:limit], adjusted=adjusted)}
        if len(bars) > limit:
            rest = str(bars[limit]["t"])
            start, end = (rest, end) if order == "asc" else (start, rest)
            cursor = _to_cursor({"adjusted": str(adjusted).lower(), "sort": order, "limit": str(limit)})
            path = f"/v2/aggs/ticker/{quote(symbol, safe='')}/range/1/day/{start}/{end}"
            document["next_url"] = f"{self.origin}{path}?cursor={cursor}"
        return self._enveloped(question, document)

    def _grouped(self, day: str, query: Query) -> Document:
        adjusted = _one_of(query, "adjusted", "true", "false") == "true"
        _one_of(query, "include_otc", "false", "true")  # no recorded symbol trades over the counter
        session = _day("date", day)
        question = Question(EVERY_SYMBOL, session, session)
        self._admit(question)
        bars = self._restated.grouped_bars(session, adjusted=adjusted, today=self.today)
        return self._enveloped(question, _envelope(self._changed(question, bars), adjusted=adjusted))

    def _splits(self, query: Query) -> Document:
        order = _one_of(query, "sort", "execution_date.desc", "execution_date.asc")
        limit = _limit(query, default=100, maximum=5_000)
        offset = _offset(query)
        splits = self._listed.splits_between(*_execution_dates(query), today=self.today, symbols=_tickers(query))
        if order == "execution_date.desc":
            splits.reverse()
        page = splits[offset : offset + limit]
        document: Document = {"status": "OK", "results": [self._split(split) for split in page]}
        for each in self._active:
            document["results"] += each.split_records()
        if len(splits) > offset + limit:
            cursor = _to_cursor({**query, "offset": str(offset + limit)})
            document["next_url"] = f"{self.origin}/stocks/v1/splits?cursor={cursor}"
        return document

    def _split(self, split: Split) -> Document:
        """One result; the factor adjusts a price from before this split for it and every later split."""
        factor = Fraction(1)
        for later in self._listed.splits_between(
            split.execution_date, self.today, today=self.today, symbols={split.symbol}
        ):
            factor *= price_factor(later)
        return {
            "id": "E" + hashlib.sha256(repr(split).encode()).hexdigest(),
            "ticker": split.symbol,
            "execution_date": split.execution_date.isoformat(),
            "split_from": split.split_from,
            "split_to": split.split_to,
            "adjustment_type": "forward_split" if split.split_to > split.split_from else "reverse_split",
            "historical_adjustment_factor": float(factor),
        }


def _envelope(bars: list[Document], *, adjusted: bool) -> Document:
    document: Document = {"queryCount": len(bars), "resultsCount": len(bars), "adjusted": adjusted}
    if bars:
        document["results"] = bars
    return {**document, "status": "OK", "count": len(bars)}


def _one_of(query: Query, name: str, *valid: str) -> str:
    """The value of a parameter; the first valid one is the default."""
    value = query.get(name, valid[0])
    if value not in valid:
        raise BadRequestError(f"{name} is {value!r}; valid is {' or '.join(valid)}")
    return value


def _limit(query: Query, *, default: int, maximum: int) -> int:
    value = query.get("limit", str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= maximum:
        raise BadRequestError(f"limit is {value!r}; valid is 1 to {maximum}")
    return int(value)


def _offset(query: Query) -> int:
    """The number of results on earlier pages; only a cursor contains it."""
    value = query.get("offset", "0")
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise BadRequestError(f"offset is {value!r}; follow next_url instead")
    return int(value)


def _day(name: str, text: str) -> date:
    """Parse ``YYYY-MM-DD``, or milliseconds as a date in New York."""
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return date.fromisoformat(text)
        if re.fullmatch(r"[0-9]+", text):
            return datetime.fromtimestamp(int(text) / 1000, NEW_YORK).date()
    except (ValueError, OverflowError, OSError):
        pass
    raise BadRequestError(f"{name} is {text!r}; valid is YYYY-MM-DD or milliseconds")


def _execution_dates(query: Query) -> tuple[date, date]:
    """The first and last execution date that pass every filter of the query."""
    day = timedelta(days=1)
    first, last = date.min, date.max - day
    for name, text in query.items():
        if name in {"execution_date", "execution_date.gte"}:
            first = max(first, _day(name, text))
        if name in {"execution_date", "execution_date.lte"}:
            last = min(last, _day(name, text))
        if name == "execution_date.gt":
            first = max(first, min(_day(name, text), last) + day)
        if name == "execution_date.lt":
            last = min(last, max(_day(name, text), date.min + day) - day)
    return first, last


def _tickers(query: Query) -> set[str] | None:
    """The requested symbols, None for all; with both filters, those that pass both."""
    asked: set[str] | None = None
    if "ticker.any_of" in query:
        asked = set(query["ticker.any_of"].split(","))
    if "ticker" in query:
        asked = {query["ticker"]} if asked is None else asked & {query["ticker"]}
    return asked


def _to_cursor(query: Query) -> str:
    return base64.urlsafe_b64encode(urlencode(query).encode()).decode().rstrip("=")


def _from_cursor(cursor: str) -> dict[str, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        return dict(parse_qsl(text, strict_parsing=True))
    except ValueError:
        raise BadRequestError(f"cursor is {cursor!r}, which is not from a next_url") from None
