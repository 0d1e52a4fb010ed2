"""The objects of an archive as files for DuckDB: in a folder, or in a bucket.

DuckDB's own extension for S3 is not in its package: it would be fetched from a host of its own when it is first used. boto3 and
fsspec come from PyPI with the rest, and here each object is seen as it is read.
"""

import io
import os
import re
from pathlib import Path
from typing import Any, Mapping, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from fsspec import AbstractFileSystem

import zstd_frames

SCHEME = "archive"
EXTENSION = ".ndjson.zst"


class ArchiveError(Exception):
    """Why there is no answer, in words for whoever asked."""


class Storage(Protocol):
    """Where objects are."""

    name: str

    def list(self, prefix: str) -> dict[str, int]:
        """The size of every object whose key begins so."""

    def read(self, key: str) -> bytes: ...


class Folder:
    """Keys are the paths below a folder. The stand-in for S3 keeps its own notes beside it, not in it."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise ArchiveError(f"there is no folder {path}")
        self.path = path
        self.name = str(path)

    def list(self, prefix: str) -> dict[str, int]:
        files = (file for file in (self.path / prefix).rglob("*") if file.is_file())
        return {file.relative_to(self.path).as_posix(): file.stat().st_size for file in files}

    def read(self, key: str) -> bytes:
        return (self.path / key).read_bytes()


class Bucket:
    """`bucket` or `bucket/prefix`. Credentials and region that are not in the settings are found as the AWS SDK finds them."""

    def __init__(self, path: str, settings: Mapping[str, str]) -> None:
        self.bucket, _, prefix = path.partition("/")
        self.prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        self.name = f"s3://{path}"
        endpoint = settings.get("AWS_ENDPOINT_URL_S3")
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=settings.get("AWS_REGION"),
            aws_access_key_id=settings.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=settings.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=settings.get("AWS_SESSION_TOKEN"),
            # The functions do the same: with an endpoint, the name of the bucket goes into the path.
            config=Config(connect_timeout=5, retries={"mode": "standard"}, s3={"addressing_style": "path"} if endpoint else None),
        )

    def list(self, prefix: str) -> dict[str, int]:
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
            objects = [found for page in pages for found in page.get("Contents", [])]
        except (BotoCoreError, ClientError) as error:
            raise ArchiveError(f"cannot list {self.name}: {error}") from error
        return {found["Key"].removeprefix(self.prefix): found["Size"] for found in objects}

    def read(self, key: str) -> bytes:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise ArchiveError(f"cannot read {key} in {self.name}: {error}") from error


class Archive(AbstractFileSystem):
    """Read-only. The path of an object is `archive://` and its key."""

    protocol = SCHEME
    cachable = False

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self.storage = storage
        self.name = storage.name
        # DuckDB wraps an error of `open` into a traceback; this is the sentence alone.
        self.problem: ArchiveError | None = None
        # What was read, for whoever wants to know what a query costs.
        self.opened: list[str] = []
        self._listed: dict[str, list[str]] = {}
        self._sizes: dict[str, int] = {}

    def is_empty(self) -> bool:
        """Whether all that was listed has no object."""
        return not self._sizes

    def glob(self, path: str, **_: Any) -> list[str]:
        """`*` stands for a part of a key without slashes. DuckDB asks several times for one query."""
        pattern = key_of(path)
        if pattern not in self._listed:
            sizes = self.storage.list(pattern.partition("*")[0].rpartition("/")[0] + "/")
            fits = re.compile("[^/]*".join(map(re.escape, pattern.split("*"))))
            self._listed[pattern] = sorted(key for key in sizes if fits.fullmatch(key))
            self._sizes |= {key: sizes[key] for key in self._listed[pattern]}
        return self._listed[pattern]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """From the listing, which saves a request for each object."""
        key = key_of(path)
        if key not in self._sizes:
            raise FileNotFoundError(key)
        return {"name": key, "size": self._sizes[key], "type": "file"}

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        key = key_of(path)
        try:
            if mode != "rb":
                raise ArchiveError(f"the archive is only read: {key} is not written")
            # Whole objects: they have a few megabytes at most.
            data = self.storage.read(key)
            if not zstd_frames.is_whole(data):
                raise ArchiveError(f"the object {key} is damaged: it ends too early, or is not compressed with zstd")
        except ArchiveError as problem:
            self.problem = problem
            raise
        self.opened.append(key)
        return io.BytesIO(data)


def key_of(path: str) -> str:
    return path.removeprefix(f"{SCHEME}://")


# Where a running stack writes its settings, seen from the root of the repository.
SESSION = Path("target/stack.env")


def session(file: Path = SESSION, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The settings of the running stack, as `stack` reads them: variables of the environment take precedence."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: value.strip("'") for name, _, value in pairs} | dict(environment)


def find(place: str | None, file: Path = SESSION, environment: Mapping[str, str] = os.environ) -> Archive:
    """The archive at a place (a folder, or `s3://bucket/prefix`), or else that of the running stack."""
    if place and place.startswith("s3://"):
        # Not with the settings of a stack that happens to run here: its stand-in has no such bucket.
        return Archive(Bucket(place.removeprefix("s3://"), environment))
    settings = session(file, environment)
    if place:
        return Archive(Folder(archive_folder(Path(place), settings)))
    if bucket := settings.get("ARCHIVE_BUCKET"):
        return Archive(Bucket(bucket, settings))
    raise ArchiveError("no stack runs here: start one with `make run`, or name an archive with AT=FOLDER or AT=s3://BUCKET")


def archive_folder(folder: Path, settings: Mapping[str, str]) -> Path:
    """A folder that `make run` kept has the bucket below it."""
    kept = folder / "s3" / settings.get("ARCHIVE_BUCKET", "forebay-archive")
    return kept if kept.is_dir() else folder
