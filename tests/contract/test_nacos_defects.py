"""What nacos-sdk-python does wrong with services, one test each: lost registrations, slots, callbacks."""

from __future__ import annotations

import time

import pytest
from nacos_lines import BACK_WITHIN, Note, line, made, proxy, registries, server, times_published

from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.model.events import BackendLost, ListenerFailed
from sofa_registry_adapters.model.instance import Instance, Metadata
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract.clients import Recorder
from sofa_registry_adapters.testing.contract.kit import ECHO, SLACK, STEP, Registries, seen, stays
from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.provider import settled
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["line", "proxy", "registries", "server"]

pytestmark = pytest.mark.timeout(300)

FROZEN = 30.0


def through(proxy: NetProxy, service: Service) -> str:
    return service.url.replace(f"{service.host}:{service.port}", proxy.address)


def many(count: int, size: int = 0) -> list[Instance]:
    return [
        Instance(
            host=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", port=1, metadata=Metadata({"k": "v" * size} if size else {})
        )
        for n in range(count)
    ]


@pytest.fixture
def slow_server(request: pytest.FixtureRequest, line: str) -> Service:
    """As Nacos is set up by itself."""
    return request.getfixturevalue(f"own_{line}")()


def test_redo_after_thirty_seconds(server: Service, registries: Registries, record_property: Note) -> None:
    """A server that was killed has all registrations again within two seconds of being ready, not of a tick."""
    publisher, reader = registries.blocking(), registries.blocking()
    keys = [ServiceKey(f"service {number}") for number in range(30)]
    for number, key in enumerate(keys):
        publisher.publish(key, f"10.0.0.{number}:1")
    _, recorder = registries.recorder(keys[0])
    eventually(lambda: recorder.ids, STEP, "it is seen")
    recorder.mark()
    server.kill()
    time.sleep(1.0)
    server.start()
    ready = time.monotonic()
    eventually(lambda: all(_quietly(reader, key) for key in keys), BACK_WITHIN + SLACK, "all are back")
    record_property("seconds after readiness", round(time.monotonic() - ready, 2))
    assert recorder.smallest == 1, "no view was ever empty"


def test_a_reset_that_every_observer_sees(slow_server: Service, line: str, record_property: Note) -> None:
    """A connection that is reset is made again before the server tells anybody that its instances are gone."""
    with slow_server.proxy() as proxy, made(through(proxy, slow_server), push_delay=0.5) as registries:
        publisher = registries.blocking()
        publisher.publish(ECHO, ["10.0.0.1:1", "10.0.0.2:1"])
        again = times_published(publisher)
        with Registry(slow_server.url, options={**registries.options, "protection_hold": 0}) as observer:
            recorder, taken = Recorder(), []
            observer.subscribe(ECHO, recorder)
            eventually(lambda: len(recorder.ids) == 2, STEP, "they are seen")
            recorder.mark()
            before = len(recorder.changes)
            for number in range(3):
                cut = time.monotonic()
                proxy.cut()
                eventually(lambda: len(again) > number, STEP, "it is published again")  # noqa: B023  called at once
                taken.append(round(again[-1] - cut, 3))
                time.sleep(1.2)  # two push delays: who was told anything has been told by now
            assert recorder.smallest == 2
            assert len(recorder.changes) == before, "nobody was told anything"
            record_property("seconds until published again", taken)


def test_a_frozen_client_that_never_comes_back(
    server: Service, proxy: NetProxy, line: str, record_property: Note
) -> None:
    """A client that was stopped for thirty seconds, and given up by the server, is back within two of waking."""
    with made(through(proxy, server)) as registries:
        child = registries.child("stay", "10.0.0.1:1")
        child.expect("live", 20.0)
        with Registry(server.url, options=registries.options) as reader:
            child.stop()
            began = time.monotonic()
            if line == "nacos2":
                # This version gives nobody up who hangs; the network does, in time.
                time.sleep(FROZEN - 2.0)
                proxy.cut()
            eventually(lambda: not seen(reader), FROZEN + 2.0, "the server gave it up")
            time.sleep(max(0.0, began + FROZEN - time.monotonic()))
            child.cont()
            woken = time.monotonic()
            eventually(lambda: seen(reader), BACK_WITHIN + SLACK, "it is back")
            record_property("seconds after waking", round(time.monotonic() - woken, 2))
            stays(lambda: seen(reader), 1.0, "several heartbeats")


def test_one_publish_slot(registries: Registries) -> None:
    """Several registrations of one service from one process are all there."""
    publisher, reader = registries.blocking(), registries.blocking()
    for number in range(3):
        publisher.publish(ECHO, f"10.0.0.{number}:1", metadata={"who": str(number)})
    assert seen(reader) == {f"10.0.0.{number}:1": str(number) for number in range(3)}


def test_deregister_that_drops_the_slot(registries: Registries) -> None:
    """Of three instances one is withdrawn and two stay; an observer sees the last one leave at once."""
    publisher, (_, recorder) = registries.blocking(), registries.recorder()
    published = [publisher.publish(ECHO, f"10.0.0.{number}:1") for number in range(3)]
    eventually(lambda: len(recorder.ids) == 3, STEP, "all are seen")
    published[1].unpublish()
    eventually(lambda: recorder.ids == {"10.0.0.0:1", "10.0.0.2:1"}, STEP, "one is gone")
    published[0].update(weight=7)
    published[0].unpublish()
    eventually(lambda: recorder.ids == {"10.0.0.2:1"}, STEP, "another one is gone")
    began = time.monotonic()
    published[2].unpublish()
    assert time.monotonic() - began < 1.0 + SLACK
    eventually(lambda: not recorder.ids, 1.0, "the last one's leaving is seen, without any hold")
    assert not seen(registries.blocking())


