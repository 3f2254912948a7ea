"""A folder as a registry, ``file:///path``: one file a record, one an owner; its mtime says until when the owner lives."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
from sofa_registry_adapters.errors import Conflict
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.blocking import BlockingStore
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored, StoreSnapshot


class FileStore(BlockingStore):
    """One owner of records in a folder."""

    capabilities: ClassVar = Capabilities(push=False, compare_and_set=False, persistent=True)
    failures: ClassVar = (OSError,)

    def __init__(self, target: Target, clock: Clock) -> None:
        super().__init__(f"the folder {target.path}")
        self.lease = target.number("lease")
        self._folder = Path(target.path, _hashed(target.text("namespace")))
        self._clock = clock
        self._owner = ""
        self._held: dict[RecordKey, int] = {}

    def connect(self) -> None:
        self._owner, self._held = uuid.uuid4().hex, {}
        self._folder.mkdir(parents=True, exist_ok=True)

    def disconnect(self) -> None:
        self._mark(self._owner).unlink(missing_ok=True)

    def write(self, record: Record) -> str:
        file = self._file(record.key)
        found = self._load(file)
        if found is not None and found.owner != ("mine" if record.owned else "none"):
            raise Conflict(f"the record {record.name!r} belongs to somebody else")
        self._prolong()
        new, revision = self._folder / uuid.uuid4().hex, uuid.uuid4().int >> 68
        try:
            new.write_bytes(msgspec.json.encode((self._owner, record)))
            os.utime(new, ns=(0, revision))
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)
        if record.owned:
            self._held[record.key] = revision
        return str(revision)

    def remove(self, key: RecordKey) -> None:
        found = self._load(self._file(key))
        if found is not None and found.owner != "other":
            self._file(key).unlink(missing_ok=True)
        self._held.pop(key, None)

    def keep_alive(self) -> Collection[RecordKey]:
        if self._held:
            self._prolong()
        return [key for key, revision in self._held.items() if self._time(self._file(key)) != revision]

    def load(self, bucket: Bucket, known: Revision | None) -> StoreSnapshot:
        found = (self._load(file) for file in self._folder.iterdir() if file.suffix == ".json")
        records = [one for one in found if one is not None and bucket.holds(one.key)]
        return StoreSnapshot(Revision(counter=int(self._clock.monotonic() * 1e9)), records)

    def _file(self, key: RecordKey) -> Path:
        return self._folder / f"{_hashed('/'.join((*key.bucket, key.name)))}.json"

    def _mark(self, owner: str) -> Path:
        return self._folder / f"{owner}.owner"

    def _time(self, file: Path) -> int:
        with contextlib.suppress(FileNotFoundError):
            return file.stat().st_mtime_ns
        return 0

    def _load(self, file: Path) -> Stored | None:
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError, RecursionError):
            revision = str(self._time(file))
            owner, record = msgspec.json.decode(file.read_bytes(), type=tuple[str, Record])
            if not record.owned:
                return Stored(record, revision, "none")
            if self._time(self._mark(owner)) > self._clock.wall_ms() * 1_000_000:
                return Stored(record, revision, "mine" if owner == self._owner else "other")
            file.unlink()
            self._mark(owner).unlink()
        return None

    def _prolong(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._mark(self._owner).open("a"):
            os.utime(self._mark(self._owner), times=(0, self._clock.wall_ms() / 1000 + self.lease))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


BACKEND = BackendType(
    schemes=("file",),
    summary="a folder that the processes of one machine share",
    grammar="file:///path/of/a/folder",
    considerations="Changes are polled for, and each poll reads every file: this is for some hundred records.",
    capabilities=FileStore.capabilities,
    load=lambda: FileStore,
    options=(Option(name="lease", kind="seconds", default=10.0, least=1, meaning="how long the dead are kept"),),
    needs_host=False,
)


@hookimpl
def sofa_registry_backends() -> Sequence[BackendType]:
    """Add ``file://``."""
    return [BACKEND]
