"""All that a text may be decoded to, and where in the text it comes from."""

from __future__ import annotations

import html
import json
import re
from binascii import a2b_base64
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

DEPTH = 4  # encodings on top of each other
_ESCAPE = re.compile(
    r"(?=[%&\\])(?:"  # makes the search fast
    r"(?P<bytes>(?:(?:%|\\x)[89a-f][0-9a-f])+|(?:%|\\x)[0-7][0-9a-f])"  # all bytes of a character that is not ASCII
    r"|(?P<units>\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|\\u[0-9a-f]{4})"  # both halves of a surrogate pair
    r"|(?P<entity>&\#(?:x[0-9a-f]{1,6}|[0-9]{1,7});?|&[a-z][a-z0-9]{1,31};)"
    r"|\\(?P<letter>[\"'/\\abfnrtv]))",
    re.IGNORECASE,
)
_CONTROLS = dict.fromkeys("abfnrtv", "\0")  # by the letter after the backslash; any of them will do
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{6,}=*")
_STANDARD = str.maketrans("-_", "+/")
_UTF8 = re.compile(rb"(?:[\t\n\r -~]|[\xc2-\xf4][\x80-\xbf]{1,3}){4,}+")


class View(NamedTuple):
    """A text, decoded or not, and where in the original text each of its characters starts and ends."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]


def views(text: str, shortest: int) -> Iterator[View]:
    """Yield a text, and all texts that it and its parts may be decoded to.

    Parameters
    ----------
    text : str
    shortest : int
        Characters; a shorter text is not looked for in Base64.
    """
    level = [View(text, range(len(text)), range(1, len(text) + 1))]
    for _ in range(DEPTH):
        yield from level
        joined = [_without_breaks(view) for view in level]
        level = [inner for view in joined for inner in (*_unescaped(view), *_from_base64(view, shortest))]
    yield from level


def unescape(text: str) -> str:
    """Decode one layer of escapes of URLs, JSON, Python and HTML."""
    return _ESCAPE.sub(_unescape, text)


def _without_breaks(view: View) -> View:
    """Drop line breaks and other characters that do not print: encoded text may be broken anywhere."""
    if view.text.isprintable():
        return view
    kept = [place for place, letter in enumerate(view.text) if letter.isprintable()]
    return View(
        "".join(view.text[place] for place in kept),
        [view.starts[place] for place in kept],
        [view.ends[place] for place in kept],
    )


def _unescaped(view: View) -> Iterator[View]:
    texts, starts, ends, at = list[str](), list[int](), list[int](), 0
    for code in _ESCAPE.finditer(view.text):
        first, after = code.span()
        letters = _unescape(code)
        texts += [view.text[at:first], letters]
        starts += [*view.starts[at:first], *[view.starts[first]] * len(letters)]
        ends += [*view.ends[at:first], *[view.ends[after - 1]] * len(letters)]
        at = after
    if at:
        yield View("".join(texts) + view.text[at:], [*starts, *view.starts[at:]], [*ends, *view.ends[at:]])


def _unescape(code: re.Match[str]) -> str:
    if code["bytes"]:
        data = bytes.fromhex(re.sub(r"%|\\x", "", code[0], flags=re.IGNORECASE))
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("latin-1")
    if code["units"]:
        return str(json.loads(f'"{code[0].lower()}"'))
    if code["entity"]:
        return html.unescape(code[0])
    return _CONTROLS.get(code["letter"].lower(), code["letter"])


def _from_base64(view: View, shortest: int) -> Iterator[View]:
    """Decode what may be Base64, from each of the four letters at which a group of three bytes may start."""
    for run in _BASE64.finditer(view.text):
        letters = run[0].rstrip("=").translate(_STANDARD)
        for first in range(4):
            size = (len(letters) - first) * 3 // 4
            if size < shortest:
                break
            data = a2b_base64(letters[first:] + "AAA"[: (first - len(letters)) % 4])[:size]
            for found in _UTF8.finditer(data):
                if len(found[0]) < shortest:
                    continue
                text = found[0].decode(errors="surrogateescape")
                lengths = (len(letter.encode(errors="surrogateescape")) for letter in text)
                places = list(accumulate(lengths, initial=found.start()))  # in bytes
                starts = [run.start() + first + place * 4 // 3 for place in places]
                ends = [run.start() + first + (place * 4 + 2) // 3 for place in places]
                if places[-1] == size:
                    ends[-1] = run.end()
                yield View(text, [view.starts[at] for at in starts[:-1]], [view.ends[at - 1] for at in ends[1:]])
