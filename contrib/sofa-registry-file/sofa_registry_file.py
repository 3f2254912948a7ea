"""A folder as a registry, ``file:///path``: one file a record; the mtime of an owned one says until when it lives."""

from __future__ import annotations

import contextlib
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
    failures: ClassVar = (OSError, msgspec.MsgspecError)

    def __init__(self, target: Target, clock: Clock) -> None:
        super().__init__(f"the folder {target.path}")
        self.lease = target.number("lease")
        self._folder = Path(target.path, _hashed(target.text("namespace")))
        self._clock = clock
        self._held: dict[RecordKey, str] = {}

    def connect(self) -> None:
        self._held = {}
        self._folder.mkdir(parents=True, exist_ok=True)

    def disconnect(self) -> None:
        for key in tuple(self._held):
            self.remove(key)

    def write(self, record: Record) -> str:
        file, revision = self._file(record.key), uuid.uuid4().hex
        found = self._load(file)
        if found is not None and found.owner != ("mine" if record.owned else "none"):
            raise Conflict(f"the record {record.name!r} belongs to somebody else")
        new = self._folder / revision
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(msgspec.json.encode(Stored(record, revision, "none")))
        self._prolong(new)
        new.replace(file)
        if record.owned:
            self._held[record.key] = revision
        return revision

    def remove(self, key: RecordKey) -> None:
        found = self._load(self._file(key))
        if found is not None and found.owner != "other":
            self._file(key).unlink(missing_ok=True)
        self._held.pop(key, None)

    def keep_alive(self) -> Collection[RecordKey]:
        mine = {key for key in self._held if (found := self._load(self._file(key))) and found.owner == "mine"}
        for key in mine:
            self._prolong(self._file(key))
        return self._held.keys() - mine

    def load(self, bucket: Bucket, known: Revision | None) -> StoreSnapshot:
        found = map(self._load, self._folder.glob("*.json"))
        records = [one for one in found if one is not None and bucket.holds(one.key)]
        return StoreSnapshot(Revision(counter=int(self._clock.monotonic() * 1e9)), records)

    def _file(self, key: RecordKey) -> Path:
        return self._folder / f"{_hashed('/'.join((*key.bucket, key.name)))}.json"

    def _load(self, file: Path) -> Stored | None:
        with contextlib.suppress(FileNotFoundError):
            stored = msgspec.json.decode(file.read_bytes(), type=Stored)
            if not stored.record.owned:
                return stored
            if file.stat().st_mtime > self._clock.wall_ms() / 1000:
                mine = self._held.get(stored.key) == stored.revision
                return msgspec.structs.replace(stored, owner="mine" if mine else "other")
            file.unlink()
        return None

    def _prolong(self, file: Path) -> None:
        os.utime(file, times=(0, self._clock.wall_ms() / 1000 + self.lease))


def _hashed(text: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, text).hex


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
