import email
import email.policy
import re
from email.message import EmailMessage
from pathlib import Path

import pytest

from config import Settings
from domain.errors import DeliveryError
from report.delivery import send
from report.outbox import write_page, write_report
from report.overview import End, Overview, find_overview, meta
from tests.support.parse_report import words

ONE, TWO = "one@example.com", "two@example.com"
FB = End("FB", "+2.28%", "rise", (27.0, 28.5, 27.5, 26.5, 27.78), 2)
AAPL = End("AAPL", "−5.15%", "fall", (500.0, 430.47), 2)
WEEK = Overview("25 February – 1 March 2013", "5 sessions · 5 symbols: 3 rose, 2 fell", (FB, AAPL))


def message(name="weekly-report-2013-03-01", subject="Best: A: 2.0%"):
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["Subject"], mail["From"], mail["To"] = subject, "from@example.com", f"{ONE}, {TWO}"
    mail["Message-ID"] = f"<{name}@example.com>"
    mail.set_content("Grüße\n.\n.dot\n")
    return mail


def outbox(folder):
    return Settings(_env_file=None, mail_transport="outbox", outbox=folder)


def document(overview=WEEK):
    return f"<!DOCTYPE html><html><head>{meta(overview)}</head><body></body></html>"


def index(folder):
    """The entries of the index: those of the weeks, and the others."""
    weeks, _, others = (folder / "index.html").read_text(encoding="utf-8").partition("<h2>")
    return [re.findall(r"<li>.*?</li>", part, re.DOTALL) for part in (weeks, others)]


def test_the_outbox_keeps_the_mail_and_the_page_under_the_name_of_the_week(tmp_path):
    folder = tmp_path / "new" / "outbox"
    delivery = send(message(), outbox(folder), page="<p>Grüße</p>")
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.html",
        "weekly-report-2013-03-01.eml",
        "weekly-report-2013-03-01.html",
    ]
    assert delivery.location == str(folder / "weekly-report-2013-03-01.eml")
    assert (delivery.transport, delivery.recipients) == ("outbox", (ONE, TWO))
    assert (folder / "weekly-report-2013-03-01.html").read_text(encoding="utf-8") == "<p>Grüße</p>"
    raw = (folder / "weekly-report-2013-03-01.eml").read_bytes()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    parsed = email.message_from_bytes(raw, policy=email.policy.strict + email.policy.SMTP)
    assert parsed["Subject"] == "Best: A: 2.0%"


def test_a_report_of_the_same_week_replaces_its_files(tmp_path):
    for subject in ("first", "second"):
        send(message(subject=subject), outbox(tmp_path), page=subject)
    assert len(list(tmp_path.iterdir())) == 3
    assert (tmp_path / "weekly-report-2013-03-01.html").read_text() == "second"
    assert [len(entries) for entries in index(tmp_path)] == [1, 0]


def test_the_index_lists_weeks_newest_first_and_links_page_and_mail(tmp_path):
    days = ("2013-02-22", "2013-03-01", "2013-02-15")
    for day in days:
        send(message(f"weekly-report-{day}"), outbox(tmp_path), page=document(Overview(f"week to {day}", "", ())))
    weeks, others = index(tmp_path)
    assert [re.findall('href="([^"]*)"', entry) for entry in weeks] == [
        [f"weekly-report-{day}.html", f"weekly-report-{day}.eml"] for day in sorted(days, reverse=True)
    ]
    assert [f">week to {day}</a>" in entry for day, entry in zip(sorted(days, reverse=True), weeks, strict=True)]
    assert others == []


def test_a_week_of_the_index_shows_its_best_and_worst_symbol_with_signs_and_a_picture(tmp_path):
    write_report(tmp_path, "weekly-report-2013-03-01", page=document())
    ((week,), _) = index(tmp_path)
    assert words(week) == (
        "25 February – 1 March 2013 5 sessions · 5 symbols: 3 rose, 2 fell Best FB ▲ +2.28% Worst AAPL ▼ −5.15%"
    )
    lines = re.findall(r'<polyline(?: class="week")? points="([^"]*)"/>', week)
    assert lines == [
        "0.0,45.0 75.0,0.0 150.0,30.0 225.0,60.0 300.0,21.6",
        "150.0,30.0 225.0,60.0 300.0,21.6",  # the week's two closes, from the one before
        *["0.0,0.0 300.0,60.0"] * 2,
    ]


def test_one_symbol_is_neither_best_nor_worst(tmp_path):
    write_report(tmp_path, "weekly-report-2013-03-01", page=document(Overview("a week", "1 symbol", (FB,))))
    ((week,), _) = index(tmp_path)
    assert words(week) == "a week 1 symbol This week FB ▲ +2.28%"


