"""Text from outside: one printable line of it, and no secret in it."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

LONGEST_TEXT = 200  # characters of what another service says
MASK = "***"
SHORTEST_SECRET = 4  # characters; a mask for every shorter one would hide the message
SHORT_SECRET = 8  # characters; shorter ones may be words, and are masked only where they stand alone
LONGEST_SECRET = 256  # characters at the end of a text that was cut, and may hold a part of one
PART = 8  # characters of Base64 by which a part of a secret is recognized

_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.?", re.DOTALL)
_BASE64 = re.compile(rf"[A-Za-z0-9+/_-]{{{PART},}}=*")
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
        Such as a :class:`Redactor`; it sees the line before it is cut, so that no part of a secret is left at its end.
    """
    if isinstance(said, bytes):
        said = said[: 16 * limit + 2 * LONGEST_SECRET].decode("utf-8", "replace")
    if not isinstance(said, str):
        said = str(said) if isinstance(said, bool | int | float) else ""
    if len(said) > (most := 16 * limit + LONGEST_SECRET):  # a secret may be cut in two there
        said = mask(said[:most])[:-LONGEST_SECRET]
    plain = _ESCAPES.sub("", said)
    line = mask(" ".join("".join(letter if letter.isprintable() else " " for letter in plain).split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


class Redactor:
    """Masks secrets in text, in every form in which another service may repeat them.

    That is plain, escaped for a URL or for JSON, and in Base64, whole or as a part: of itself, or of the credentials of
    AUTH PLAIN or Basic. A user and a password in a URL are masked whoever they belong to.

    Parameters
    ----------
    secrets : iterable of str
        Those shorter than 4 characters are ignored; those shorter than 8 are masked only where they stand alone.
    logins : iterable of tuple of str
        Users with their passwords.

    Examples
    --------
    >>> mask = Redactor(["hunter2-do-not-tell"], [("me", "open sesame")])
    >>> mask("no hunter2-do-not-tell for you: AUTH PLAIN AG1lAG9wZW4gc2VzYW1l, https://me:x@example.com")
    'no *** for you: AUTH PLAIN ***, https://***@example.com'
    """

    def __init__(self, secrets: Iterable[str] = (), logins: Iterable[tuple[str, str]] = ()) -> None:
        pairs = [(user, password) for user, password in logins if len(password) >= SHORTEST_SECRET]
        known = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET} | {password for _, password in pairs}
        forms = sorted({form for secret in known for form in _forms(secret)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_searched, forms))) if forms else None
        sent = [*known, *(f"\0{user}\0{password}" for user, password in pairs), *(":".join(pair) for pair in pairs)]
        self._parts = {
            coded[start : start + PART]
            for text in sent
            for coded in _base64_forms(text)
            for start in range(len(coded) - PART + 1)
        }

    def __call__(self, text: str) -> str:
        """Return the text with ``***`` for each secret."""
        text = _USERINFO.sub(f"{MASK}@", text)
        if self._pattern:
            text = self._pattern.sub(MASK, _BASE64.sub(self._without_parts, text))
        return text

    def _without_parts(self, found: re.Match[str]) -> str:
        token = found[0].replace("-", "+").replace("_", "/")
        is_part = any(token[start : start + PART] in self._parts for start in range(len(token) - PART + 1))
        return MASK if is_part else found[0]


def _forms(secret: str) -> set[str]:
    """Return a secret as it is, escaped and encoded."""
    quoted = {
        quote(secret, "", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
    }
    lower = {re.sub("%..", lambda code: code[0].lower(), form) for form in quoted}
    escaped = json.dumps(secret)[1:-1]
    coded = base64.b64encode(secret.encode(errors="replace")).decode()
    spaced = " ".join(secret.split())  # as it is in a line
    return {
        secret,
        spaced,
        html.escape(secret),
        html.escape(spaced),
        *quoted,
        *lower,
        escaped,
        escaped.replace("/", r"\/"),
        coded,
    }


def _searched(form: str) -> str:
    alone = len(form) < SHORT_SECRET
    return rf"(?<![A-Za-z0-9]){re.escape(form)}(?![A-Za-z0-9])" if alone else re.escape(form)


def _base64_forms(text: str) -> list[str]:
    """Return what is sure of a text's Base64 inside something longer, for each of the three ways to start."""
    forms = []
    for before in range(3):
        content = b"\0" * before + text.encode(errors="replace")
        coded = base64.b64encode(content).decode().rstrip("=")
        forms.append(coded[-(-before * 8 // 6) : len(content) * 8 // 6])
    return forms
