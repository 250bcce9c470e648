"""No text that leaves this process holds a secret, in whatever form another service repeats it."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.text import CHUNK, MASK, Redactor

SECRET = "k/3y+hunter2 do-not-tell"


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def printed(text: str) -> str:
    return text.replace(" ", "").casefold()


def utf16(text: str) -> list[bytes]:
    data = text.encode("utf-16-be")
    return [data[at : at + 2] for at in range(0, len(data), 2)]


# What other programs make of a text; each can be undone.
ENCODINGS: dict[str, Callable[[str], str]] = {
    "URL": lambda text: quote(text, safe=""),
    "URL in lower case": lambda text: re.sub("%..", lambda code: code[0].lower(), quote(text, safe="")),
    "path": quote,
    "form": quote_plus,
    "URL, needlessly": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, needlessly": lambda text: "".join(f"\\u{unit.hex()}" for unit in utf16(text)),
    "JSON in upper case": lambda text: "".join(f"\\u{unit.hex().upper()}" for unit in utf16(text)),
    "Python": lambda text: repr(text)[1:-1],
    "Python's bytes": lambda text: repr(text.encode())[2:-1],
    "Python, needlessly": lambda text: "".join(f"\\x{byte:02X}" for byte in text.encode()),
    "HTML": html.escape,
    "HTML, needlessly": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "HTML in hex": lambda text: "".join(f"&#x{ord(letter):X};" for letter in text),
    "Base64": coded,
    "Base64 without padding": lambda text: coded(text).rstrip("="),
    "Base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "MIME": lambda text: base64.encodebytes(text.encode()).decode().strip(),
    "a line break": lambda text: f"{text[: len(text) // 2]}\r\n{text[len(text) // 2 :]}",
    "zero-width characters": "\u200b".join,
}
CASES: list[Callable[[str], str]] = [str, str.upper, str.lower, str.swapcase]
LETTERS = st.one_of(st.characters(min_codepoint=33, max_codepoint=126), st.sampled_from(" %&\\\"'/+=éßя漢😀"))
SECRETS = st.text(LETTERS, min_size=8, max_size=60).map(str.strip).filter(lambda secret: len(printed(secret)) >= 8)


def encoded(text: str, encodings: Sequence[str]) -> str:
    for name in encodings:
        text = ENCODINGS[name](text)
    return text


def readable(text: str, depth: int = 2) -> Iterator[str]:
    """A text, and what the Base64 in it says, from whichever letter it is read."""
    yield text
    for token in re.findall(r"[A-Za-z0-9+/_-]+", text) if depth else ():
        for first in range(4):
            letters = token[first:].replace("-", "+").replace("_", "/")
            data = base64.b64decode(letters + "A" * (-len(letters) % 4))[: len(letters) * 3 // 4]
            yield from readable(data.decode("latin-1"), depth - 1)


@pytest.mark.parametrize("last", ENCODINGS)
def test_every_form_of_a_secret_is_masked(last: str) -> None:
    mask = Redactor([SECRET])
    for first in ENCODINGS:
        for case in CASES:
            form = encoded(case(SECRET), [first, last])
            assert mask(f"no {form} for you") == "no *** for you", (first, form)


@settings(max_examples=500)
@given(SECRETS, st.lists(st.sampled_from(list(ENCODINGS)), max_size=2), st.sampled_from(CASES))
def test_every_form_of_every_secret_is_masked(secret: str, encodings: list[str], case: Callable[[str], str]) -> None:
    masked = Redactor([secret])(f"no {encoded(case(secret), encodings)} for you")

    left = masked.removeprefix("no ").removesuffix(" for you").replace(MASK, "")
    assert MASK in masked
    if set(secret).isdisjoint("%&\\+"):
        assert not left
    assert len(left) < 8, "a secret may itself look as if it were encoded; then a few characters may be left"


@given(SECRETS, st.text(LETTERS), st.text(LETTERS), st.integers(1, 2), st.integers(0, 60), st.integers(0, 60))
def test_nothing_of_a_secret_can_be_read_in_a_part_of_longer_base64(
    secret: str, before: str, after: str, depth: int, start: int, end: int
) -> None:
    assume(secret.isascii())
    form = encoded(before + secret + after, ["Base64 for URLs"] * depth)[start:]
    masked = Redactor([secret])(f"no {form[: len(form) - end]} for you")

    parts = [printed(secret)[at : at + 8] for at in range(len(printed(secret)) - 7)]
    assert not [text for text in readable(masked) for part in parts if part in printed(text)]


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("after", range(3))
def test_no_letter_of_base64_is_left_that_depends_on_the_secret(before: int, after: int) -> None:
    other = "".join(chr(ord(letter) ^ 127) for letter in SECRET)
    form, other_form = (coded("<" * before + secret + ">" * after) for secret in (SECRET, other))
    left, right = Redactor([SECRET])(form).split(MASK)

    assert other_form.startswith(left)
    assert other_form.endswith(right)


@given(SECRETS, st.integers(1, 52))
def test_a_secret_that_was_cut_is_masked_if_eight_characters_are_left(secret: str, cut: int) -> None:
    for left in (secret[cut:].strip(), secret[:-cut].strip()):
        shown = MASK if len(printed(left)) >= 8 else left
        assert Redactor([secret])(f"«{left}…»") == f"«{shown}…»"


@given(st.one_of(st.text(), st.text(LETTERS), st.text(st.sampled_from("aZ09+/=-_%&#;\\ux \n"), max_size=200)))
def test_other_text_stays_as_it_is(text: str) -> None:
    assume("://" not in text)
    assert Redactor(["k3y0AbCdEfGh", "hunter2 do-not-tell", "t3st"])(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "the provider does not know /v2/aggs/ticker/GOOG/range/1/day/2013-02-25/2013-03-01",
        "PostgreSQL at db.example.com:5432/prices: relation does not exist",
        "https://api.massive.com/v2/aggs?adjusted=true&sort=asc&limit=50000",
        "you@example.com: 550 no such mailbox",
        '{"url":"https://example.com","to":"you@example.com"}',
        "only hunter2 is no secret: it has seven characters",
    ],
)
def test_messages_stay_as_they_are(text: str) -> None:
    assert Redactor([SECRET])(text) == text
    assert Redactor()(text) == text


@pytest.mark.parametrize("login", ["\0me@example.com\0{}", "me@example.com:{}"])
@pytest.mark.parametrize("password", ["open sesame/2", "sesame"])
def test_the_credentials_of_auth_plain_and_basic_hold_no_password(login: str, password: str) -> None:
    masked = Redactor([password])(f"535 {coded(login.format(password))} is refused")

    assert re.fullmatch(r"535 [A-Za-z0-9]+\*\*\* is refused", masked)
    assert not [text for text in readable(masked) if password[:3] in text]
    assert any("me@example.com" in text for text in readable(masked)), "a user is no secret"


@pytest.mark.parametrize("shift", range(3))
def test_the_last_line_of_base64_alone_is_masked(shift: int) -> None:
    last = base64.encodebytes(b"x" * (50 + shift) + SECRET.encode()).decode().splitlines()[-1]

    assert Redactor([SECRET])(last) == MASK


@pytest.mark.parametrize(
    "url", ["https://me:word@example.com/x", "postgresql://me:a/b@c@example.com/x", "http://token@example.com/x"]
)
def test_a_user_and_a_password_in_a_url_are_masked_whoever_they_belong_to(url: str) -> None:
    assert Redactor()(f"not {url}!") == f"not {url.partition(':')[0]}://***@example.com/x!"


def test_a_short_secret_is_masked_where_it_stands_alone() -> None:
    mask = Redactor(["test"])

    assert mask("the latest test: test2, TEST, test_2") == "the latest ***: test2, ***, test_2"
    assert mask(f"te\u200bst, t%65st and {coded(':test')}") == "***, *** and O***"


def test_a_secret_of_eight_letters_is_masked_within_words() -> None:
    assert (
        Redactor(["password"])("no Passwords: check the user and the password") == "no ***s: check the user and the ***"
    )


def test_a_secret_of_three_characters_hides_no_message() -> None:
    assert Redactor(["abc", "", "a b c"])("abc") == "abc"


def test_escaped_lines_of_json_are_masked_as_a_whole() -> None:
    line = json.dumps({"event": json.dumps({SECRET: f"tell\n{SECRET}\nit"})})

    assert json.loads(json.loads(Redactor([SECRET])(line))["event"]) == {MASK: "tell\n***\nit"}


@pytest.mark.parametrize("at", [CHUNK - 60, CHUNK - 10, CHUNK, CHUNK + 1000, 3 * CHUNK - 30])
def test_a_secret_in_a_long_text_is_masked(at: int) -> None:
    before, after = "x " * (at // 2), " y" * CHUNK

    assert Redactor([SECRET])(before + encoded(SECRET, ["JSON, needlessly"]) + after) == before + MASK + after


def test_a_text_of_many_addresses_is_masked_in_linear_time() -> None:
    assert Redactor([SECRET])("://:" * 200_000) == "://:" * 200_000
