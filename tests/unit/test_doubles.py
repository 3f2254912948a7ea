from __future__ import annotations

import asyncio

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.events import RegistrationLost
from sofa_registry_adapters.testing.clock import ManualClock
from sofa_registry_adapters.testing.doubles import RecordingRegistry, RegistryStage
from sofa_registry_adapters.testing.faults import eventually

SERVICE = "com.acme.Hello:1.0"


def test_the_fixture_is_an_open_registry_that_nobody_else_sees(
    registry: Registry, registry_stage: RegistryStage
) -> None:
    registry.publish(SERVICE, "10.0.0.7:80")
    assert [one.address for one in registry.lookup(SERVICE)] == ["10.0.0.7:80"]
    with registry_stage.registry() as other:
        assert len(other.lookup(SERVICE)) == 1
    with RegistryStage().registry() as stranger:
        assert not stranger.lookup(SERVICE)


def test_a_partition_makes_views_stale_and_unknown_services_unavailable(
    registry: Registry, registry_stage: RegistryStage
) -> None:
    registry.publish(SERVICE, "10.0.0.7:80")
    with registry.watch(SERVICE), registry_stage.partitioned():
        eventually(lambda: registry.lookup(SERVICE).stale, 5, "the view is stale")
        assert len(registry.lookup(SERVICE)) == 1
        with pytest.raises(Unavailable):
            registry.lookup("com.acme.Other", timeout=0.1)


@pytest.mark.parametrize("fault", ("expire", "wipe"))
def test_what_is_lost_comes_back(registry: Registry, registry_stage: RegistryStage, fault: str) -> None:
    lost: list[RegistrationLost] = []
    registry.events.on(RegistrationLost, lost.append)
    registration = registry.publish(SERVICE, "10.0.0.7:80")
    getattr(registry_stage, fault)()
    eventually(lambda: lost, 5, "the loss is told")
    eventually(lambda: registration.state == "live", 5, "it is published again")
    assert len(registry.lookup(SERVICE)) == 1


def test_time_stands_still_until_it_is_advanced(registry_clock: ManualClock) -> None:
    stage = RegistryStage(registry_clock)
    with stage.registry() as provider, stage.registry(protection_hold=60.0) as consumer:
        provider.publish(SERVICE, "10.0.0.7:80")
        with consumer.watch(SERVICE):
            stage.partition()
            eventually(lambda: registry_clock.sleepers, 5, "the engine waits for time to pass")
            assert len(consumer.lookup(SERVICE)) == 1
            stage.heal()
            registry_clock.advance(5)
            eventually(lambda: not consumer.lookup(SERVICE).stale, 5, "it is in step again")


def test_a_slow_registry_is_bounded_by_the_verbs(registry: Registry, registry_stage: RegistryStage) -> None:
    registry.services()
    registry_stage.slow(30)
    with pytest.raises(Unavailable):
        registry.lookup(SERVICE, timeout=0.1)
    registry_stage.slow(0)


def test_the_async_face() -> None:
    async def main() -> int:
        async with RegistryStage().async_registry() as registry:
            await registry.publish(SERVICE, "10.0.0.7:80")
            return len(await registry.lookup(SERVICE))

    assert asyncio.run(main()) == 1


def test_a_recording_registry_notes_the_calls_and_works() -> None:
    with RecordingRegistry() as registry:
        registry.publish(SERVICE, "10.0.0.7:80", weight=7)
        assert registry.lookup(SERVICE)[0].weight == 7
        registry.subscribe(SERVICE, print).close()
        registry.watch(SERVICE).close()
        verbs = [(verb, service) for verb, service, _ in registry.calls]
    assert verbs == [(verb, SERVICE) for verb in ("publish", "lookup", "subscribe", "watch")]
    assert registry.calls[0][2] == {"instances": "10.0.0.7:80", "weight": 7}


def test_a_stage_has_configuration_and_its_faults(registry_stage: RegistryStage) -> None:
    with registry_stage.config() as writer, registry_stage.config() as reader:
        writer.publish("pool.yaml", "size: 10")
        with reader.watch("pool.yaml") as watch:
            change = watch.next(timeout=5)
            assert change is not None
            assert change.item == writer.get("pool.yaml")
            with registry_stage.partitioned():
                stale = reader.get("pool.yaml", timeout=0.3)
                assert stale is not None
                assert (stale.text, stale.stale) == ("size: 10", True)
                with pytest.raises(Unavailable):
                    writer.publish("pool.yaml", "size: 20", timeout=0.3)

    async def work() -> None:
        async with registry_stage.async_config() as config:
            found = await config.get("pool.yaml")
            assert found is not None

    asyncio.run(work())
