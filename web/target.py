"""Where the site is put: a folder, or a bucket of Amazon S3.

Files whose names carry a hash are put first and the index last, so that a reader, who begins with the index, finds all
that it names. What the index before named stays: somebody may be reading by it.
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from config import redact
from domain.errors import DeliveryError
from domain.text import clean_text
from web.files import CONTENT_TYPES, OURS

FOR_EVER = "max-age=31536000, immutable"
ASK_AGAIN = "no-cache"  # a browser may keep it, and asks whether it is still the same
GRACE = timedelta(hours=1)  # for which a file stays that no index names: another run may be about to name it
DRAFT = ".draft-"  # begins the name of a file that is being written
S3_CONNECT_SECONDS, S3_ANSWER_SECONDS = 5.0, 20.0  # a function without a route to AWS must fail early
LONGEST_REASON = 200  # characters

Result = TypeVar("Result")


class Placed(NamedTuple):
    """A file in its place: bytes, and when it was put there."""

    size: int
    at: datetime


class Target(ABC):
    """A place for files, each put there as a whole."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is none."""

    @abstractmethod
    def fetch(self, path: str, into: Path) -> Path | None:
        """Return a copy of a file on this machine, which is in the folder `into` or must not be changed."""

    @abstractmethod
    def put(self, path: str, content: bytes | Path) -> None:
        """Put a file in place of one of that name, if any."""

    @abstractmethod
    def files(self) -> dict[str, Placed]:
        """Return our files whose names carry a hash, and drafts."""

    @abstractmethod
    def remove(self, paths: Iterable[str]) -> None:
        """Remove files."""


def open_target(site: str) -> Target:
    """Return the target that ``SITE`` names: ``s3://bucket/prefix`` or a folder."""
    if site.startswith("s3://"):
        parts = urlsplit(site)
        return BucketTarget(parts.netloc, parts.path.strip("/"))
    return FolderTarget(Path(site))


class FolderTarget(Target):
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        """Name the folder."""
        return str(self.folder)

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is none."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("read", error) from None

    def fetch(self, path: str, into: Path) -> Path | None:  # noqa: ARG002
        """Return the file itself; nobody may change it."""
        found = self.folder / path
        return found if found.is_file() else None

    def put(self, path: str, content: bytes | Path) -> None:
        """Replace a file at once, so that readers see the old content or the new."""
        final = self.folder / path
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(prefix=DRAFT, dir=final.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content if isinstance(content, bytes) else content.read_bytes())
                os.chmod(draft, 0o644)  # mkstemp makes files that only their owner can read
                os.replace(draft, final)
            except BaseException:
                os.unlink(draft)
                raise
        except OSError as error:
            raise self._error("written", error) from None

    def files(self) -> dict[str, Placed]:
        """Return our files whose names carry a hash, and drafts that a run left behind."""
        found = {}
        for folder in (self.folder, self.folder / "data", self.folder / "assets"):
            for path in folder.glob("*"):
                name = path.relative_to(self.folder).as_posix()
                if OURS.fullmatch(name) or path.name.startswith(DRAFT):
                    facts = path.stat()
                    found[name] = Placed(facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))
        return found

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files."""
        try:
            for path in paths:
                (self.folder / path).unlink(missing_ok=True)
        except OSError as error:
            raise self._error("written", error) from None

    def _error(self, done: str, error: OSError) -> DeliveryError:
        reason = error.strerror or str(error)
        return DeliveryError(
            f"the folder {str(self.folder)!r} cannot be {done}: {reason}; choose another one by SITE or --output"
        )


class BucketTarget(Target):
    """A bucket of Amazon S3, or a part of one."""

    def __init__(self, bucket: str, prefix: str) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.bucket, self.prefix = bucket, f"{prefix}/" if prefix else ""
        limits = Config(
            connect_timeout=S3_CONNECT_SECONDS, read_timeout=S3_ANSWER_SECONDS, retries={"total_max_attempts": 3}
        )
        try:
            self._client = boto3.client("s3", config=limits)
        except BotoCoreError as error:
            raise DeliveryError(f"Amazon S3 cannot be used: {error}") from None

    def __str__(self) -> str:
        """Name the bucket and the part of it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is none."""

        def read() -> bytes:
            content: bytes = self._client.get_object(**self._key(path))["Body"].read()
            return content

        return self._found(read)

    def fetch(self, path: str, into: Path) -> Path | None:
        """Return a copy of a file, in the folder `into`; None if there is none."""
        copy = into / f"fetched-{path.replace('/', '-')}"

        def read() -> Path:
            body = self._client.get_object(**self._key(path))["Body"]
            with copy.open("wb") as file:
                for piece in body.iter_chunks(2**20):
                    file.write(piece)
            return copy

        return self._found(read)

    def put(self, path: str, content: bytes | Path) -> None:
        """Put an object; S3 shows the old one or the new."""
        headers = {
            "ContentType": CONTENT_TYPES[Path(path).suffix],
            "CacheControl": FOR_EVER if OURS.fullmatch(path) else ASK_AGAIN,
        }

        def write() -> None:
            body = content if isinstance(content, bytes) else content.read_bytes()
            self._client.put_object(**self._key(path), Body=body, **headers)

        self._call("written", write)

    def files(self) -> dict[str, Placed]:
        """Return our objects whose names carry a hash."""

        def read() -> dict[str, Placed]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
            found = {
                each["Key"].removeprefix(self.prefix): Placed(each["Size"], each["LastModified"])
                for page in pages
                for each in page.get("Contents", [])
            }
            return {name: placed for name, placed in found.items() if OURS.fullmatch(name)}

        return self._call("read", read)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects."""

        def remove() -> None:
            for path in paths:
                self._client.delete_object(**self._key(path))

        self._call("written", remove)

    def _key(self, path: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}{path}"}

    def _found(self, read: Callable[[], Result]) -> Result | None:
        """Read a file that may not be there."""
        missing: type[Exception] = self._client.exceptions.NoSuchKey
        try:
            return self._call("read", read)
        except missing:
            return None

    def _call(self, done: str, step: Callable[[], Result]) -> Result:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return step()
        except self._client.exceptions.NoSuchKey:
            raise
        except (BotoCoreError, ClientError) as error:
            reason = clean_text(str(error), LONGEST_REASON, redact)
            raise DeliveryError(f"{self} cannot be {done}: {reason}; check SITE and the rights to it") from None
