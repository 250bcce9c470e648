"""Text from outside: one printable line of it, and no secret in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from domain.decoding import DEPTH, unescape, views

LONGEST_TEXT = 200  # characters of what another service says
MARGIN = 256  # characters at the end of a text that was cut, and may hold a part of a secret
MASK = "***"
SHORTEST_SECRET = 4  # characters; a mask for every shorter one would hide the message
PART = 8  # characters that give a secret away; a shorter secret may be a word, and is masked where it stands alone
SEED, STEP = 5, 4  # characters: each part has one of its seeds at a multiple of the step
CHUNK, OVERLAP = 2**16, 2**10  # characters that are decoded at a time, to bound memory, and those decoded twice

_TERMINAL = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.?", re.DOTALL)
_USERINFO = re.compile(r"""(?<=://)(?:[^\s"'/@]{1,256}|[^\s"'/:@]{0,256}:[^\s"']{0,256})@""")


def clean_text(said: object, limit: int = LONGEST_TEXT, mask: Callable[[str], str] = str) -> str:
    """Return what another service says as one line of printable characters, at most `limit` of them.

    Escape sequences of terminals vanish. NUL, lone surrogates, line breaks and other characters that do not print
    become spaces, so that the text can be stored, logged and shown anywhere.

    Parameters
    ----------
    said : object
        Text, UTF-8 bytes, a number or a truth value; any other value has no text.
    limit : int
    mask : callable
        Such as a :class:`Redactor`; it sees the text before it is cut, so that no part of a secret is left at its end.
    """
    if isinstance(said, bytes):
        said = said[: 16 * limit + 2 * MARGIN].decode("utf-8", "replace")
    if not isinstance(said, str):
        said = str(said) if isinstance(said, bool | int | float) else ""
    if len(said) > (most := 16 * limit + MARGIN):  # a secret may be cut in two there
        said = mask(said[:most])[:-MARGIN]
    plain = mask(_TERMINAL.sub("", said))
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


class Redactor:
    r"""Masks secrets in text, in every form in which another service may repeat them.

    Any 8 characters in a row of a secret are masked: in either letter case, with line breaks or spaces in between, and
    in up to four encodings on top of each other: ``%2F``, ``\u002f``, ``\x2f``, ``\/``, ``&#47;``, and Base64 of any
    text around them. A user and a password in a URL are masked whoever they belong to.

    Parameters
    ----------
    secrets : iterable of str
        Those of less than 4 printable characters are ignored; those of less than 8 are masked only as a whole, where
        they stand alone.

    Examples
    --------
    >>> mask = Redactor(["hunter2-do-not-tell"])
    >>> mask("no Hunter2%2Ddo-not-… for you: AGh1bnRlcjItZG8tbm90LXRlbGw=, https://me:x@example.com")
    'no ***… for you: A***, https://***@example.com'
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST_SECRET}
        self._shortest = min((PART, *map(len, forms)))
        self._parts = {form[at : at + PART] for form in forms for at in range(len(form) - PART + 1)}
        self._seeds = {part[at : at + SEED] for part in self._parts for at in range(STEP)}
        words = sorted((form for form in forms if len(form) < PART), key=len, reverse=True)
        self._words = re.compile("|".join(map(re.escape, words))) if words else None

    def __call__(self, text: str) -> str:
        """Return the text with ``***`` for each secret."""
        text = _USERINFO.sub(f"{MASK}@", text)
        marks = bytearray(len(text))  # 1 for each character of a secret
        for start in range(0, len(text), CHUNK) if self._seeds or self._words else ():
            for view in views(text[start : start + CHUNK + OVERLAP], self._shortest):
                for first, last in self._find(view.text):
                    begin, end = start + view.starts[first], start + view.ends[last]
                    marks[begin:end] = b"\1" * (end - begin)
        pieces, at = [], 0
        for marked in re.finditer(b"\1+", marks):
            pieces += [text[at : marked.start()], MASK]
            at = marked.end()
        return "".join(pieces) + text[at:]

    def _find(self, text: str) -> Iterator[tuple[int, int]]:
        """Find the first and the last character of all parts of secrets in a decoded text."""
        folded = _folded(text)
        has_seed = not self._seeds.isdisjoint([folded[at : at + SEED] for at in range(0, len(folded), STEP)])
        words = list(self._words.finditer(folded)) if self._words else []
        if not has_seed and not words:
            return
        places = [place for place, letter in enumerate(text) for _ in _folded(letter)]
        for at in range(len(folded) - PART + 1):
            if folded[at : at + PART] in self._parts:
                yield places[at], places[at + PART - 1]
        for word in words:
            first, last = places[word.start()], places[word.end() - 1]
            if not re.search(r"\w", text[max(first - 1, 0) : first] + text[last + 1 : last + 2]):
                yield first, last


def _folded(text: str) -> str:
    """Return what all spellings of a text have in common: no letter case, and only what prints."""
    if not text.isprintable():
        text = "".join(filter(str.isprintable, text))
    return text.replace(" ", "").casefold()


def _forms(secret: str) -> set[str]:
    """Return what a secret is folded to, also decoded: it may itself look as if it were encoded."""
    forms = {secret, secret.replace(" ", "+")}  # as in the query of a URL
    for _ in range(DEPTH):
        forms |= {unescape(form) for form in forms}
    return {_folded(form) for form in forms}
