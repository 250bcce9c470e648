"""Readers never see half a site: whatever is in the place of a site while it is published, or after a run that died."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from domain.errors import DeliveryError
from web.files import OURS, Published, digest, publish_bytes
from web.publish import VERSION, put_site, read_index, settle_index
from web.target import FolderTarget

OLD = time.time() - 7200


class Killed(BaseException):
    """Stands for the end of a killed process: no code catches it."""


class Dying(FolderTarget):
    """A folder whose n-th change is the last thing that its process does."""

    def __init__(self, folder: Path, changes: int) -> None:
        super().__init__(folder)
        self.left = changes

    def put(self, path: str, content: bytes | Path) -> None:
        self._count()
        super().put(path, content)

    def remove(self, paths: Any) -> None:
        for path in paths:
            self._count()
            super().remove([path])

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


def site(staging: Path, contents: Mapping[str, str]) -> tuple[list[Published], dict[str, Any]]:
    """The files of a site, and its index."""
    staging.mkdir(exist_ok=True)
    script = publish_bytes(staging, "app", ".js", b"app", folder="assets")
    files = {name: publish_bytes(staging, name, ".json", text.encode()) for name, text in contents.items()}
    index = {
        "version": VERSION,
        "published_at": str(time.time()),
        "assets": {"app": script.path},
        "files": {**{name: file.entry() for name, file in files.items()}, "history": []},
    }
    return [script, *files.values()], index


def publish(
    target: FolderTarget, staging: Path, contents: Mapping[str, str], *, single: bytes | None = b"all"
) -> list[str]:
    """Publish a site of these contents, and return what was written."""
    before = read_index(target)
    files, index = site(staging, contents)
    return put_site(target, files, settle_index(index, before), before, page=b"page", single=single)


def check_readable(folder: Path, *, expected: tuple[Mapping[str, str], ...]) -> None:
    """Check that a reader who begins with the index finds all that it names, and one of these sites whole."""
    index = json.loads((folder / "index.json").read_text())
    found = {}
    for name, entry in index["files"].items():
        if name != "history":
            path = folder / entry["path"]
            assert path.stat().st_size == entry["bytes"]
            assert digest(path) in path.name
            found[name] = path.read_text()
    assert found in expected
    for path in index["assets"].values():
        assert (folder / path).read_text() == "app"


FIRST = {"summary": "one", "breadth": "stays", "state": "old"}
SECOND = {"summary": "two", "breadth": "stays", "state": "new"}


@pytest.mark.parametrize("changes", range(12))
def test_a_run_that_dies_at_any_step_leaves_a_whole_site(tmp_path: Path, changes: int) -> None:
    folder = tmp_path / "site"
    publish(FolderTarget(folder), tmp_path / "one", FIRST)
    for path in folder.rglob("*"):
        os.utime(path, (OLD, OLD))
    try:
        publish(Dying(folder, changes), tmp_path / "two", SECOND)
    except Killed:
        check_readable(folder, expected=(FIRST, SECOND))
    check_readable(folder, expected=(FIRST, SECOND))
    publish(FolderTarget(folder), tmp_path / "three", SECOND)
    check_readable(folder, expected=(SECOND,))


def test_a_reader_of_the_index_before_still_finds_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    target = FolderTarget(folder)
    publish(target, tmp_path / "one", FIRST)
    held = json.loads((folder / "index.json").read_text())
    for path in folder.rglob("*"):
        os.utime(path, (OLD, OLD))
    publish(target, tmp_path / "two", SECOND)
    assert all((folder / held["files"][name]["path"]).read_text() == text for name, text in FIRST.items())


def test_files_that_no_index_names_are_removed_after_an_hour(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    target = FolderTarget(folder)
    publish(target, tmp_path / "one", FIRST)
    abandoned, fresh = (
        folder / "data" / "summary-00000000000000aa.json",
        folder / "data" / "summary-00000000000000bb.json",
    )
    draft, foreign = folder / "data" / ".draft-x", folder / "data" / "notes.json"
    for path in (abandoned, fresh, draft, foreign):
        path.write_text("x")
    for path in (abandoned, draft, foreign):
        os.utime(path, (OLD, OLD))
    publish(target, tmp_path / "two", FIRST)
    assert [path.exists() for path in (abandoned, fresh, draft, foreign)] == [False, True, False, True]


def test_the_same_site_again_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    target = FolderTarget(folder)
    assert publish(target, tmp_path / "one", FIRST)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert publish(target, tmp_path / "two", FIRST) == []
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    target = FolderTarget(tmp_path / "site")
    publish(target, tmp_path / "one", FIRST)
    written = publish(target, tmp_path / "two", SECOND)
    assert [path.partition("-")[0] for path in written] == ["data/summary", "data/state", "index.json"]


def test_a_file_that_was_lost_is_put_again(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    target = FolderTarget(folder)
    publish(target, tmp_path / "one", FIRST)
    (lost,) = folder.glob("data/breadth-*")
    lost.unlink()
    (written,) = publish(target, tmp_path / "two", FIRST)
    assert written == f"data/{lost.name}"
    check_readable(folder, expected=(FIRST,))


def test_a_file_of_no_index_is_put_again_so_that_no_other_run_takes_it_for_old(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    target = FolderTarget(folder)
    publish(target, tmp_path / "one", FIRST)
    files, _ = site(tmp_path / "two", SECOND)
    (new,) = [file.path for file in files if "summary" in file.path]
    target.put(new, b"two")
    os.utime(folder / new, (OLD, OLD))
    assert new in publish(target, tmp_path / "three", SECOND)
    assert (folder / new).stat().st_mtime > OLD + 60


def test_the_single_file_goes_when_there_is_none_any_more(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    publish(FolderTarget(folder), tmp_path / "one", FIRST)
    assert (folder / "market.html").read_bytes() == b"all"
    publish(FolderTarget(folder), tmp_path / "two", FIRST, single=None)
    assert not (folder / "market.html").exists()


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "null", '{"version": 2}', '{"files": {}}'])
def test_an_index_of_somebody_else_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    assert read_index(FolderTarget(tmp_path)) is None


@pytest.mark.parametrize(
    "broken",
    [
        {"files": []},
        {"files": {"history": [{}]}},
        {"assets": [1]},
        {"files": {"summary": "x"}},
        {"files": {"summary": {"path": 3}}},
    ],
)
def test_an_index_that_lacks_what_it_should_hold_counts_as_none(tmp_path: Path, broken: dict[str, Any]) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"version": VERSION, "assets": {}, "files": {}, **broken}))
    assert read_index(FolderTarget(tmp_path)) is None


def test_a_file_that_another_run_removed_meanwhile_is_an_error_of_one_line(tmp_path: Path) -> None:
    files, index = site(tmp_path / "staging", FIRST)
    files[1].source.unlink()
    with pytest.raises(DeliveryError, match="cannot be written: No such file or directory"):
        put_site(FolderTarget(tmp_path / "site"), files, index, None, page=b"page", single=None)
    assert not (tmp_path / "site" / "index.json").exists()


def test_published_names_are_recognized() -> None:
    for name in ("data/history-0123456789abcdef.parquet", "assets/app-0123456789abcdef.js"):
        assert OURS.fullmatch(name)
    for name in (
        "index.json",
        "data/history-0123456789abcdef.parquet.bak",
        "photos/me-0123456789abcdef.json",
        "data/x.json",
    ):
        assert not OURS.fullmatch(name)
