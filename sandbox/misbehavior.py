"""Ways in which a provider misbehaves, for the stand-in to play: stalls, late and wrong bars, unlisted splits.

Each is a frozen dataclass and in effect on the mornings from ``since`` to before ``until``, by the provider's date.
:mod:`sandbox.api` calls their hooks; several at a time apply in the order given. :func:`parse_misbehavior` reads the
short form that people type, such as ``stall:2``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from domain.calendar import NEW_YORK, next_session, previous_session
from domain.models import EVERY_SYMBOL, Split
from sandbox.bars import Bar

Document = dict[str, Any]
DAY = timedelta(days=1)


class Question(NamedTuple):
    """A question about bars; ``symbol`` is ``"*"`` for a grouped one."""

    symbol: str
    first: date
    last: date

    def symbol_of(self, bar: Bar) -> str:
        """The symbol of a bar of the answer."""
        return str(bar.get("T", self.symbol))


def session_of(bar: Bar) -> date:
    """The session of a bar in wire format."""
    return datetime.fromtimestamp(bar["t"] / 1000, NEW_YORK).date()


@dataclass(frozen=True, kw_only=True)
class Misbehavior:
    """The base of all: nothing unusual.

    Parameters
    ----------
    since, until : date
        In effect while the provider's date is from `since` to the day before `until`; default always.
    """

    since: date = date.min
    until: date = date.max

    def is_active(self, today: date) -> bool:
        """Whether it is in effect on a day of the provider."""
        return self.since <= today < self.until

    def refuses(self, question: Question) -> bool:
        """Whether the plan does not include the question: 403."""
        del question
        return False

    def source(self, question: Question) -> str:
        """The symbol whose bars answer a range question."""
        return question.symbol

    def bars(self, question: Question, bars: list[Bar]) -> list[Bar]:
        """What it makes of the bars of an answer."""
        del question
        return bars

    def document(self, question: Question, document: Document) -> Document:
        """What it makes of a page's envelope."""
        del question
        return document

    def split_records(self) -> list[Document]:
        """Records that it adds to the list of splits."""
        return []


@dataclass(frozen=True)
class Stall(Misbehavior):
    """Publish nothing after a session, of any symbol."""

    after: date

    def bars(self, question: Question, bars: list[Bar]) -> list[Bar]:
        """Drop the bars after the session."""
        del question
        return [bar for bar in bars if session_of(bar) <= self.after]


@dataclass(frozen=True)
class Late(Misbehavior):
    """Publish nothing of one symbol after a session."""

    symbol: str
    after: date

    def bars(self, question: Question, bars: list[Bar]) -> list[Bar]:
        """Drop the symbol's bars after the session."""
        return [bar for bar in bars if question.symbol_of(bar) != self.symbol or session_of(bar) <= self.after]


@dataclass(frozen=True)
class Short(Misbehavior):
    """Answer with one bar less than ``resultsCount`` says, without a next page; ``"*"`` for grouped answers."""

    symbol: str

    def document(self, question: Question, document: Document) -> Document:
        """Drop the last result, and leave the counts."""
        if question.symbol != self.symbol or "next_url" in document:
            return document
        return {**document, "results": document.get("results", [])[:-1]}


