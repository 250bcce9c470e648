"""Text from outside: one printable line, without secrets in any form."""

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text import LONGEST_TEXT, MASK, Redactor, clean_text

SECRET = "k/3y+hunter2 do-not-tell"
LOGIN = ("me@example.com", "open sesame/2")


def coded(text):
    return base64.b64encode(text.encode()).decode()


class TestCleanText:
    @pytest.mark.parametrize(
        ("said", "line"),
        [
            ("as it is", "as it is"),
            ("a\r\n\t b\u2028c", "a b c"),
            ("a\0b\x07c\x7fd\x85e", "a b c d e"),
            ("a\ud800b", "a b"),
            ("\x1b[1;31mred\x1b[0m, \x1b]0;title\x07\x1bcblue\x9b2J", "red, blue"),
            ("right\u202eleft\u200b", "right left"),
            (b"caf\xc3\xa9 \xff", "café \ufffd"),
            ("", ""),
            (None, ""),
            (["a"], ""),
            (5, "5"),
            (True, "True"),
        ],
    )
    def test_what_does_not_print_becomes_a_space(self, said, line):
        assert clean_text(said) == line

    def test_a_long_text_is_cut_and_says_so(self):
        assert clean_text("x" * 500) == "x" * (LONGEST_TEXT - 1) + "…"
        assert clean_text("x" * 500, 10) == "x" * 9 + "…"
        assert clean_text("x" * 10, 10) == "x" * 10

    def test_a_secret_is_masked_before_the_text_is_cut(self):
        assert clean_text("x" * 5 + SECRET, 15, Redactor([SECRET])) == "xxxxx***"

    @given(st.one_of(st.text(), st.text(st.characters()), st.binary()), st.integers(1, 300))
    def test_any_text_is_one_printable_line_that_every_database_stores(self, said, limit):
        line = clean_text(said, limit)
        assert line.isprintable()
        assert len(line) <= limit
        line.encode()


class TestRedactor:
    mask = Redactor([SECRET], [LOGIN])

    @pytest.mark.parametrize(
        "form",
        [
            SECRET,
            quote(SECRET),
            quote(SECRET, safe=""),
            quote(SECRET, safe="").lower(),
            quote_plus(SECRET),
            json.dumps(SECRET)[1:-1].replace("/", "\\/"),
            coded(SECRET),
            coded(SECRET).rstrip("="),
            coded(SECRET).replace("+", "-").replace("/", "_"),
            *(coded(" " * before + SECRET + "and more") for before in range(1, 4)),
            coded(SECRET)[5:17],
            LOGIN[1],
            quote(LOGIN[1], safe=""),
            coded("\0".join(["", *LOGIN])),
            coded("\0".join(["", *LOGIN]))[3:20],
            coded("\0".join(["", *LOGIN]))[:12],
            coded(":".join(LOGIN)),
        ],
    )
    def test_every_form_of_a_secret_is_masked(self, form):
        assert self.mask(f"no {form} for you") == f"no {MASK} for you"

    @pytest.mark.parametrize(
        "text",
        [
            "the provider does not know /v2/aggs/ticker/GOOG/range/1/day/2013-02-25/2013-03-01",
            "PostgreSQL at db.example.com:5432/prices: relation does not exist",
            "https://api.massive.com/v2/aggs",
            "you@example.com: 550 no such mailbox",
            '{"url":"https://example.com","to":"you@example.com"}',
        ],
    )
    def test_other_text_stays_as_it_is(self, text):
        assert self.mask(text) == text
        assert Redactor()(text) == text

    @pytest.mark.parametrize(
        "url", ["https://me:word@example.com/x", "postgresql://me:a/b@c@example.com/x", "http://token@example.com/x"]
    )
    def test_a_user_and_a_password_in_a_url_are_masked_whoever_they_belong_to(self, url):
        assert Redactor()(f"not {url}!") == f"not {url.partition(':')[0]}://***@example.com/x!"

    def test_a_short_secret_is_masked_where_it_stands_alone(self):
        assert Redactor(["test"])("the latest test: test2") == "the latest ***: test2"

    def test_a_secret_of_three_characters_hides_no_message(self):
        assert Redactor(["abc", ""], [("me", "")])("abc") == "abc"

    @given(st.text(min_size=8), st.text(), st.text())
    def test_no_text_has_the_secret_left(self, secret, before, after):
        mask = Redactor([secret])
        assert secret not in mask(before + secret + after).replace(MASK, "")


@pytest.mark.parametrize("repeated", ["open  sesame&99", "open sesame&99", "open  sesame&amp;99"])
def test_a_password_with_spaces_is_masked_in_a_line_and_in_a_page(repeated: str) -> None:
    mask = Redactor([], [("me", "open  sesame&99")])

    assert "sesame" not in clean_text(f"535 bad password {repeated}", mask=mask)


@pytest.mark.parametrize("filler", [" ", "\x1b[31m"])
def test_no_part_of_a_secret_is_left_where_a_long_text_is_cut(filler: str) -> None:
    for shift in range(24):
        for most in (3200, 3200 + 256):
            text = filler * ((most - shift) // len(filler)) + SECRET

            assert SECRET[:4] not in clean_text(text, mask=Redactor([SECRET]))


def test_a_text_of_many_addresses_is_masked_in_linear_time() -> None:
    assert Redactor([SECRET])("://:" * 200_000) == "://:" * 200_000