@pytest.mark.parametrize(
    ("suffix", "note"),
    [
        ("-preview", "Preview · "),
        ("-AAPL-IBM", "Chosen symbols · "),
        ("-AAPL-IBM-preview", "Preview of chosen symbols · "),
        ("-0123456789abcdef", "Chosen symbols · "),
        ("-no-prices-preview", "Preview · "),
    ],
)
def test_previews_and_chosen_symbols_are_listed_apart_from_the_weeks_report(tmp_path, suffix, note):
    for name in ("weekly-report-2013-03-01", f"weekly-report-2013-03-01{suffix}"):
        write_report(tmp_path, name, page=document())
    weeks, (other,) = index(tmp_path)
    assert len(weeks) == 1
    assert f'href="weekly-report-2013-03-01{suffix}.html"' in other
    assert words(other) == (
        f"25 February – 1 March 2013 {note}5 sessions · 5 symbols: 3 rose, 2 fell FB ▲ +2.28%\u2003AAPL ▼ −5.15%"
    ).replace("\u2003", " ")


def test_a_week_without_prices_is_a_week(tmp_path):
    write_report(tmp_path, "weekly-report-2013-03-01-no-prices", page=document(Overview("a week", "5 sessions", ())))
    assert [words(entry) for entry in index(tmp_path)[0]] == ["a week 5 sessions"]


def test_a_mail_without_an_overview_is_listed_by_its_subject(tmp_path):
    send(message(subject="<b>é"), outbox(tmp_path), page="a page of an earlier version")
    send(message("weekly-report-2013-99-99", subject="someone's"), outbox(tmp_path))
    (week,), (other,) = index(tmp_path)
    assert '<a class="title" href="weekly-report-2013-03-01.html">&lt;b&gt;é</a>' in week
    assert '<a class="title" href="weekly-report-2013-99-99.eml">someone&#39;s</a>' in other


def test_a_page_that_is_no_report_is_not_listed(tmp_path):
    (tmp_path / "notes.html").write_text("notes")
    write_report(tmp_path, "weekly-report-2013-03-01", page=document())
    assert [len(entries) for entries in index(tmp_path)] == [1, 0]


def test_the_index_needs_no_network_and_no_script(tmp_path):
    write_report(tmp_path, "weekly-report-2013-03-01", page=document())
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(|<link|<script|<img", page)


def test_an_overview_survives_its_page():
    odd = Overview('a "week" & <more>', "é\n", (End("<B>", "0.00%", "flat", (1.0,), 1),))
    assert find_overview(document(odd)) == odd
    assert odd.ends[0].line(300, 60) == ["0.0,0.0"]


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", '{"week": "", "summary": "", "ends": [{"symbol": "A"}]}'])
def test_a_damaged_overview_is_none(content):
    assert find_overview(f"<meta name=\"overview\" content='{content}'>") is None
    assert find_overview(f'<meta name="overview" content="{content.replace(chr(34), "&quot;")}">') is None


def test_a_page_can_be_written_elsewhere_without_an_index(tmp_path):
    path = tmp_path / "new" / "mine.html"
    write_page(path, "é")
    assert path.read_text(encoding="utf-8") == "é"
    assert list(path.parent.iterdir()) == [path]


def test_a_page_that_cannot_be_written_is_an_error_that_names_it():
    with pytest.raises(DeliveryError, match=r"the page '/dev/null/my/page\.html' cannot be written: Not a directory"):
        write_page(Path("/dev/null/my/page.html"), "")


def test_no_message_id_writes_outside_the_outbox(tmp_path):
    folder = tmp_path / "outbox"
    send(message("../../etc/passwd"), outbox(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["outbox"]
    assert len(list(folder.glob("*.eml"))) == 1


def test_an_outbox_that_is_a_file_is_an_error_that_names_it(tmp_path):
    taken = tmp_path / "outbox"
    taken.write_text("a file")
    with pytest.raises(DeliveryError, match=r"the outbox '.*outbox' cannot be written: File exists; set OUTBOX"):
        send(message(), outbox(taken))


def test_an_outbox_that_cannot_be_created_is_an_error_that_names_it():
    with pytest.raises(DeliveryError, match="the outbox '/dev/null/outbox' cannot be written: Not a directory"):
        send(message(), outbox(Path("/dev/null/outbox")))


def test_a_failed_write_leaves_no_temporary_file(tmp_path):
    send(message(subject="old"), outbox(tmp_path), page="old")
    (tmp_path / "index.html").unlink()
    (tmp_path / "index.html").mkdir()
    with pytest.raises(DeliveryError, match="Is a directory"):
        send(message(subject="old"), outbox(tmp_path), page="old")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