def test_an_outgrown_service_takes_the_client_down(registries: Registries, record_property: Note) -> None:
    """A service of far more than 4 MB is published and followed, and what else the client has is unharmed."""
    client, (consumer, recorder) = registries.blocking(), registries.recorder()
    other = client.publish("other", "10.0.0.1:1")
    lost: list[BackendLost] = []
    for registry in (client, consumer):
        registry.events.on(BackendLost, lost.append)
    few = client.publish(ECHO, many(5_000, 160), timeout=30.0)
    eventually(lambda: len(recorder.changes[-1].instances) == 5_000, 20.0, "the first part")
    began = time.monotonic()
    more = client.publish(ECHO, many(12_000, 160)[5_000:], timeout=30.0)
    record_property("seconds to publish", round(time.monotonic() - began, 2))
    eventually(lambda: len(recorder.changes[-1].instances) == 12_000, 20.0, "all of it")
    record_property("seconds to be mirrored", round(time.monotonic() - began, 2))
    few.update(weight=7, timeout=30.0)
    eventually(lambda: recorder.replica["10.0.0.1:1"].weight == 7, 20.0, "a change")
    assert {few.state, more.state, other.state} == {"live"}
    assert set(seen(consumer, ServiceKey("other"))) == {"10.0.0.1:1"}
    assert not lost, "no connection was lost"


def test_a_call_that_raised_is_applied_later(server: Service, registries: Registries) -> None:
    """A publish that raised leaves nothing behind, though the server got the request and answers in the end."""
    publisher, reader = registries.blocking(), registries.blocking()
    standing = publisher.publish("standing", "10.0.0.1:1")
    seen(reader)
    server.pause()
    try:
        with pytest.raises(Unavailable):
            publisher.publish(ECHO, "10.0.0.1:1", timeout=0.5)
        with pytest.raises(Unavailable):
            standing.update(weight=7, timeout=0.5)
    finally:
        server.resume()
    eventually(lambda: standing.state == "live", STEP, "it goes on")
    stays(lambda: not seen(reader), 2.0, "whatever the server still had to do is done")
    settled(reader)
    assert [one.weight for one in reader.lookup("standing")] == [7], "an update stays wanted"


def test_callbacks_that_deadlock(registries: Registries) -> None:
    """A listener may look up what it is told of, and anything else; a plain function is a listener."""
    publisher, consumer = registries.blocking(), registries.blocking()
    found: list[int] = []

    def looking(_: object) -> None:
        found.append(len(consumer.lookup(ECHO)) + len(consumer.lookup("other")))

    consumer.subscribe(ECHO, looking)
    publisher.publish("other", "10.0.0.1:1")
    publisher.publish(ECHO, "10.0.0.1:1")
    eventually(lambda: found[-1:] == [2], STEP, "it is told, and looks")


def test_callbacks_that_kill_the_listen_task(registries: Registries) -> None:
    """A listener that raises is called again, and others are called as well."""
    publisher, (consumer, recorder) = registries.blocking(), registries.recorder()
    calls: list[object] = []
    failures: list[ListenerFailed] = []
    consumer.events.on(ListenerFailed, failures.append)

    def failing(change: object) -> None:
        calls.append(change)
        raise ValueError("on purpose")

    consumer.subscribe(ECHO, failing)
    consumer.subscribe(ECHO, failing)
    for number in range(3):
        publisher.publish(ECHO, f"10.0.0.{number}:1")
        eventually(lambda: len(recorder.ids) == number + 1 and len(calls) >= 2 * (number + 2), STEP, "all are called")  # noqa: B023
    eventually(lambda: len(failures) == len(calls), STEP, "each failure is told")


def test_the_last_instance_that_stays_for_ever(registries: Registries) -> None:
    """The last instance of a client that is killed is gone from a view once the hold is over, and from a lookup at once."""
    _, recorder = registries.recorder(protection_hold=1.0)
    child = registries.child("stay", "10.0.0.1:1")
    child.expect("live", 20.0)
    eventually(lambda: recorder.ids, STEP, "it is seen")
    child.kill()
    eventually(lambda: not seen(registries.blocking()), 2.0, "it is not listed any more")
    eventually(lambda: not recorder.ids, 2.0 + STEP, "nor is it shown")


def test_two_clients_in_one_process(registries: Registries) -> None:
    """They are two owners: what one withdraws the other keeps, also with the same address."""
    one, two, reader = (registries.blocking() for _ in range(3))
    first = one.publish(ECHO, "10.0.0.1:1", instance_id="one", metadata={"who": "one"})
    two.publish(ECHO, "10.0.0.1:1", instance_id="two", metadata={"who": "two"})
    assert seen(reader) == {"one": "one", "two": "two"}
    first.unpublish()
    assert seen(reader) == {"two": "two"}


def _quietly(registry: Registry, key: ServiceKey) -> int:
    try:
        return len(registry.lookup(key, timeout=1.0))
    except RegistryError:
        return 0
