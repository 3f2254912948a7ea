"""Promises about what a registry declares: it can do what it declares, and no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import msgspec
import pytest

from sofa_registry_adapters.engine.plugins import Plugins, factory
from sofa_registry_adapters.engine.store_registry import StoreRegistry
from sofa_registry_adapters.errors import Conflict, Unsupported
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.settings import parse_target, scheme_of
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.registry import Patch, RegistryBackend, Snapshot, Wanted
from sofa_registry_adapters.testing.contract.kit import ECHO, STEP, Registries

HIDDEN = "an application cannot use, nor can a test rely on, what is declared absent: declare it"
Probe = Callable[[RegistryBackend, RegistryBackend], Awaitable[bool]]


class DeclaringContract:
    """See the module. It asks the backend itself, since the engine never asks for what is declared absent."""

    @pytest.mark.parametrize("capability", ("push", "list_services", "announces_withdrawal", "compare_and_set"))
    def test_80_as_declared(self, registries: Registries, capability: str) -> None:
        """What the registry declares it can do it does; what it declares absent does not work."""
        declared = bool(getattr(registries.capabilities, capability))

        async def work() -> bool:
            async with asyncio.timeout(STEP * 4):
                one, other = _backend(registries), _backend(registries)
                try:
                    await one.open()
                    await other.open()
                    return await _PROBES[capability](one, other)
                finally:
                    await one.close()
                    await other.close()

        works = asyncio.run(work())
        assert works or not declared, f"{capability} is declared, and does not work"
        assert declared or not works, f"{capability}=False is declared, and it works: {HIDDEN}"


def _backend(registries: Registries) -> RegistryBackend:
    plugins = Plugins()
    kind = plugins.backend(scheme_of(registries.url))
    target = parse_target(registries.url, kind, registries.options)
    product = factory(kind)(target, SystemClock())  # type: ignore[operator]
    if not kind.store:
        return cast("RegistryBackend", product)
    layout = plugins.layout(target.text("layout"))
    return StoreRegistry(product, layout(), target.number("call_timeout"))


def _instance(**fields: object) -> Instance:
    made = Instance.of("10.0.0.1:1", instance_id="10.0.0.1:1")
    return msgspec.structs.replace(made, **{"started": int(time.time() * 1000), "owner": "first", **fields})


async def _settled(backend: RegistryBackend) -> None:
    """Return when reads show what was written until now."""
    await asyncio.sleep(backend.capabilities.visible_within)


async def _announce(backend: RegistryBackend, instance: Instance) -> object:
    refused = await backend.announce(Wanted({ECHO: (instance,)}), (ECHO,))
    return refused.get(ECHO)


async def _states(backend: RegistryBackend) -> list[str]:
    await _settled(backend)
    found = await backend.lookup(ECHO)
    return [one.state for one in found.instances] if found is not None else []


async def _push(one: RegistryBackend, other: RegistryBackend) -> bool:
    messages: AsyncIterator[Snapshot | Patch] = one.watch(ECHO)
    try:
        first = await anext(messages)
        assert isinstance(first, Snapshot), "the first message of a watch is a snapshot"
        assert await _announce(other, _instance()) is None
        async with asyncio.timeout(STEP):
            message = await anext(messages)
            return bool(message.changed if isinstance(message, Patch) else message.instances)
    except (Unsupported, TimeoutError):
        return False
    finally:
        await messages.aclose()  # type: ignore[attr-defined]


async def _list_services(one: RegistryBackend, other: RegistryBackend) -> bool:
    assert await _announce(one, _instance()) is None
    try:
        await _settled(other)
        return list(await other.services()) == [ECHO]
    except Unsupported:
        return False


async def _announces_withdrawal(one: RegistryBackend, other: RegistryBackend) -> bool:
    assert await _announce(one, _instance()) is None
    assert await _states(other) == ["up"]
    await _announce(one, _instance(state="leaving"))
    return await _states(other) == ["leaving"]


async def _compare_and_set(one: RegistryBackend, other: RegistryBackend) -> bool:
    assert await _announce(one, _instance()) is None
    await asyncio.sleep(0.005)  # what was started in the same millisecond is not newer
    answer = await _announce(other, _instance(owner="second"))
    await _settled(other)
    found = await other.lookup(ECHO)
    holders = [instance.owner for instance in found.instances] if found is not None else []
    assert len(holders) == 1, f"one id has the holders {holders}"
    assert isinstance(answer, Conflict | Unsupported | None), f"the newer one was refused with {answer!r}"
    return answer is None and holders == ["second"]


_PROBES: dict[str, Probe] = {
    "push": _push,
    "list_services": _list_services,
    "announces_withdrawal": _announces_withdrawal,
    "compare_and_set": _compare_and_set,
}
