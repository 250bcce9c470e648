"""Text from outside: one printable line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text import LONGEST_TEXT, Redactor, clean_text

SECRET = "k/3y+hunter2 do-not-tell"


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


@pytest.mark.parametrize("repeated", ["open  sesame&99", "open sesame&99", "open  sesame&amp;99"])
def test_a_password_with_spaces_is_masked_in_a_line_and_in_a_page(repeated: str) -> None:
    mask = Redactor(["open  sesame&99"])

    assert "sesame" not in clean_text(f"535 bad password {repeated}", mask=mask)


@pytest.mark.parametrize("filler", [" ", "\x1b[31m"])
def test_no_part_of_a_secret_is_left_where_a_long_text_is_cut(filler: str) -> None:
    for shift in range(24):
        for most in (3200, 3200 + 256):
            text = filler * ((most - shift) // len(filler)) + SECRET

            assert SECRET[:4] not in clean_text(text, mask=Redactor([SECRET]))


@pytest.mark.parametrize(
    "broken", ["hunter2 \n do-not-tell", "hunter2\0do-not-tell", "hunter2\u200bdo-\x1b[31mnot-tell"]
)
def test_a_secret_is_masked_before_the_text_becomes_a_line(broken: str) -> None:
    assert clean_text(f"no\n{broken} for you", mask=Redactor(["hunter2do-not-tell"])) == "no *** for you"
