"""A folder as a registry, ``file:///path``: one file a record; the mtime of an owned one says until when it lives."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec
from sofa_registry_adapters.errors import Closed, Conflict, RegistryError, Unavailable, Unsupported, ValueTooLarge
from sofa_registry_adapters.model.names import encode_segment
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target
from sofa_registry_adapters.spi.store import (
    Bucket,
    ListableStore,
    Record,
    RecordKey,
    RecordStore,
    Stored,
    StoreSnapshot,
)
from sofa_registry_adapters.spi.worker import Worker

T = TypeVar("T")


class FileStore(RecordStore, ListableStore):
    """One owner of records in a folder."""

    capabilities: ClassVar = Capabilities(push=False, compare_and_set=False, persistent=True)

    def __init__(self, target: Target, clock: Clock) -> None:
        self.lease = target.number("lease")
        self._folder = Path(target.path, f"namespace={encode_segment(target.text('namespace'))}")
        self._clock = clock
        self._worker = Worker("sofa-registry-file")
        self._open = False
        self._held: dict[RecordKey, str] = {}

    async def open(self) -> None:
        if not self._open:
            self._open, self._held = True, {}
        await self._run(lambda: self._folder.mkdir(parents=True, exist_ok=True))

    async def close(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                await self._worker.run(lambda: self._delete(tuple(self._held)))
        self._worker.stop()

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        if not self._open:
            raise Closed(f"the store in {self._folder} is not open")
        try:
            return await self._worker.run(work, *arguments)
        except (OSError, msgspec.MsgspecError) as error:
            raise Unavailable(f"the folder {self._folder} cannot be used: {error}") from error

    async def put(self, records: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        return await self._run(lambda: {record.key: self._put(record) for record in records})

    def _put(self, record: Record) -> str | RegistryError:
        file, revision = self._file(record.key), uuid.uuid4().hex
        found = self._load(file)
        if found is not None and found.owner != ("mine" if record.owned else "none"):
            return Conflict(f"the record {record.name!r} belongs to somebody else")
        if len(record.value) > self.capabilities.max_value_bytes:
            return ValueTooLarge(f"the record {record.name!r} has {len(record.value)} bytes")
        new = self._folder / revision
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(msgspec.json.encode(Stored(record, revision, "none")))
        self._prolong(new)
        new.replace(file)
        if record.owned:
            self._held[record.key] = revision
        return revision

    async def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        return await self._run(self._delete, keys)

    def _delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        for key in keys:
            found = self._load(self._file(key))
            if found is not None and found.owner != "other":
                self._file(key).unlink(missing_ok=True)
            self._held.pop(key, None)
        return {}

    async def renew(self) -> Collection[RecordKey]:
        return await self._run(self._renew)

    def _renew(self) -> Collection[RecordKey]:
        mine = {key for key in self._held if (found := self._load(self._file(key))) and found.owner == "mine"}
        for key in mine:
            self._prolong(self._file(key))
        return self._held.keys() - mine

    async def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        return await self._run(self._read, bucket)

    def _read(self, bucket: Bucket) -> StoreSnapshot:
        found = map(self._load, self._folder.glob("*.json"))
        records = [one for one in found if one is not None and bucket.holds(one.key)]
        return StoreSnapshot(Revision(counter=int(self._clock.monotonic() * 1e9)), records)

    async def watch(self, bucket: Bucket) -> AsyncIterator[StoreSnapshot]:
        raise Unsupported("a folder tells of no changes: capabilities.push is False")
        yield  # type: ignore[unreachable]  # it makes this a generator, as a watch is

    async def buckets(self, parent: tuple[str, ...]) -> Sequence[str]:
        found = await self._run(self._read, Bucket(parent, deep=True))
        return list({one.record.bucket[len(parent)] for one in found.records if one.record.bucket != parent})

    def _file(self, key: RecordKey) -> Path:
        return self._folder / f"{uuid.uuid5(uuid.NAMESPACE_URL, '/'.join((*key.bucket, key.name)))}.json"

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


BACKEND = BackendType(
    schemes=("file",),
    summary="a folder that the processes of one machine share",
    grammar="file:///path/of/a/folder",
    considerations="Changes are polled for, and each poll reads every file: this is for some hundred records.",
    capabilities=FileStore.capabilities,
    load=lambda: FileStore,
    defaults={"poll": 0.5, "leaving": 0.8},
    options=(Option(name="lease", kind="seconds", default=10.0, least=1, meaning="how long the dead are kept"),),
    needs_host=False,
)


@hookimpl
def sofa_registry_backends() -> Sequence[BackendType]:
    """Add ``file://``."""
    return [BACKEND]
