import csv
import email
import email.policy
import html
import io
import re
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import pytest

from domain.errors import ConfigError
from report import formatting
from report.charts import Chart
from report.email import build_message, message_id
from report.model import Week
from reporting import build_report, chart_symbols, page, subject

PNG = b"\x89PNG\r\n\x1a\n" + b"picture of "
SATURDAY = datetime(2013, 3, 2, 16, 0, tzinfo=UTC)
WEEK = Week(date(2013, 2, 25), date(2013, 3, 1), 5)


def performance(**returns):
    """Weekly performance of symbols with the given returns, best first; other figures are constant."""
    rows = [
        {
            "symbol": symbol,
            "sessions": 5,
            "open": 100.0,
            "close": 100.0 + value,
            "high": 120.0,
            "low": 90.0,
            "return_pct": float(value),
            "range_pct": 33.333333333333336,
            "avg_volatility": 2.5,
            "volume": 1000.0,
            "volume_ratio": 0.96,
            "closes": [98.0, 99.0, 100.0 + value],
        }
        for symbol, value in returns.items()
    ]
    table = pd.DataFrame(rows, columns=list(rows[0]) if rows else None)
    return table.sort_values("return_pct", ascending=False, ignore_index=True) if rows else table


def chart(symbol):
    return Chart(symbol, PNG + symbol.encode(), f"{symbol}, 30 sessions: closed at $100.00.")


def many(count):
    return performance(**{f"S{n:04}": (count - n) / 1000 for n in range(count)})


def words(page_html):
    """The visible text of a page."""
    body = re.sub(r"<style>.*?</style>", "", page_html.split("<body")[1], flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def parsed(message):
    return email.message_from_bytes(message.as_bytes(), policy=email.policy.strict + email.policy.SMTP)


def mail(report, sender="from@example.com", recipients=("to@example.com",)):
    return build_message(report, sender=sender, recipients=recipients, sent_at=SATURDAY)


@pytest.mark.parametrize(
    ("returns", "line"),
    [
        ({"NVDA": 8.53, "GOOG": 1, "QUBT": -3.24}, "Best: NVDA: 8.5% | Worst: QUBT: -3.2%"),
        ({"UP": 0.05, "DOWN": -0.049}, "Best: UP: 0.0% | Worst: DOWN: 0.0%"),
        ({"UP": 0.15, "DOWN": -0.15}, "Best: UP: 0.2% | Worst: DOWN: -0.2%"),
        ({"UP": 12345.67, "DOWN": -100}, "Best: UP: 12345.7% | Worst: DOWN: -100.0%"),
        ({"NVDA": 8.53}, "NVDA: 8.5%"),
        ({"A": 1.5, "B": 1.5, "C": 1.5}, "All 3 symbols: 1.5%"),
        ({"A": -0.0, "B": 0.0}, "All 2 symbols: 0.0%"),
        ({}, "No prices"),
    ],
)
def test_the_subject_names_best_and_worst(returns, line):
    assert subject(performance(**returns)) == f"Weekly Market Report - {line}"


def test_an_unknown_return_is_neither_best_nor_worst():
    report = build_report(performance(A=2, B=-1, C=float("nan")), WEEK)

    assert report.subject == "Weekly Market Report - Best: A: 2.0% | Worst: B: -1.0%"
    assert "3 symbols: 1 rose, 1 fell" in report.text
    assert report.text.index("Worst:") < report.text.index("B ") < report.text.index("THE WEEK")


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (date(2013, 2, 25), date(2013, 3, 1), "25 February – 1 March 2013"),
        (date(2013, 3, 4), date(2013, 3, 8), "4 – 8 March 2013"),
        (date(2012, 12, 31), date(2013, 1, 4), "31 December 2012 – 4 January 2013"),
        (date(2001, 9, 10), date(2001, 9, 10), "10 September 2001"),
    ],
)
def test_the_dates_of_the_week_are_written_in_words(first, last, words):
    assert str(Week(first, last, 5)) == words


def test_the_report_summarizes_the_week():
    report = build_report(performance(A=2, B=1, C=0, D=-1), WEEK)
    for content in (words(report.html), report.text):
        assert "25 February – 1 March 2013" in content
        assert "5 sessions · 4 symbols: 2 rose, 1 fell, 1 unchanged" in content
    short = build_report(performance(A=2), Week(date(2013, 2, 19), date(2013, 2, 22), 4))
    assert "4 sessions, a short week · 1 symbol: 1 rose" in short.text
    assert "4 sessions, a short week · 1 symbol: 1 rose" in words(short.html)


def test_the_csv_holds_every_symbol_with_the_same_figures():
    table = many(25)
    table.loc[3, "volume_ratio"] = float("nan")
    rows = list(csv.DictReader(io.StringIO(build_report(table, WEEK).csv)))
    assert [row["symbol"] for row in rows] == table["symbol"].tolist()
    assert rows[0] == {
        "symbol": "S0000",
        "sessions": "5",
        "open": "100.0",
        "close": "100.025",
        "high": "120.0",
        "low": "90.0",
        "return_pct": "0.02",
        "range_pct": "33.33",
        "avg_volatility": "2.50",
        "volume": "1000",
        "volume_ratio": "0.96",
    }
    assert rows[3]["volume_ratio"] == ""


