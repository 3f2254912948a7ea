"""The last good values of records: kept when a reading is cut short, and not for names that nobody has."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from sofa_registry_adapters import Instance, Registry, ServiceKey
from sofa_registry_adapters.backends import memory
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.engine.assembly import CHUNK, Assembly
from sofa_registry_adapters.layouts.native import NativeLayout
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType, Capabilities
from sofa_registry_adapters.spi.store import Record, Stored


def test_a_reading_that_is_cut_short_forgets_no_last_good_value() -> None:
    layout, service = NativeLayout(), ServiceKey("echo")
    count = CHUNK * 2 + 10

    def record(number: int) -> Record:
        return layout.record(
            service, Instance(host="10.0.0.1", port=80, instance_id=f"i{number:04}", started=1, owner="o")
        )

    records = [record(number) for number in range(count)]
    good = {one.key: Stored(one, "1", "other") for one in records}
    bad = msgspec.structs.replace(records[-1], value=b"not JSON")
    spoiled = {**good, bad.key: Stored(bad, "2", "other")}

    async def test() -> None:
        assembly = Assembly(layout, service)
        assert len((await assembly.reset(good, Revision("e", 1))).instances) == count
        reading = asyncio.create_task(assembly.reset(spoiled, Revision("e", 2)))
        await asyncio.sleep(0)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        assert reading.cancelled()
        again = await assembly.reset(spoiled, Revision("e", 2))
        assert (len(again.instances), len(again.rejected)) == (count, 1)
        gone = await assembly.reset({}, Revision("e", 3))
        assert not gone.instances

    asyncio.run(test())


class PolledStore(MemoryStore):
    capabilities: ClassVar[Capabilities] = msgspec.structs.replace(MemoryStore.capabilities, push=False)


class Polled:
    @hookimpl
    def sofa_registry_backends(self) -> Sequence[BackendType]:
        capabilities = PolledStore.capabilities
        return [
            msgspec.structs.replace(
                memory.BACKEND, schemes=("polled",), capabilities=capabilities, load=lambda: PolledStore
            )
        ]


def test_looking_names_up_that_nobody_has_takes_no_memory() -> None:
    with Registry(f"polled://{secrets.token_hex(8)}", plugins=[Polled()]) as registry:
        registration = registry.publish("echo", "10.0.0.1:80")
        for number in range(100):
            assert not registry.lookup(f"nobody-{number}")
        assert len(registry.lookup("echo")) == 1
        session: Any = registry._session
        assert list(session.engine.backend._assemblies) == [ServiceKey("echo")]
        registration.unpublish()
        assert not registry.lookup("echo")
        assert not session.engine.backend._assemblies
