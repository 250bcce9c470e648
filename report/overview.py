"""What the index of the outbox shows of a report. Each page carries it in its head, as JSON in a ``<meta>``."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from report.formatting import Direction, Row

_META = re.compile(r'<meta name="overview" content="([^"]*)">')


@dataclass(frozen=True)
class End:
    """The best or the worst symbol of a week: its change as the report shows it, and its last 30 closes.

    The last `sessions` closes are those of the week.
    """

    symbol: str
    change: str
    direction: Direction
    closes: tuple[float, ...]
    sessions: int

    def line(self, width: int, height: int) -> list[str]:
        """Place the closes in a box as ``x,y``, oldest first: the lowest at the bottom, the highest at the top."""
        low, high = min(self.closes, default=0.0), max(self.closes, default=0.0)
        spread, last = high - low or 1.0, max(len(self.closes) - 1, 1)
        return [f"{n * width / last:.1f},{(high - close) / spread * height:.1f}" for n, close in enumerate(self.closes)]


@dataclass(frozen=True)
class Overview:
    """A week in words, its summary, and its best and worst symbol: two, one, or none if nothing traded."""

    week: str
    summary: str
    ends: tuple[End, ...]


def end(row: Row, figures: Mapping[Hashable, Any]) -> End:
    """Describe a symbol by its row of the report and its weekly performance."""
    closes = tuple(float(close) for close in figures["closes"] if math.isfinite(close))
    return End(row.symbol, row.change, row.direction, closes, int(figures["sessions"]))


def meta(overview: Overview) -> str:
    """Write an overview as an element of a page's head."""
    return f'<meta name="overview" content="{html.escape(json.dumps(asdict(overview)))}">'


def find_overview(page: str) -> Overview | None:
    """The overview that a page carries; None if it has none, or one of another version of this program."""
    found = _META.search(page)
    try:
        return TypeAdapter(Overview).validate_json(html.unescape(found[1])) if found else None
    except ValidationError:
        return None