def test_a_long_list_shows_the_ten_best_and_the_ten_worst_and_attaches_the_rest():
    report = build_report(many(3000), WEEK, charts=[chart("S0000")])
    symbols = [f"S{n:04}" for n in [*range(10), *range(2990, 3000)]]
    assert re.findall(r"<b>(S\d+)</b>", report.html) == symbols
    assert re.findall(r"^(S\d+)  +1", report.text, re.MULTILINE) == symbols
    assert len(report.html.encode()) < 102_000
    attached = [part for part in parsed(mail(report)).walk() if part.get_content_disposition() == "attachment"]
    assert [part.get_filename() for part in attached] == ["weekly-report-2013-03-01.csv"]
    assert len(attached[0].get_content().splitlines()) == 3001


@pytest.mark.parametrize(("count", "has_csv"), [(20, False), (21, True)])
def test_the_table_holds_up_to_twenty_symbols(count, has_csv):
    report = build_report(many(count), WEEK)
    assert (report.csv is not None) is has_csv
    assert len(re.findall(r"<b>S\d+</b>", report.html)) == 20


def test_of_three_thousand_symbols_only_those_shown_are_formatted(monkeypatch):
    formatted, table_row = [], formatting.table_row
    monkeypatch.setattr(formatting, "table_row", lambda figures, n: formatted.append(figures) or table_row(figures, n))
    build_report(many(3000), WEEK)
    assert 20 <= len(formatted) <= 30


def test_up_to_ten_symbols_get_a_chart_and_of_more_the_best_and_worst_five():
    assert chart_symbols(many(10)) == [f"S{n:04}" for n in range(10)]
    assert chart_symbols(many(11)) == [f"S{n:04}" for n in [*range(5), *range(6, 11)]]
    assert chart_symbols(performance()) == []


def test_chosen_symbols_that_traded_get_the_charts():
    assert chart_symbols(many(30), ["S0020", "NOPE", "S0002"]) == ["S0002", "S0020"]
    report = build_report(many(30), WEEK, charts=[chart("S0002")], chosen=["S0002", "S0015"])
    assert report.html.count("<img ") == 1
    assert "S0015  ▁▄█  3 closes, from 98.00 to 100.02" in report.text  # in no table, and without a chart


def test_a_missing_chart_is_replaced_by_a_small_trend():
    report = build_report(performance(A=2, B=-1), WEEK, charts=[chart("B")])
    assert [picture.symbol for picture in report.charts] == ["B"]
    assert report.html.count("<img ") == 1
    assert "A  ▁▃█  3 closes, from 98.00 to 102.00" in report.text
    assert "A 3 closes, from 98.00 to 102.00 ▁▃█" in words(report.html)


def test_charts_follow_the_order_of_the_table_each_with_its_picture_and_alt_text():
    report = build_report(performance(A=2, B=-1), WEEK, charts=[chart("B"), chart("A")])
    related = {part["Content-ID"]: part for part in parsed(mail(report)).walk() if part["Content-ID"]}
    shown = re.findall(r'<img src="cid:([^"]+)".*? alt="(\w+),', report.html)
    assert [symbol for _, symbol in shown] == ["A", "B"]
    for cid, symbol in shown:
        part = related[f"<{cid}>"]
        assert part.get_content() == PNG + symbol.encode()
        assert (part.get_content_type(), part.get_content_disposition()) == ("image/png", "inline")
        assert part.get_filename() == f"{symbol}.png"
    assert len(related) == 2


def test_notices_are_in_text_and_html():
    notices = ["GOOG has no bar for Friday.", "MSFT split 2 for 1."]
    report = build_report(performance(A=2), WEEK, notices=notices)
    for notice in notices:
        assert notice in words(report.html)
        assert f"- {notice}" in report.text


def test_a_symbol_that_missed_a_session_is_marked():
    table = performance(A=2, B=1).assign(sessions=[5, 4])
    report = build_report(table, WEEK)
    assert "<b>B</b>*" in report.html
    assert re.search(r"^B \*  ", report.text, re.MULTILINE)
    assert "* traded in fewer sessions than the week had" in report.text
    assert "fewer sessions" not in build_report(performance(A=2), WEEK).html


def test_a_week_without_prices_is_still_a_report():
    report = build_report(performance(), WEEK, notices=["The provider could not be reached."])
    assert "No symbol has a price this week." in report.text
    assert "No symbol has a price this week." in words(report.html)
    assert "The provider could not be reached." in report.text
    parsed(mail(report))


