"""The whole public surface as users write it; checked by mypy and pyright, never run.

A change that breaks a line here breaks somebody's program.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
# ruff: noqa: T201  users print

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, assert_type

import sofa_registry_adapters
from sofa_registry_adapters import (
    ABSENT,
    Absent,
    Advertised,
    AsyncBound,
    AsyncConfigCenter,
    AsyncConfigSubscription,
    AsyncConfigWatch,
    AsyncFieldSubscription,
    AsyncRegistration,
    AsyncRegistry,
    AsyncSubscription,
    AsyncWatch,
    Bound,
    ConfigCenter,
    ConfigChange,
    ConfigItem,
    ConfigKey,
    ConfigSubscription,
    ConfigWatch,
    FieldSubscription,
    Instance,
    InstancesChange,
    Registration,
    Registry,
    Revision,
    ServiceKey,
    ServiceView,
    Subscription,
    Watch,
    errors,
    events,
)
from sofa_registry_adapters.events import Event, RegistrationLost
from sofa_registry_adapters.spi.clock import Clock, SystemClock
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.layout import ServiceLayout
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target

State = Literal["pending", "live", "lost", "conflict", "withdrawn"]


def constructing(options: Mapping[str, str], settings: dict[str, int | bool | float]) -> None:
    Registry()
    Registry("redis://127.0.0.1:6379")
    Registry(None, options=options)
    Registry("local://", options=settings, plugins=["alarm", object()], clock=SystemClock())
    AsyncRegistry("zookeeper://h", options={"session_timeout": "5s"}, plugins=(), clock=None)
    Registry("redis://h", credentials=lambda: ("ann", "secret"))
    assert_type(sofa_registry_adapters.__version__, str)


def the_blocking_face(registry: Registry, addresses: Iterable[str], several: list[Instance]) -> None:
    assert_type(registry.open(), Registry)
    assert_type(registry.target, Target)
    assert_type(registry.capabilities, Capabilities)
    with Registry("memory://") as opened:
        assert_type(opened, Registry)
    assert_type(registry.publish("a", "h:1"), Registration)
    registry.publish(ServiceKey("a", "1.0", "blue"), Instance(host="h", port=1))
    registry.publish("a", addresses)
    registry.publish("a", several)
    registry.publish("a", ["h:1", Instance.of("h:2")])
    registry.publish("a", port=80)
    registry.publish("a", "h", port=80)
    registry.publish(
        "a",
        "h:1",
        instance_id="i",
        protocol="bolt",
        weight=50,
        enabled=True,
        zone="z",
        metadata={"lang": "python"},
        required=False,
        timeout=1,
    )
    assert_type(registry.lookup("a", timeout=0.5), ServiceView)
    assert_type(registry.subscribe("a", lambda change: print(change.added)), Subscription)
    registry.subscribe(ServiceKey("a"), listen, required=False, timeout=2.0)
    changes: list[InstancesChange] = []
    registry.subscribe("a", changes.append)
    assert_type(registry.watch("a", required=False, timeout=2.0), Watch)
    assert_type(registry.services(timeout=1.0), Sequence[ServiceKey])
    assert_type(registry.advertise_address(timeout=1.0), Advertised)
    with ThreadPoolExecutor() as pool:
        assert_type(pool.submit(registry.lookup, "a").result(), ServiceView)
    registry.close()


def listen(change: InstancesChange) -> None:
    assert_type(change.instances, ServiceView)
    assert_type(change.added, tuple[Instance, ...])
    assert_type(change.removed, tuple[Instance, ...])
    assert_type(change.updated, tuple[Instance, ...])
    assert_type(change.service, ServiceKey)
    assert_type(change.stale, bool)


def the_blocking_handles(registration: Registration, subscription: Subscription, watch: Watch) -> None:
    assert_type(registration.service, ServiceKey)
    assert_type(registration.instances, tuple[Instance, ...])
    assert_type(registration.state, State)
    assert_type(registration.last_error, Exception | None)
    registration.wait_live()
    registration.wait_live(1.0)
    registration.update(weight=1, enabled=False, zone="z", protocol="p", metadata={}, timeout=1.0)
    registration.unpublish(timeout=1.0)
    with registration as same:
        assert_type(same, Registration)

    assert_type(subscription.service, ServiceKey)
    assert_type(subscription.closed, bool)
    subscription.close()
    with subscription as place:
        assert_type(place, Subscription)

    assert_type(watch.next(), InstancesChange | None)
    assert_type(watch.next(timeout=1.0), InstancesChange | None)
    for change in watch:
        assert_type(change, InstancesChange)
    watch.close()
    with watch as loop:
        assert_type(loop, Watch)


async def listen_too(change: InstancesChange) -> None:
    assert_type(change.service, ServiceKey)


async def the_async_face(registry: AsyncRegistry) -> None:
    assert_type(await registry.open(), AsyncRegistry)
    assert_type(registry.target, Target)
    assert_type(registry.capabilities, Capabilities)
    async with AsyncRegistry("memory://") as opened:
        assert_type(opened, AsyncRegistry)
    assert_type(await registry.publish("a", "h:1", weight=1, timeout=1.0), AsyncRegistration)
    await registry.publish("a", port=80, required=False)
    assert_type(await registry.lookup("a"), ServiceView)
    assert_type(await registry.subscribe("a", listen), AsyncSubscription)
    await registry.subscribe("a", listen_too, required=False, timeout=1.0)
    assert_type(await registry.watch("a"), AsyncWatch)
    assert_type(await registry.services(), Sequence[ServiceKey])
    assert_type(await registry.advertise_address(), Advertised)
    await registry.aclose()


async def the_async_handles(
    registration: AsyncRegistration, subscription: AsyncSubscription, watch: AsyncWatch
) -> None:
    assert_type(registration.service, ServiceKey)
    assert_type(registration.instances, tuple[Instance, ...])
    assert_type(registration.state, State)
    assert_type(registration.last_error, Exception | None)
    await registration.wait_live(1.0)
    await registration.update(weight=1, enabled=False, zone="z", protocol="p", metadata={}, timeout=1.0)
    await registration.unpublish(timeout=1.0)
    async with registration as same:
        assert_type(same, AsyncRegistration)
    assert_type(subscription.closed, bool)
    subscription.close()
    await subscription.aclose()
    async with subscription as place:
        assert_type(place, AsyncSubscription)
    assert_type(await watch.next(), InstancesChange | None)
    async for change in watch:
        assert_type(change, InstancesChange)
    await watch.aclose()
    async with watch as loop:
        assert_type(loop, AsyncWatch)


def values(key: ServiceKey, instance: Instance, view: ServiceView, revision: Revision, here: Advertised) -> None:
    assert_type(ServiceKey.parse("a:1.0"), ServiceKey)
    assert_type((key.name, key.version, key.group), tuple[str, str, str])
    assert_type(sorted([key, ServiceKey("b")]), list[ServiceKey])

    Instance(host="h", port=1, weight=5, enabled=False, zone="z", protocol="p", instance_id="i")
    assert_type(Instance.of("h:1", metadata={"a": "b"}), Instance)
    assert_type(instance.checked(), Instance)
    assert_type(instance.address, str)
    assert_type(instance.port, int)
    assert_type(instance.enabled, bool)
    assert_type(instance.metadata["a"], str)
    assert_type(instance.metadata.get("a"), str | None)
    assert_type(instance.started, int)
    assert_type({instance: 1}[instance], int)

    assert_type(len(view), int)
    assert_type(view[0], Instance)
    assert_type(view[1:], Sequence[Instance])
    for one in view:
        assert_type(one, Instance)
    assert_type(view.available, tuple[Instance, ...])
    assert_type(view.service, ServiceKey)
    assert_type(view.revision, Revision)
    assert_type((view.stale, view.protected), tuple[bool, bool])
    assert_type(view.age, float)

    assert_type((revision.epoch, revision.counter), tuple[str, int])
    assert_type((here.host, here.why), tuple[str, str])


def the_blocking_center(config: ConfigCenter, where: ConfigKey) -> None:
    assert_type(config.open(), ConfigCenter)
    assert_type(config.target, Target)
    assert_type(config.capabilities, Capabilities)
    with ConfigCenter("memory://", options={"snapshot": "off"}, plugins=(), clock=None) as opened:
        assert_type(opened, ConfigCenter)
    item = config.get("pool.yaml", group="orders", timeout=1.0)
    assert_type(item, ConfigItem | None)
    expected: str | Absent = item.revision if item else ABSENT
    assert_type(config.publish("pool.yaml", "size: 10", group="orders", expected_revision=expected), str)
    config.publish(where, b"\x00", content_type="yaml", timeout=1)
    assert_type(config.remove("pool.yaml", group="orders", expected_revision="r", timeout=1.0), bool)
    assert_type(config.add_listener("pool.yaml", changed, group="orders"), ConfigSubscription)
    config.add_listener(where, lambda change: print(change.item), required=False, timeout=1.0)
    assert_type(config.watch("pool.yaml", group="orders", required=False, timeout=1.0), ConfigWatch)
    assert_type(config.keys(group="orders", timeout=1.0), Sequence[str])
    assert_type(config.history("pool.yaml", group="orders", limit=5, timeout=1.0), Sequence[ConfigItem])
    assert_type(config.rollback("pool.yaml", "r", group="orders", expected_revision=ABSENT, timeout=1.0), str)
    config.rollback(where)
    config.events.on(events.ConfigChanged, lambda event: print(event.change))
    config.close()


def changed(change: ConfigChange) -> None:
    assert_type(change.key, ConfigKey)
    assert_type(change.item, ConfigItem | None)
    assert_type(change.previous, ConfigItem | None)
    assert_type(change.stale, bool)


def the_config_values(item: ConfigItem, key: ConfigKey, conflict: errors.Conflict) -> None:
    assert_type((item.key, item.group, item.revision, item.content_type), tuple[str, str, str, str])
    assert_type(item.content, str | bytes)
    assert_type((item.text, item.data), tuple[str, bytes])
    assert_type((item.updated_at, item.author, item.stale), tuple[float, str, bool])
    assert_type((key.key, key.group), tuple[str, str])
    assert_type((conflict.expected, conflict.present), tuple[str | None, str | None])


def the_config_handles(place: ConfigSubscription, watch: ConfigWatch) -> None:
    assert_type(place.key, ConfigKey)
    assert_type(place.closed, bool)
    place.close()
    with place as same:
        assert_type(same, ConfigSubscription)
    assert_type(watch.next(timeout=1.0), ConfigChange | None)
    for change in watch:
        assert_type(change, ConfigChange)
    watch.close()
    with watch as loop:
        assert_type(loop, ConfigWatch)


async def the_async_center(config: AsyncConfigCenter, place: AsyncConfigSubscription, watch: AsyncConfigWatch) -> None:
    async def told(change: ConfigChange) -> None:
        print(change.item)

    async with AsyncConfigCenter("memory://") as opened:
        assert_type(opened, AsyncConfigCenter)
    assert_type(await config.open(), AsyncConfigCenter)
    assert_type(await config.get("a", group="g", timeout=1.0), ConfigItem | None)
    assert_type(await config.publish("a", "b", expected_revision=ABSENT), str)
    assert_type(await config.remove("a"), bool)
    assert_type(await config.add_listener("a", told), AsyncConfigSubscription)
    await config.add_listener("a", changed)
    assert_type(await config.watch("a"), AsyncConfigWatch)
    assert_type(await config.keys(), Sequence[str])
    assert_type(await config.history("a"), Sequence[ConfigItem])
    assert_type(await config.rollback("a"), str)
    await config.aclose()
    assert_type(await watch.next(timeout=1.0), ConfigChange | None)
    async for change in watch:
        assert_type(change, ConfigChange)
    await watch.aclose()
    async with watch as loop, place as same:
        assert_type(loop, AsyncConfigWatch)
        assert_type(same, AsyncConfigSubscription)
    await place.aclose()


class Settings:
    """Any class: whether it can be bound is found out when it is."""

    size: int = 1


def the_bound_model(config: ConfigCenter, where: ConfigKey) -> None:
    assert_type(config.bind(Settings, "app.yaml"), Bound[Settings])
    bound: Bound[Settings] = config.bind(Settings, "base.yaml", ("app.yaml", "orders"), where, group="shared")
    config.bind(Settings, "app.yaml", strict=True, required=False, timeout=1.0)
    assert_type(bound.current, Settings)
    assert_type(bound.current.size, int)
    assert_type(bound.keys, tuple[ConfigKey, ...])
    assert_type((bound.stale, bound.closed), tuple[bool, bool])
    assert_type(bound.last_error, errors.CorruptRecord | None)
    assert_type(bound.on("size", print), FieldSubscription)
    place = bound.on("size", lambda old, new: print(new - old))
    assert_type((place.field, place.closed), tuple[str, bool])
    place.close()
    bound.close()
    with bound as same:
        assert_type(same, Bound[Settings])


async def the_async_bound_model(config: AsyncConfigCenter) -> None:
    async def resize(old: int, new: int) -> None:
        print(old, new)

    bound: AsyncBound[Settings] = await config.bind(Settings, "app.yaml", group="orders")
    assert_type(bound.current, Settings)
    place = bound.on("size", resize)
    assert_type(place, AsyncFieldSubscription)
    bound.on("size", print)
    await place.aclose()
    async with bound as same, place as closing:
        assert_type(same, AsyncBound[Settings])
        assert_type(closing, AsyncFieldSubscription)
    await bound.aclose()


def the_bus(registry: Registry) -> None:
    place = registry.events.on(RegistrationLost, lambda lost: print(lost.service, lost.instance_ids, lost.reason))
    assert_type(place.dropped, int)
    place.close()
    registry.events.on(Event, print)
    registry.events.on(events.Published, lambda event: assert_type(event.instance_ids, tuple[str, ...]))
    registry.events.on(events.Withdrawn, lambda event: assert_type(event.service, ServiceKey))
    registry.events.on(events.RegistrationConflict, lambda event: assert_type(event.reason, str))
    registry.events.on(events.RegistrationRefused, lambda event: assert_type(event.reason, str))
    registry.events.on(events.InstancesChanged, lambda event: assert_type(event.change, InstancesChange))
    registry.events.on(events.ProtectionStarted, lambda event: assert_type(event.instance_ids, tuple[str, ...]))
    registry.events.on(events.ProtectionEnded, lambda event: assert_type(event.confirmed, bool))
    registry.events.on(events.BackendLost, lambda event: assert_type(event.reason, str))
    registry.events.on(events.BackendRestored, lambda event: assert_type(event.seconds, float))
    registry.events.on(events.RecordRejected, lambda event: assert_type(event.record, str))
    registry.events.on(events.ListenerFailed, lambda event: assert_type(event.listener, str))
    registry.events.on(events.SnapshotFailed, lambda event: assert_type(event.service, ServiceKey))
    registry.events.on(events.ConfigChanged, lambda event: assert_type(event.change, ConfigChange))
    registry.events.on(events.ConfigRejected, lambda event: assert_type((event.reason, event.field), tuple[str, str]))
    registry.events.on(events.ConfigLooped, lambda event: assert_type(event.publications, int))
    registry.events.on(events.ConfigSnapshotFailed, lambda event: assert_type(event.key, ConfigKey))


async def the_bus_of_the_async_face(registry: AsyncRegistry) -> None:
    async def told(lost: RegistrationLost) -> None:
        print(lost.reason)

    registry.events.on(RegistrationLost, told)


def failing(registry: Registry) -> None:
    try:
        registry.publish("a", "h:1")
    except errors.DeadlineExceeded as error:
        late: TimeoutError = error
        print(late)
    except errors.Unavailable:
        pass
    except (errors.AlreadyPublished, errors.UnroutableAddress, errors.ValueTooLarge):
        pass
    except errors.Refused as error:
        assert_type(error.instance_ids, frozenset[str])
        assert_type(error.also, tuple[errors.RegistryError, ...])
    except ValueError:
        """An `InvalidArgument` is one."""
    except errors.RegistryError:
        raise


class Frozen:
    """A clock of the user's own."""

    def monotonic(self) -> float:
        return 0.0

    def boot(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        """Not at all."""


clock: Clock = Frozen()
Registry("memory://", clock=clock)


def make(target: Target, clock: Clock) -> object:
    return (target.text("layout"), clock.monotonic())


class Plugin:
    """A plug-in with every hook."""

    @hookimpl
    def sofa_registry_backends(self) -> Sequence[BackendType]:
        return [
            BackendType(
                schemes=("nowhere",),
                summary="no registry",
                grammar="nowhere://",
                considerations="",
                capabilities=Capabilities(push=False, liveness="none", lease=False),
                load=lambda: make,
                options=(Option(name="depth", kind="whole", default=1, meaning="how deep", least=0, most=9),),
                needs_host=False,
            )
        ]

    @hookimpl
    def sofa_registry_layouts(self) -> Mapping[str, type[ServiceLayout]]:
        return {}

    @hookimpl
    def sofa_registry_listeners(self) -> Sequence[tuple[type[Event], Callable[[Any], object]]]:
        return [(RegistrationLost, print)]

    @hookimpl
    def sofa_registry_commands(self) -> Mapping[str, Callable[..., object]]:
        return {"hello": lambda: None}


Registry("memory://", plugins=[Plugin()])


def what_is_wrong(registry: Registry, view: ServiceView) -> None:
    """Mistakes that the type checkers must find; an ignore that is not needed is an error."""
    registry.publish("a", 80)  # type: ignore[arg-type]
    registry.publish("a", "h:1", weight="5")  # type: ignore[arg-type]
    registry.publish("a", "h:1", 5)  # type: ignore[call-arg]
    registry.lookup(b"a")  # type: ignore[arg-type]
    registry.subscribe("a", lambda: None)  # type: ignore[arg-type,misc]
    view[0] = Instance(host="h", port=1)  # type: ignore[index]
    registry.aclose()  # type: ignore[attr-defined]
    ConfigCenter().publish("a", 5)  # type: ignore[arg-type]
    ConfigCenter().remove("a", expected_revision=ABSENT)  # type: ignore[arg-type]
    ConfigCenter().add_listener("a", lambda: None)  # type: ignore[arg-type,misc]
    ConfigCenter().bind(Settings(), "a")  # type: ignore[arg-type]
    ConfigCenter().bind(Settings, 5)  # type: ignore[arg-type]
    ConfigCenter().bind(Settings, "a").on("size", lambda: None)  # type: ignore[arg-type,misc]
