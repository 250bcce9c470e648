"""The two places of a site behave alike: a folder, and a bucket of Amazon S3 (moto's, in this process)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from domain.errors import DeliveryError
from sandbox.local_http import LocalServer, Reply
from web.target import ASK_AGAIN, FOR_EVER, BucketTarget, FolderTarget, Target, open_target

SCRIPT, PRICES = "assets/app-0123456789abcdef.js", "data/history-0123456789abcdef.parquet"
REFUSAL = r"An error occurred \(AccessDenied\) .*; check SITE and the rights to it$"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="market")
        yield client


@pytest.fixture(params=["folder", "bucket", "prefix"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    if request.param == "folder":
        return open_target(str(tmp_path / "new" / "site"))
    request.getfixturevalue("s3")
    return open_target("s3://market" if request.param == "bucket" else "s3://market/a/b")


def test_what_was_put_is_read(target: Target, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"prices")
    target.put("index.json", b"{}")
    target.put(PRICES, source)
    assert target.read("index.json") == b"{}"
    copy = target.fetch(PRICES, tmp_path)
    assert copy
    assert copy.read_bytes() == b"prices"


def test_what_was_not_put_is_not_there(target: Target, tmp_path: Path) -> None:
    assert target.read("index.json") is None
    assert target.fetch(PRICES, tmp_path) is None
    assert target.files() == {}
    target.remove([PRICES])


def test_what_is_put_again_replaces_the_old(target: Target) -> None:
    target.put("index.json", b"old, and longer")
    target.put("index.json", b"new")
    assert target.read("index.json") == b"new"


def test_only_files_with_a_hash_in_their_name_are_listed_and_removed(target: Target) -> None:
    for path in ("index.html", "index.json", "market.html", SCRIPT, PRICES):
        target.put(path, b"x")
    before = datetime.now(UTC)
    assert sorted(target.files()) == [SCRIPT, PRICES]
    assert all(abs((before - placed.at).total_seconds()) < 60 for placed in target.files().values())
    assert {placed.size for placed in target.files().values()} == {1}
    target.remove([PRICES])
    assert sorted(target.files()) == [SCRIPT]
    assert target.read("index.html") == b"x"


def test_objects_say_what_they_are_and_how_long_they_may_be_kept(s3: Any) -> None:
    target = open_target("s3://market/here")
    expected = {
        "index.html": ("text/html; charset=utf-8", ASK_AGAIN),
        "market.html": ("text/html; charset=utf-8", ASK_AGAIN),
        "index.json": ("application/json", ASK_AGAIN),
        SCRIPT: ("text/javascript; charset=utf-8", FOR_EVER),
        PRICES: ("application/vnd.apache.parquet", FOR_EVER),
    }
    for path in expected:
        target.put(path, b"x")
    found = {path: s3.get_object(Bucket="market", Key=f"here/{path}") for path in expected}
    assert {path: (each["ContentType"], each["CacheControl"]) for path, each in found.items()} == expected


def test_other_parts_of_a_bucket_are_left_alone(s3: Any) -> None:
    s3.put_object(Bucket="market", Key=f"other/{PRICES}", Body=b"x")
    assert open_target("s3://market/here").files() == {}


def test_drafts_that_a_run_left_behind_are_listed(tmp_path: Path) -> None:
    target = FolderTarget(tmp_path)
    target.put(PRICES, b"x")
    (tmp_path / "data" / ".draft-abc").write_bytes(b"half")
    (tmp_path / "data" / "notes.txt").write_bytes(b"of somebody else")
    assert sorted(target.files()) == ["data/.draft-abc", PRICES]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_rights_is_named(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir(mode=0o500)
    with pytest.raises(
        DeliveryError, match=r"site' cannot be written: Permission denied; choose another one by SITE or --output$"
    ):
        FolderTarget(tmp_path / "site").put("index.json", b"{}")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("a file")
    target = FolderTarget(tmp_path / "site")
    with pytest.raises(DeliveryError, match=r"^the folder '.*/site' cannot be written: (File exists|Not a directory);"):
        target.put("index.json", b"{}")
    with pytest.raises(DeliveryError, match=r"^the folder '.*/site' cannot be read: Not a directory;"):
        target.read("index.json")


def test_a_bucket_that_does_not_exist_is_named(s3: Any) -> None:
    with pytest.raises(
        DeliveryError, match=r"^s3://nowhere cannot be written: .*NoSuchBucket.*; check SITE and the rights"
    ):
        open_target("s3://nowhere").put("index.json", b"{}")


def test_a_bucket_without_rights_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = LocalServer(lambda request: Reply(403, DENIED, {"Content-Type": "application/xml"}))
    server.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        target = BucketTarget("market", "")
        for step in (lambda: target.read("index.json"), target.files):
            with pytest.raises(DeliveryError, match=rf"^s3://market cannot be read: {REFUSAL}"):
                step()
    finally:
        server.stop()