def test_the_mail_is_complete_and_free_of_defects():
    report = build_report(performance(A=2, B=-1), WEEK, charts=[chart("A"), chart("B")])
    message = mail(report, recipients=("one@example.com", "two@example.com"))
    assert {name: str(message[name]) for name in ("Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted")} == {
        "Subject": "Weekly Market Report - Best: A: 2.0% | Worst: B: -1.0%",
        "From": "Stock Tracker <from@example.com>",
        "To": "one@example.com, two@example.com",
        "Date": "Sat, 02 Mar 2013 16:00:00 +0000",
        "Message-ID": "<weekly-report-2013-03-01@example.com>",
        "Auto-Submitted": "auto-generated",
    }
    raw = message.as_bytes()
    lines = raw.split(b"\r\n")
    assert raw.isascii()
    assert max(map(len, lines)) <= 998
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    again = parsed(message)
    assert again["MIME-Version"] == "1.0"
    assert [part.get_content_type() for part in again.walk()] == [
        *["multipart/alternative", "text/plain"],
        *["multipart/related", "text/html", "image/png", "image/png"],
    ]
    assert all(not part.defects for part in again.walk())
    assert again.get_body(("html",)).get_content().replace("\r\n", "\n").strip() == report.html.strip()
    assert again.get_body(("plain",)).get_content().replace("\r\n", "\n").strip() == report.text.strip()


@pytest.mark.parametrize("address", ["mailto:stop@example.com", "https://example.com/" + "x" * 50])
def test_the_mail_has_the_unsubscribe_address_if_one_is_set(address):
    report = build_report(performance(A=1), WEEK)
    to: dict[str, Any] = {"sender": "from@example.com", "recipients": ("to@example.com",), "sent_at": SATURDAY}
    sent = build_message(report, unsubscribe=address, **to).as_bytes()
    assert re.search(rb"^List-Unsubscribe:\s+<(.*)>\r$", sent, re.MULTILINE).group(1).decode() == address
    assert b"List-Unsubscribe" not in build_message(report, **to).as_bytes()


def test_the_same_report_gives_the_same_bytes():
    first, second = (mail(build_report(many(30), WEEK, charts=[chart("S0000")])).as_bytes() for _ in range(2))
    assert first == second


def test_the_message_id_is_made_of_the_week_and_the_senders_domain():
    assert message_id(WEEK.name, "me@example.com") == "<weekly-report-2013-03-01@example.com>"
    assert message_id(WEEK.name, None) == "<weekly-report-2013-03-01@localhost>"


def test_a_placeholder_replaces_missing_addresses():
    message = mail(build_report(performance(A=1), WEEK), sender=None, recipients=())
    assert message["From"].addresses[0].addr_spec == message["To"].addresses[0].addr_spec == "stock-tracker@localhost"


MALFORMED = ["a@b.c\r\nBcc: x@y.z", "a@b.c, d@e.f", "nobody", "a b@c.d", "@", "a@"]


@pytest.mark.parametrize("address", MALFORMED)
@pytest.mark.parametrize(("setting", "argument"), [("MAIL_FROM", "sender"), ("MAIL_TO", "recipients")])
def test_a_malformed_address_is_an_error_and_adds_no_header(address, setting, argument):
    report = build_report(performance(A=1), WEEK)
    with pytest.raises(ConfigError, match=setting) as caught:
        mail(report, **{argument: address if argument == "sender" else (address,)})
    assert "\n" not in str(caught.value)


def test_markup_is_escaped_and_line_breaks_add_no_header():
    evil = '<script>alert("1")</script>\r\nBcc: x@example.com'
    table = performance(**{evil: 5, "B": 1})
    picture = Chart("B", PNG, evil)
    report = build_report(table, WEEK, charts=[picture], notices=[evil, '"><img src=x onerror=alert(1)>'])
    assert "<script" not in report.html
    assert "<img src=x" not in report.html
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;  Bcc: x@example.com" in report.html
    assert report.text.count("\nBcc:") == 0
    message = parsed(mail(report))
    assert message["Bcc"] is None
    assert all(not part.defects for part in message.walk())
    assert "<script" not in page(report)


def test_a_symbol_is_no_formula_to_a_spreadsheet():
    report = build_report(pd.concat([performance(**{"=1+1": 99}), many(25)]), WEEK)
    assert report.csv.splitlines()[1].startswith("'=1+1,")


def test_the_page_is_self_contained():
    report = build_report(many(30), WEEK, charts=[chart("S0000"), chart("S0001")])
    document = page(report)
    assert "cid:" not in document
    assert document.count('src="data:image/png;base64,') == 2
    assert 'download="weekly-report-2013-03-01.csv" href="data:text/csv;base64,' in document
    assert words(document) == words(report.html)


def test_the_report_loads_nothing_from_the_network():
    report = build_report(many(30), WEEK, charts=[chart("S0000")])
    assert not re.search(r"https?:|@import|url\(|<link|<script", report.html)


def test_the_page_supports_small_and_dark_screens():
    content = build_report(performance(A=1), WEEK).html
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in content
    assert '<meta name="color-scheme" content="light dark">' in content
    assert "@media (prefers-color-scheme: dark)" in content


def test_text_columns_line_up():
    table = performance(LONGSYMBOL=2, B=-1).assign(close=[123456.5, 0.00012])
    lines = build_report(table, WEEK).text.split("THE WEEK\n")[1].splitlines()[:3]
    ends = [re.search(r"Close|123,456\.50|0\.00012", line).end() for line in lines]
    assert len(set(ends)) == 1
    assert len({line.rindex("  ") for line in lines}) == 1
