"""The list of symbols in ``.env`` or in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import settings
from domain.errors import ConfigError
from entrypoints.symbol_list import change_list, read_list


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """A ``.env`` with a list of its own."""
    file = tmp_path / ".env"
    file.write_text("# mine\nPOLYGON_API_KEY=key\nSYMBOLS=GOOG, MSFT\nMAIL_TO=me@example.com\n")
    return file


def test_a_symbol_is_added_to_the_line_and_the_others_stay(env: Path) -> None:
    after = change_list(add=["NVDA"])

    assert after == (("GOOG", "MSFT", "NVDA"), str(env))
    assert env.read_text() == "# mine\nPOLYGON_API_KEY=key\nSYMBOLS=GOOG,MSFT,NVDA\nMAIL_TO=me@example.com\n"


def test_a_symbol_is_removed(env: Path) -> None:
    assert change_list(remove=["GOOG"]).symbols == ("MSFT",)


def test_what_changes_nothing_writes_nothing(env: Path) -> None:
    before = env.stat().st_mtime_ns

    assert change_list(add=["MSFT"]).symbols == ("GOOG", "MSFT")
    assert env.stat().st_mtime_ns == before


def test_without_a_file_the_defaults_are_the_list_and_adding_makes_one(tmp_path: Path) -> None:
    assert read_list().place == "the defaults"

    after = change_list(add=["IBM"])

    assert after == (("GOOG", "MSFT", "NVDA", "QUBT", "RKLB", "IBM"), str(tmp_path / ".env"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"add": ["nvda"]}, "'nvda' is in lower case, and no ticker begins so: did you mean 'NVDA'?"),
        ({"add": ["N V"]}, "'N V' is not a symbol"),
        ({"add": ["*"]}, "'*' is no symbol to add: write SYMBOLS=* into .env"),
        ({"remove": ["MSFTT"]}, "'MSFTT' is not among the configured symbols; valid is MSFT"),
        ({"remove": ["ZZZZ"]}, "'ZZZZ' is not among the configured symbols; valid is GOOG, MSFT"),
        ({"remove": ["GOOG", "MSFT"]}, "no symbol would be left of GOOG, MSFT: add another one first"),
    ],
)
def test_a_change_that_is_not_valid_is_one_line_and_changes_nothing(
    env: Path, change: dict[str, list[str]], message: str
) -> None:
    before = env.read_text()

    with pytest.raises(ConfigError) as raised:
        change_list(**change)

    assert str(raised.value).startswith(message)
    assert env.read_text() == before


def test_the_environment_overrides_the_file_and_says_so(env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMBOLS", "IBM")
    settings.cache_clear()

    assert read_list() == (("IBM",), "the environment variable SYMBOLS")
    with pytest.raises(ConfigError, match=r"SYMBOLS is set in the environment, which overrides \.env"):
        change_list(add=["NVDA"])
    assert "GOOG, MSFT" in env.read_text()


def test_a_file_that_cannot_be_written_is_named(env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(env.with_name(".tmp_1")))

    monkeypatch.setattr("entrypoints.symbol_list.set_key", refuse)
    with pytest.raises(ConfigError) as raised:
        change_list(add=["NVDA"])
    assert str(raised.value) == f"the list cannot be written to {env}: Permission denied"


def test_the_whole_market_is_not_a_list_to_change(env: Path) -> None:
    env.write_text("SYMBOLS=*\n")

    with pytest.raises(ConfigError, match=r"SYMBOLS is '[*]', the whole US market"):
        change_list(add=["NVDA"])


def test_a_symbols_file_is_changed_where_it_stands_with_its_comments(env: Path, tmp_path: Path) -> None:
    env.write_text("SYMBOLS=@symbols.txt\n")
    file = tmp_path / "symbols.txt"
    file.write_text("# technology\nGOOG, MSFT  # two\nQUBT # quantum\n\nIBM\n")

    after = change_list(add=["NVDA"], remove=["MSFT", "IBM"])
    assert after == (("GOOG", "QUBT", "NVDA"), str(file))
    assert file.read_text() == "# technology\nGOOG  # two\nQUBT # quantum\n\nNVDA\n"

    change_list(remove=["QUBT"])
    assert file.read_text() == "# technology\nGOOG  # two\n# quantum\n\nNVDA\n"
    assert env.read_text() == "SYMBOLS=@symbols.txt\n"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".new")] == []
