"""Every figure of a delivered report equals an independent calculation over the recorded prices.

For each week, history is loaded up to the Saturday before; the report then loads the week itself, and splits restate
stored history. Copies of the recorded symbols make the list long enough for a CSV.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

import pytest

from domain.calendar import sessions_between
from domain.models import Split
from sandbox.history import PriceHistory
from sandbox.server import MarketServer
from tests.conftest import SYMBOLS, Job
from tests.support import oracle
from tests.support.parse_report import body, html_ends, html_figures, read_mail, spreadsheet, text_figures, words

COPIES = {f"{symbol}.{n}": symbol for n in range(6) for symbol in SYMBOLS}
ORIGINAL = {symbol: symbol for symbol in SYMBOLS} | COPIES
LISTED = {"FB": date(2012, 5, 18), "GOOG": date(2004, 8, 19)}

WEEKS = {
    date(2013, 2, 25): "full",
    date(2012, 12, 31): "New Year's Day",
    date(2012, 11, 19): "Thanksgiving",
    date(2012, 10, 29): "hurricane",
    date(2012, 5, 14): "FB is listed on Friday",
    date(2008, 10, 6): "the crash of 2008",
    date(2005, 2, 28): "AAPL splits on Monday",
    date(2004, 11, 15): "MSFT pays $3",
    date(2004, 8, 16): "GOOG is listed on Thursday",
    date(2003, 2, 17): "MSFT splits on Tuesday after a holiday",
    date(2001, 9, 10): "one session",
    date(2000, 6, 19): "AAPL splits on Wednesday",
    date(2000, 3, 27): "history of less than 30 sessions",
}

USUAL_WEEKS = {  # like others, so CI leaves them out
    date(2013, 2, 18): "Presidents' Day",
    date(2013, 1, 21): "Martin Luther King",
    date(2012, 12, 24): "Christmas",
    date(2012, 9, 3): "Labor Day",
    date(2012, 7, 2): "Independence Day",
    date(2012, 5, 7): "the last before FB is listed",
    date(2012, 4, 2): "Good Friday",
    date(2011, 8, 8): "the debt ceiling",
    date(2010, 5, 3): "flash crash",
    date(2007, 1, 1): "two days closed",
    date(2004, 8, 9): "the last before GOOG is listed",
    date(2004, 6, 7): "a day of mourning",
    date(2001, 9, 17): "reopening",
}


CASES = [
    pytest.param(monday, id=f"{monday}-{name}".replace(" ", "-"), marks=marks)
    for weeks, marks in ((WEEKS, []), (USUAL_WEEKS, [pytest.mark.slow]))
    for monday, name in weeks.items()
]


@pytest.fixture(scope="module")
def market() -> Iterator[MarketServer]:
    """The recorded market, with six copies of each symbol."""
    history = PriceHistory.recorded()
    for bar in oracle.recorded_bars():
        values = dict(zip(("open", "high", "low", "close", "volume"), bar[2:], strict=True))
        for copy in (copy for copy, symbol in COPIES.items() if symbol == bar.symbol):
            history.put_bar(copy, bar.session, **values)
    for copy, original in COPIES.items():
        for split in (split for split in oracle.SPLITS if split[0] == original):
            history.add_split(Split(copy, *split[1:]))
    with MarketServer(history, today=date(2013, 3, 2)) as server:
        yield server


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


def words_for_closes(rows: list[oracle.Bar]) -> str:
    ends = [f"{oracle.cents(bar.close):,}" for bar in (rows[0], rows[-1])]
    return f"{len(rows)} closes, from {ends[0]} to {ends[1]}" if len(rows) > 1 else "1 close"


@pytest.mark.parametrize("monday", CASES)
def test_html_text_and_csv_show_the_figures_of_the_oracle(monday: date, market: MarketServer, job: Job) -> None:
    sessions = sessions_between(monday, monday + timedelta(days=6))
    saturday = monday + timedelta(days=5)
    symbols = list(ORIGINAL)
    market.today = saturday - timedelta(days=7)
    job("initialize", as_of=str(market.today), sessions=30, symbols=symbols)
    market.today = saturday

    result = job("weekly_report", as_of=str(saturday), symbols=symbols)

    bars: dict[str, list[oracle.Bar]] = {}
    for bar in oracle.adjusted(oracle.recorded_bars(), today=saturday):
        if bar.session <= sessions[-1]:
            bars.setdefault(bar.symbol, []).append(bar)
    known = {symbol: oracle.week_figures(rows, sessions[0]) for symbol, rows in bars.items()}
    traded = [symbol for symbol in symbols if ORIGINAL[symbol] in known]
    changes = {symbol: Decimal(known[ORIGINAL[symbol]]["change"].rstrip("%").replace("−", "-")) for symbol in traded}

    mail = read_mail(result["files"][1])
    text, page, sheet = body(mail, "plain"), body(mail, "html"), spreadsheet(mail)

    # The mail shows the ten best and the ten worst, in the order of the CSV, which has all symbols.
    order = [row["symbol"] for row in sheet]
    assert sorted(order) == sorted(traded)
    assert [changes[symbol] for symbol in order] == sorted(changes.values(), reverse=True)
    assert list(text_figures(text)) == list(html_figures(page)) == order[:10] + order[-10:]
    for shown in (text_figures(text), html_figures(page)):
        assert shown == {symbol: known[ORIGINAL[symbol]] for symbol in shown}
    for row in sheet:
        rows, figures = bars[ORIGINAL[row["symbol"]]][-30:], known[ORIGINAL[row["symbol"]]]
        week = [bar for bar in rows if bar.session >= sessions[0]]
        exact = {
            "sessions": len(week),
            "open": week[0].open,
            "close": week[-1].close,
            "high": max(bar.high for bar in week),
            "low": min(bar.low for bar in week),
            "return_pct": changes[row["symbol"]],
            "range_pct": Decimal(figures["range"].rstrip("%").replace(",", "")),
            "avg_volatility": Decimal(figures["volatility"].rstrip("%")),
            "volume": (Decimal(sum(bar.volume for bar in week)) / len(week)).quantize(1),
            "volume_ratio": Decimal(figures["volume"].rstrip("×")),
        }
        assert {name: Decimal(row[name]) for name in exact} == exact

    # The best and the worst, the closes that the trends show, the summary and the notices.
    ends = [
        (symbol, known[ORIGINAL[symbol]]["change"], known[ORIGINAL[symbol]]["close"])
        for symbol in (order[0], order[-1])
    ]
    assert html_ends(page) == ends
    assert re.findall(r"^(?:Best|Worst): +(\S+)  . (\S+)$", text, re.MULTILINE) == [end[:2] for end in ends]
    assert re.findall(r'aria-label="(\d+ close[^"]*)" class="trend" style="font-size:12px', page) == [
        words_for_closes(bars[ORIGINAL[symbol]][-30:]) for symbol in html_figures(page)
    ]
    moves = [sum(change > 0 for change in changes.values()), sum(change < 0 for change in changes.values())]
    flat = len(traded) - sum(moves)
    counted = [f"{n} {verb}" for n, verb in zip((*moves, flat), ("rose", "fell", "unchanged")) if n]
    short = ", a short week" if len(sessions) < 5 else ""
    plural = "s" if len(sessions) > 1 else ""
    summary = f"{len(sessions)} session{plural}{short} · {len(traded)} symbols: {', '.join(counted)}"
    splits = {symbol: day for symbol, day, _, _ in oracle.SPLITS if monday <= day <= saturday}
    unlisted = [symbol for symbol, listed in LISTED.items() if listed > sessions[-1]]
    for content in (" ".join(text.split()), words(page)):
        assert summary in content
        assert ("The exchange was closed on" in content) is (len(sessions) < 5)
        for symbol, day in splits.items():
            assert f"{symbol} split 2 for 1 on {day:%A}; all its prices are adjusted for the split." in content
        assert (" split " in content) is bool(splits)
        assert ("no bar this week" in content) is bool(unlisted)
        assert not unlisted or f" {', '.join(unlisted)}, {unlisted[0]}.0, " in content