@dataclass(frozen=True)
class Half(Misbehavior):
    """Answer with the first half of the bars, and counts that agree; ``"*"`` for grouped answers."""

    symbol: str

    def bars(self, question: Question, bars: list[Bar]) -> list[Bar]:
        """Keep the first half."""
        return bars[: len(bars) // 2] if question.symbol == self.symbol else bars


@dataclass(frozen=True)
class Garble(Misbehavior):
    """Answer with a bar that cannot be true: its high is below its low."""

    symbol: str
    session: date

    def bars(self, question: Question, bars: list[Bar]) -> list[Bar]:
        """Replace the high of the bar."""
        return _replaced(question, bars, self.symbol, self.session, lambda bar: {**bar, "h": bar["l"] / 2})


@dataclass(frozen=True)
class Correct(Misbehavior):
    """Change the close of a bar by one percent of it, or by `percent`, and move high or low along if need be."""

    symbol: str
    session: date
    percent: int = 1

    def bars(self, question: Question, bars: list[Bar]) -> list[Bar]:
        """Replace the bar."""

        def corrected(bar: Bar) -> Bar:
            close = round(bar["c"] * (100 + self.percent) / 100, 4)
            return {**bar, "c": close, "h": max(bar["h"], close), "l": min(bar["l"], close)}

        return _replaced(question, bars, self.symbol, self.session, corrected)


@dataclass(frozen=True)
class Withdraw(Misbehavior):
    """Have no bar of a symbol in a session any more."""

    symbol: str
    session: date

    def bars(self, question: Question, bars: list[Bar]) -> list[Bar]:
        """Drop the bar."""
        return [bar for bar in bars if question.symbol_of(bar) != self.symbol or session_of(bar) != self.session]


@dataclass(frozen=True)
class Restate(Misbehavior):
    """Adjust history for a split, which is listed from a later day on or never."""

    split: Split
    listed: date = date.max


@dataclass(frozen=True)
class WrongTicker(Misbehavior):
    """Answer questions about one symbol with the bars of another, and name that one in the envelope."""

    symbol: str
    other: str

    def source(self, question: Question) -> str:
        """The other symbol."""
        return self.other if question.symbol == self.symbol else question.symbol

    def document(self, question: Question, document: Document) -> Document:
        """Name the other symbol."""
        return {**document, "ticker": self.other} if question.symbol == self.symbol else document


@dataclass(frozen=True)
class Rename(Misbehavior):
    """Know the history of a symbol by another name only."""

    symbol: str
    new: str

    def source(self, question: Question) -> str:
        """The old name's bars for the new one, and none for the old one."""
        return {self.symbol: "", self.new: self.symbol}.get(question.symbol, question.symbol)

    def bars(self, question: Question, bars: list[Bar]) -> list[Bar]:
        """Rename the bar of a grouped answer."""
        if question.symbol != EVERY_SYMBOL:
            return bars
        return [{**bar, "T": self.new} if bar["T"] == self.symbol else bar for bar in bars]


@dataclass(frozen=True)
class Reach(Misbehavior):
    """Refuse questions that begin before a day with 403."""

    first: date

    def refuses(self, question: Question) -> bool:
        """Whether the question begins before the day."""
        return question.first < self.first


@dataclass(frozen=True)
class BadSplits(Misbehavior):
    """List splits that cannot be true: a ratio of zero, an empty date, a null."""

    def split_records(self) -> list[Document]:
        """One of each."""
        return [
            {"ticker": "IBM", "execution_date": "2013-02-27", "split_from": 1, "split_to": 0},
            {"ticker": "IBM", "execution_date": "", "split_from": 1, "split_to": 2},
            {"ticker": None, "execution_date": "2013-02-27", "split_from": 1, "split_to": 2},
        ]


def _replaced(
    question: Question, bars: list[Bar], symbol: str, session: date, change: Callable[[Bar], Bar]
) -> list[Bar]:
    return [change(bar) if question.symbol_of(bar) == symbol and session_of(bar) == session else bar for bar in bars]


def parse_misbehavior(text: str, today: date) -> Misbehavior:
    """Read the short form of a misbehavior, as :data:`FORMS` lists them.

    Parameters
    ----------
    text : str
        Such as ``stall:2`` or ``correct:IBM:2013-02-26``.
    today : date
        The provider's date: mornings count from it, and a restatement splits on it.

    Raises
    ------
    ValueError
        In one line, with what is valid.
    """
    kind, *values = text.split(":")
    if kind not in _PARSERS:
        raise ValueError(f"{text!r} is no misbehavior; valid is {', '.join(FORMS)}")
    form, parse = _PARSERS[kind]
    most = form.count(":")
    try:
        if not most - form.count("[") <= len(values) <= most:
            raise ValueError("the number of values is wrong")
        return parse(values, today)
    except ValueError as error:
        raise ValueError(f"{text!r} is not {form}: {error}") from None


def _mornings(values: Sequence[str], today: date) -> date:
    """The day on which so many mornings are over; a morning follows each session."""
    if not values:
        return date.max
    count = _number(values[0])
    session = today - DAY
    for _ in range(count):
        session = next_session(session)
    return session + DAY


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 999:
        raise ValueError(f"{text!r} is not a number from 1 to 999")
    return int(text)


def _symbol(text: str) -> str:
    if not text:
        raise ValueError("a symbol is empty")
    return text


def _before_latest(today: date) -> date:
    return previous_session(previous_session(today))


def _parse_restate(values: Sequence[str], today: date) -> Misbehavior:
    split = Split(_symbol(values[0]), today, 1, _number(values[1]))
    return Restate(split, today + _number(values[2]) * DAY if len(values) > 2 else date.max)


_Parser = Callable[[Sequence[str], date], Misbehavior]
_PARSERS: dict[str, tuple[str, _Parser]] = {
    "stall": (
        "stall:MORNINGS",
        lambda v, day: Stall(_before_latest(day), until=_mornings(v, day)),
    ),
    "late": (
        "late:SYMBOL:MORNINGS",
        lambda v, day: Late(_symbol(v[0]), _before_latest(day), until=_mornings(v[1:], day)),
    ),
    "short": (
        "short:SYMBOL[:MORNINGS]",
        lambda v, day: Short(_symbol(v[0]), until=_mornings(v[1:], day)),
    ),
    "half": (
        "half:SYMBOL[:MORNINGS]",
        lambda v, day: Half(_symbol(v[0]), until=_mornings(v[1:], day)),
    ),
    "garble": (
        "garble:SYMBOL:DATE[:MORNINGS]",
        lambda v, day: Garble(_symbol(v[0]), date.fromisoformat(v[1]), until=_mornings(v[2:], day)),
    ),
    "correct": (
        "correct:SYMBOL:DATE",
        lambda v, _: Correct(_symbol(v[0]), date.fromisoformat(v[1])),
    ),
    "withdraw": (
        "withdraw:SYMBOL:DATE",
        lambda v, _: Withdraw(_symbol(v[0]), date.fromisoformat(v[1])),
    ),
    "restate": (
        "restate:SYMBOL:RATIO[:DAYS]",
        _parse_restate,
    ),
    "wrong-ticker": (
        "wrong-ticker:SYMBOL:OTHER[:MORNINGS]",
        lambda v, day: WrongTicker(_symbol(v[0]), _symbol(v[1]), until=_mornings(v[2:], day)),
    ),
    "rename": (
        "rename:SYMBOL:NEW",
        lambda v, _: Rename(_symbol(v[0]), _symbol(v[1])),
    ),
    "reach": (
        "reach:DATE",
        lambda v, _: Reach(date.fromisoformat(v[0])),
    ),
    "bad-splits": (
        "bad-splits",
        lambda _, __: BadSplits(),
    ),
}  # fmt: skip
FORMS = tuple(form for form, _ in _PARSERS.values())
"""The short forms; what stands in brackets may be left out: for ever, or never listed."""
