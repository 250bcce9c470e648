"""The list of symbols in ``.env``, or in the file that it names: read it, add to it, remove from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values, set_key

from config import Settings, parse_symbols, settings
from domain.errors import ConfigError
from domain.models import EVERY_SYMBOL

NAME = "SYMBOLS"
ENV_FILE = Path(str(Settings.model_config["env_file"]))


class SymbolList(NamedTuple):
    """The configured symbols, and where they are written."""

    symbols: tuple[str, ...]
    place: str


def read_list() -> SymbolList:
    """Return the configured symbols.

    Raises
    ------
    ConfigError
        If a setting is malformed.
    """
    symbols = settings().symbols
    if _is_in_environment():
        return SymbolList(symbols, "the environment variable SYMBOLS")
    written = _written()
    if written.startswith("@"):
        return SymbolList(symbols, str(Path(written[1:]).absolute()))
    return SymbolList(symbols, str(ENV_FILE.absolute()) if written else "the defaults")


def change_list(*, add: Sequence[str] = (), remove: Sequence[str] = ()) -> SymbolList:
    """Add symbols to the end of the list and remove others; return it as it is then.

    The list is written where it stands: to the file that ``SYMBOLS=@file`` names, else to ``.env``.

    Raises
    ------
    ConfigError
        If the list cannot be changed: the environment overrides it, it is ``"*"``, a symbol is malformed or not in the
        list, none would be left, or the file cannot be written. Nothing was written.
    """
    symbols = read_list().symbols
    if _is_in_environment():
        raise ConfigError(f"{NAME} is set in the environment, which overrides {ENV_FILE}: change or unset it there")
    if symbols == (EVERY_SYMBOL,):
        raise ConfigError(f"{NAME} is '*', the whole US market: write a list of symbols into {ENV_FILE} instead")
    try:
        added = parse_symbols(list(add)) if add else ()
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if EVERY_SYMBOL in added:
        raise ConfigError(f"'*' is no symbol to add: write {NAME}=* into {ENV_FILE}")
    for symbol in added:
        if symbol[0].islower():  # only the end of a ticker may be in lower case, as in BACpL
            raise ConfigError(f"{symbol!r} is in lower case, and no ticker begins so: did you mean {symbol.upper()!r}?")
    for symbol in remove:
        if symbol not in symbols:
            near = get_close_matches(symbol.upper(), symbols, 1) or [", ".join(symbols)]
            raise ConfigError(f"{symbol!r} is not among the configured symbols; valid is {near[0]}")
    left = [symbol for symbol in symbols if symbol not in remove]
    new = tuple(dict.fromkeys([*left, *added]))
    if not new:
        raise ConfigError(f"no symbol would be left of {', '.join(symbols)}: add another one first")
    if new != symbols:
        try:
            _write(new, added, remove)
        except OSError as error:
            raise ConfigError(f"the list cannot be written to {read_list().place}: {error.strerror}") from None
        settings.cache_clear()
    return read_list()


def _is_in_environment() -> bool:
    return any(name.upper() == NAME and value for name, value in os.environ.items())


def _written() -> str:
    """The value in ``.env``; empty if it has none."""
    values = dotenv_values(ENV_FILE, encoding="utf-8-sig")
    return next((value.strip() for name, value in values.items() if name.upper() == NAME and value), "")


def _write(new: Sequence[str], added: Sequence[str], removed: Sequence[str]) -> None:
    written = _written()
    if not written.startswith("@"):
        set_key(ENV_FILE, NAME, ",".join(new), quote_mode="never")
        return
    file = Path(written[1:])
    lines = [_without(line, removed) for line in file.read_text(encoding="utf-8-sig").splitlines()]
    kept = [line for line in lines if line is not None]
    known = parse_symbols(written, files=True)
    kept += [symbol for symbol in added if symbol not in known]
    unfinished = file.with_name(f"{file.name}.new")
    unfinished.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    unfinished.replace(file)


def _without(line: str, removed: Sequence[str]) -> str | None:
    """Return a line of a symbols file without some symbols; None if nothing is left of it."""
    names, mark, comment = line.partition("#")
    parts = [part.strip() for part in names.split(",")]
    left = [part for part in parts if part and part not in removed]
    if len(left) == len([part for part in parts if part]):
        return line
    text = ", ".join(left) + (f"  {mark}{comment}" if mark and left else f"{mark}{comment}")
    return text or None
