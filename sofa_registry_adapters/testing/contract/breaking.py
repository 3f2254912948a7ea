"""What a test may do to the registry behind the library's back, and what it needs for that."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NoReturn, cast

from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.engine.store_config import record_key
from sofa_registry_adapters.model.config import ConfigKey
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.settings import parse_target, scheme_of
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.layout import ServiceLayout
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.spi.store import Bucket, ConditionalStore, Record, RecordStore, Stored
from sofa_registry_adapters.testing.contract.clients import Application
from sofa_registry_adapters.testing.faults import NetProxy
from sofa_registry_adapters.testing.services import Service


class Faults:
    """Derive from it, override what can be done, and name that in ``abilities``.

    A test that needs another ability is skipped with that reason. Every verb returns when it is done.
    """

    abilities: frozenset[str] = frozenset()

    def kill(self) -> None:
        """The registry is down: connections end, new ones are refused."""
        self._cannot("kill")

    def start(self) -> None:
        """After `kill`: it answers again. Whether it kept its data is the product's affair."""
        self._cannot("start")

    def pause(self) -> None:
        """The registry hangs: connections stay open, nobody answers."""
        self._cannot("pause")

    def resume(self) -> None:
        """After `pause`: it goes on where it was."""
        self._cannot("resume")

    def wipe(self) -> None:
        """All data is lost; the registry answers again when this returns."""
        self._cannot("wipe")

    def cut(self) -> None:
        """Every connection is reset; new ones are accepted at once."""
        self._cannot("cut")

    def black_hole(self) -> None:
        """The network loses everything, and nobody is told."""
        self._cannot("black_hole")

    def heal(self) -> None:
        """After `black_hole`: everything flows."""
        self._cannot("heal")

    def delete_behind(self, service: ServiceKey, instance_id: str) -> None:
        """The record of an instance is deleted by somebody who does not own it."""
        self._cannot("delete_behind")

    def write_raw(self, service: ServiceKey, instance_id: str, value: bytes) -> None:
        """Somebody else writes these bytes as the record of an instance, over what it wrote before."""
        self._cannot("write_raw")

    def expire(self, registry: Registry) -> None:
        """The lease, or the session, of a Registry is over, though its process lives."""
        self._cannot("expire")

    def write_raw_config(self, key: str, value: bytes) -> None:
        """Somebody else writes these bytes where the value of a key of the default group is."""
        self._cannot("write_raw_config")

    def lose_config(self, key: str) -> None:
        """The product loses the value of a key of the default group, without anybody having removed it."""
        self._cannot("lose_config")

    def close(self) -> None:
        """The test is over."""

    def _cannot(self, ability: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} has no ability {ability!r}")


class StoreFaults(Faults):
    """What any `RecordStore` offers: another owner beside the library that deletes and writes records by hand."""

    abilities: frozenset[str] = frozenset(("delete_behind", "write_raw", "write_raw_config", "lose_config"))

    def __init__(self, url: str, options: Mapping[str, Value]) -> None:
        backend = Plugins().backend(scheme_of(url))
        target = parse_target(url, backend, options)
        self._layout: ServiceLayout = Plugins().layout(target.text("layout"))()
        self._make: Callable[[], RecordStore] = lambda: cast("RecordStore", backend.load()(target, SystemClock()))
        self._application: Application | None = None
        self._store: RecordStore | None = None
        if not backend.store or not backend.capabilities.compare_and_set:
            self.abilities -= {"delete_behind", "write_raw", "write_raw_config", "lose_config"}

    def delete_behind(self, service: ServiceKey, instance_id: str) -> None:
        self._run(self._delete(self._record(service, instance_id)))

    def write_raw(self, service: ServiceKey, instance_id: str, value: bytes, *, owned: bool = True) -> None:
        """As `Faults.write_raw`; a record that is not ``owned`` stays when the other owner is gone."""
        self._run(self._write(self._record(service, instance_id, value, owned=owned)))

    def write_raw_config(self, key: str, value: bytes) -> None:
        self._run(self._write(Record(*record_key(ConfigKey(key)), value, owned=False)))

    def lose_config(self, key: str) -> None:
        self._run(self._delete(Record(*record_key(ConfigKey(key)), b"", owned=False)))

    def close(self) -> None:
        """Close the other owner; its records vanish with it."""
        if self._application is not None and self._store is not None:
            self._application.run(self._store.close())
            self._application.close()

    def _record(self, service: ServiceKey, instance_id: str, value: bytes = b"", *, owned: bool = True) -> Record:
        shape = self._layout.record(service, Instance.of("192.0.2.1:1", instance_id=instance_id))
        return Record(shape.bucket, shape.name, value, owned=owned)

    async def _delete(self, record: Record) -> None:
        store, found = await self._opened(), await self._find(record)
        assert found is not None, f"there is no record {record.name!r} to delete"
        await store.compare_and_delete(record.key, found.revision)

    async def _write(self, record: Record) -> None:
        store, found = await self._opened(), await self._find(record)
        await store.compare_and_put(record, found.revision if found is not None else None)

    async def _find(self, record: Record) -> Stored | None:
        await self._opened()
        assert self._store is not None
        found = await self._store.read(Bucket(record.bucket))
        records = found.records if found is not None else ()
        return next((one for one in records if one.key == record.key), None)

    async def _opened(self) -> ConditionalStore:
        if self._store is None:
            self._store = self._make()
            await self._store.open()
        assert isinstance(self._store, ConditionalStore)
        return self._store

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        if self._application is None:
            self._application = Application()
        self._application.run(work)


class ServiceFaults(StoreFaults):
    """`StoreFaults`, and what can be done to a server of the test kit, and to a network that leads to it.

    The registries of the test go through ``proxy``, where there is one; the other owner never does.
    """

    def __init__(
        self, service: Service, options: Mapping[str, Value], *, path: str = "", proxy: NetProxy | None = None
    ) -> None:
        super().__init__(service.url + path, options)
        self.service = service
        self.proxy = proxy
        own = {"kill": ("kill", "start"), "pause": ("pause", "resume"), "wipe": ("wipe",)}
        through = {"cut", "black_hole", "heal"} if proxy is not None else set[str]()
        own_names = {name for ability in service.abilities for name in own.get(ability, ())}
        self.abilities: frozenset[str] = self.abilities | own_names | through

    def kill(self) -> None:
        self.service.kill()

    def start(self) -> None:
        self.service.start()

    def pause(self) -> None:
        self.service.pause()

    def resume(self) -> None:
        self.service.resume()

    def wipe(self) -> None:
        self.service.wipe()

    def cut(self) -> None:
        assert self.proxy is not None
        self.proxy.cut()

    def black_hole(self) -> None:
        assert self.proxy is not None
        self.proxy.black_hole()

    def heal(self) -> None:
        assert self.proxy is not None
        self.proxy.pass_through()
