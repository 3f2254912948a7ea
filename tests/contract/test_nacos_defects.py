"""What nacos-sdk-python does wrong with services, one test each; and what a Nacos server does to its clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable, ValueTooLarge
from sofa_registry_adapters.model.events import BackendLost, ListenerFailed, Published
from sofa_registry_adapters.model.instance import Instance, Metadata
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract.clients import Recorder
from sofa_registry_adapters.testing.contract.kit import ECHO, SLACK, STEP, Registries, seen, stays, takes
from sofa_registry_adapters.testing.faults import NetProxy, eventually, free_port
from sofa_registry_adapters.testing.provider import settled
from sofa_registry_adapters.testing.services import Service

PUSH_DELAY = 0.05
SECRET = "canary: 'ü/@%'"
BACK_WITHIN = 2.0
"""Seconds after a server is ready, or a client wakes, until everything is in the registry again."""
FROZEN = 30.0

Note = Callable[[str, object], None]
pytestmark = pytest.mark.timeout(300)


@contextlib.contextmanager
def made(url: str, **options: Any) -> Iterator[Registries]:
    given = {"namespace": f"test-{uuid.uuid4().hex}", "push_delay": PUSH_DELAY, **options}
    registries = Registries(url, given, "", 0.0)
    try:
        yield registries
    finally:
        registries.close()


def through(proxy: NetProxy, service: Service) -> str:
    return service.url.replace(f"{service.host}:{service.port}", proxy.address)


def many(count: int, size: int = 0) -> list[Instance]:
    return [
        Instance(
            host=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", port=1, metadata=Metadata({"k": "v" * size} if size else {})
        )
        for n in range(count)
    ]


@pytest.fixture(params=(pytest.param("nacos2", marks=pytest.mark.wide), "nacos"))
def line(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(request: pytest.FixtureRequest, line: str) -> Service:
    return request.getfixturevalue(f"own_{line}")(push_delay=PUSH_DELAY)


@pytest.fixture
def proxy(server: Service) -> Iterator[NetProxy]:
    with server.proxy() as proxy:
        yield proxy


@pytest.fixture
def registries(server: Service) -> Iterator[Registries]:
    with made(server.url) as registries:
        yield registries


@pytest.fixture
def slow_server(request: pytest.FixtureRequest, line: str) -> Service:
    """As Nacos is set up by itself."""
    return request.getfixturevalue(f"own_{line}")()


@pytest.fixture
def guarded(own_nacos: Callable[..., Service]) -> Service:
    """A server with accounts, which line 3 alone has here."""
    return own_nacos(push_delay=PUSH_DELAY, password=SECRET)


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
        again = _times_published(publisher)
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


def test_healthy_with_a_wrong_password(guarded: Service) -> None:
    """A wrong password, or none, is Denied at the first call, within its time-out."""
    where = f"{guarded.host}:{guarded.port}"
    for url in (f"nacos://nacos:wrong@{where}", f"nacos://nobody:wrong@{where}", f"nacos://{where}"):
        with Registry(url, options={"snapshot": "off"}) as registry:
            for verb in (
                lambda registry=registry: registry.publish(ECHO, "10.0.0.1:1"),
                lambda registry=registry: registry.lookup(ECHO),
                lambda registry=registry: registry.subscribe(ECHO, print),
                registry.services,
            ):
                with takes(STEP, "the verb"), pytest.raises(Denied) as caught:
                    verb()
                assert "wrong" not in str(caught.value).replace("wrong@", "")


def test_a_token_secret_that_changed(guarded: Service, record_property: Note) -> None:
    """A server that was started again with another token secret has all again within two seconds."""
    with made(guarded.url) as registries:
        publisher, (_, recorder) = registries.blocking(), registries.recorder()
        keys = [ServiceKey(f"service {number}") for number in range(5)]
        published = [publisher.publish(key, "10.0.0.1:1") for key in keys]
        publisher.publish(ECHO, "10.0.0.1:1")
        eventually(lambda: recorder.ids, STEP, "it is seen")
        guarded.stop()
        assert guarded.directory is not None
        (guarded.directory / "conf" / "secrets.json").unlink()
        guarded.start()
        ready = time.monotonic()
        eventually(lambda: {one.state for one in published} == {"live"}, BACK_WITHIN + SLACK, "all are live")
        record_property("seconds after readiness", round(time.monotonic() - ready, 2))
        reader = registries.blocking()
        assert all(seen(reader, key) for key in keys)
        published[0].update(weight=7)
        publisher.publish(ECHO, "10.0.0.2:1")
        eventually(lambda: len(recorder.ids) == 2, STEP, "its watches work as well")


def test_files_outside_the_cache(registries: Registries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a service is called, nothing is written but into the folder of snapshots."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    folder = tmp_path / "a" / "snapshots"
    with registries.blocking(snapshot=str(folder)) as registry:
        for name in ("a/../../../../evil", "../evil", "..", "x" * 255):
            registry.publish(name, "10.0.0.1:1")
            registry.subscribe(name, print)
        eventually(lambda: sum(path.is_file() for path in folder.rglob("*")) >= 4, STEP, "snapshots are there")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(path.is_relative_to(folder) for path in files), files
    assert not list(tmp_path.parent.glob("*evil*"))


def test_credentials_in_logs(
    guarded: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither the password nor a token is in any log, error or repr, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with made(guarded.url, call_timeout=1.0) as registries:
        registry = registries.blocking()
        registry.subscribe(ECHO, print)
        registry.publish(ECHO, "10.0.0.1:1")
        token = registry._opened().engine.backend._transport._access._token  # type: ignore[attr-defined]
        assert token
        said += [repr(registry), repr(registry.target), repr(registry._opened().engine.backend)]
        guarded.pause()
        try:
            with pytest.raises(RegistryError) as caught:
                registry.lookup("other", timeout=0.3)
            said.append(repr(caught.getrepr(style="long", showlocals=False)))
        finally:
            guarded.resume()
        wrong = guarded.url.replace("canary", "canary2")
        with Registry(wrong, options=registries.options) as other, pytest.raises(Denied) as denied:
            other.lookup(ECHO)
        said.append(str(denied.value))
    said += [caplog.text, *capfd.readouterr()]
    assert "sofa_registry_adapters" in caplog.text, "something was logged"
    assert not any(word in text for text in said for word in ("canary", token, token[:40]))


def test_a_slow_close(registries: Registries, record_property: Note) -> None:
    """A Registry with a hundred watches and a hundred services is closed in no time."""
    registry = registries.fresh(leaving=0.0)
    for number in range(100):
        registry.publish(f"service {number}", "10.0.0.1:1")
        registry.subscribe(f"service {number}", lambda _: None)
    began = time.monotonic()
    registry.close()
    taken = time.monotonic() - began
    record_property("seconds", round(taken, 3))
    assert taken < 0.5 + SLACK


def test_metadata_that_nacos_does_not_take(registries: Registries) -> None:
    """It is refused before it is sent; what stands, stands."""
    publisher, reader = registries.blocking(), registries.blocking()
    standing = publisher.publish(ECHO, "10.0.0.1:1")
    with takes(0.5, "the refusal"), pytest.raises(ValueTooLarge, match="1024"):
        publisher.publish("large", "10.0.0.1:1", metadata={"k": "x" * 1024})
    with pytest.raises(ValueTooLarge):
        standing.update(metadata={"k": "x" * 1024})
    assert set(seen(reader)) == {"10.0.0.1:1"}
    assert not seen(reader, ServiceKey("large"))
    publisher.publish("fits", "10.0.0.1:1", metadata={"k": "x" * 900})


def test_a_namespace_that_nobody_made(server: Service) -> None:
    """Nacos takes any, so it works like one that exists; what cannot be one is refused with a sentence."""
    with made(server.url) as registries:
        publisher, reader = registries.blocking(), registries.blocking()
        publisher.publish(ECHO, "10.0.0.1:1")
        assert seen(reader)
        with Registry(server.url, options={"snapshot": "off"}) as public:
            settled(public)
            assert not public.lookup(ECHO), "and it is not the public one"


def test_one_of_three_hosts_is_wrong(server: Service) -> None:
    """Whichever it is, the others are used, also when the network tells nobody."""
    right = f"{server.host}:{server.port}"
    places: Sequence[str] = (f"127.0.0.1:{free_port()}", "192.0.2.1:8848", "no-such-host.invalid:8848")
    for wrong in places:
        for hosts in (f"{wrong},{right}", f"{right},{wrong}", f"{wrong},{right},{wrong}"):
            with made(f"nacos://{hosts}") as registries:
                publisher = registries.blocking()
                publisher.publish(ECHO, "10.0.0.1:1", timeout=10.0)
                assert seen(publisher)


def test_it_moves_to_another_server(server: Service, proxy: NetProxy) -> None:
    """With two servers in the URL the second one is used when the first one ends."""
    url = f"nacos://{proxy.address},{server.host}:{server.port}"
    with made(url, call_timeout=2.0) as registries:
        publisher, (_, recorder) = registries.blocking(), registries.recorder()
        one = publisher.publish(ECHO, "10.0.0.1:1")
        again = _times_published(publisher)
        eventually(lambda: recorder.ids, STEP, "it is seen")
        proxy.close()
        eventually(lambda: again, STEP, "it is published again")
        one.update(weight=7)
        eventually(lambda: recorder.replica["10.0.0.1:1"].weight == 7, STEP, "changes flow")


def test_tls_against_a_plain_port(server: Service) -> None:
    """It is Unavailable within the time-out, and the reverse as well: see the test of TLS."""
    with (
        Registry(f"nacoss://{server.host}:{server.port}", options={"snapshot": "off"}) as registry,
        takes(2.0, "the verb"),
        pytest.raises(Unavailable),
    ):
        registry.lookup(ECHO, timeout=2.0)


def test_a_server_that_speaks_something_else(server: Service) -> None:
    """The HTTP port taken for that of gRPC is an error with a sentence, within the time-out."""
    with (
        Registry(f"nacos://{server.host}:{server.port}?grpc_offset=0", options={"snapshot": "off"}) as registry,
        takes(2.0, "the verb"),
        pytest.raises(RegistryError),
    ):
        registry.lookup(ECHO, timeout=2.0)


def test_two_clients_in_one_process(registries: Registries) -> None:
    """They are two owners: what one withdraws the other keeps, also with the same address."""
    one, two, reader = (registries.blocking() for _ in range(3))
    first = one.publish(ECHO, "10.0.0.1:1", instance_id="one", metadata={"who": "one"})
    two.publish(ECHO, "10.0.0.1:1", instance_id="two", metadata={"who": "two"})
    assert seen(reader) == {"one": "one", "two": "two"}
    first.unpublish()
    assert seen(reader) == {"two": "two"}


def test_an_operator_changes_a_weight(server: Service, line: str, registries: Registries) -> None:
    """What the console changes is seen, and is not undone by a heartbeat."""
    if line == "nacos2":
        pytest.skip("the jars of Nacos 2.2 on Maven Central have no Raft group for what an operator changes")
    publisher, (_, recorder) = registries.blocking(), registries.recorder()
    published = publisher.publish(ECHO, "10.0.0.1:1")
    eventually(lambda: recorder.ids, STEP, "it is seen")
    form = {
        "namespaceId": registries.options["namespace"],
        "groupName": "DEFAULT_GROUP",
        "serviceName": "com.acme.Echo:1.0",
        "ip": "10.0.0.1",
        "port": "1",
        "clusterName": "DEFAULT",
        "weight": "0.5",
        "ephemeral": "true",
        "enabled": "true",
        "metadata": json.dumps(dict(_metadata(published.instances[0]))),
    }
    _put(server, "/nacos/v3/admin/ns/instance" if line == "nacos" else "/nacos/v2/ns/instance", form)
    eventually(lambda: recorder.replica["10.0.0.1:1"].weight == 50, STEP, "the change is seen")
    stays(lambda: recorder.replica["10.0.0.1:1"].weight == 50, 2.5, "two heartbeats")


def _times_published(registry: Registry) -> list[float]:
    """When something is published from now on."""
    time.sleep(0.2)  # what was published before has been told by then
    times: list[float] = []
    registry.events.on(Published, lambda _: times.append(time.monotonic()))
    return times


def _metadata(instance: Instance) -> dict[str, str]:
    return {"sofa.started": str(instance.started), "sofa.owner": instance.owner}


def _put(server: Service, path: str, form: dict[str, Any]) -> None:
    from urllib.parse import urlencode

    connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
    connection.request("PUT", f"{path}?{urlencode(form)}")
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()


def _quietly(registry: Registry, key: ServiceKey) -> int:
    try:
        return len(registry.lookup(key, timeout=1.0))
    except RegistryError:
        return 0
