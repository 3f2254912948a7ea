"""What ``?client=sdk`` keeps: the suite is a smaller one, since nacos-sdk-python cannot be made to keep the rest."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from sofa_registry_adapters.errors import Denied, InvalidURL, MissingDependency, Unavailable, ValueTooLarge
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.contract.kit import ECHO, STEP, Registries, seen, stays, takes
from sofa_registry_adapters.testing.contract.publishing import FULL
from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.provider import settled
from sofa_registry_adapters.testing.services import Service

pytest.importorskip("v2.nacos", reason="nacos-sdk-python is not installed: pip install '.[nacos-sdk]'")

PUSH_DELAY = 0.05
PASSWORD = "canary: 'ü/@%'"
pytestmark = [
    pytest.mark.timeout(300),
    # The SDK leaves its log file to the garbage collector when it cannot connect.
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]


@pytest.fixture(params=("nacos2", "nacos"))
def server(request: pytest.FixtureRequest) -> Service:
    return request.getfixturevalue(f"own_{request.param}")(push_delay=PUSH_DELAY)


@pytest.fixture
def proxy(server: Service) -> Iterator[NetProxy]:
    with server.proxy() as proxy:
        yield proxy


@pytest.fixture
def registries(proxy: NetProxy) -> Iterator[Registries]:
    yield from made(f"nacos://{proxy.address}")


def made(url: str) -> Iterator[Registries]:
    options = {"namespace": f"test-{uuid.uuid4().hex}", "push_delay": PUSH_DELAY, "client": "sdk"}
    registries = Registries(url, options, "", 0.0)
    yield registries
    registries.close()


def test_publish_watch_and_withdraw(registries: Registries) -> None:
    publisher, (consumer, recorder) = registries.blocking(), registries.recorder()
    one = publisher.publish(ECHO, FULL)
    eventually(lambda: recorder.ids, STEP, "it is seen")
    settled(consumer)
    assert consumer.lookup(ECHO)[0] == one.instances[0]
    assert list(consumer.services()) == [ECHO]
    two = publisher.publish(ECHO, ["10.0.0.2:1", "10.0.0.3:1"])
    eventually(lambda: len(recorder.ids) == 3, STEP, "all are seen")
    two.update(weight=7)
    eventually(lambda: recorder.replica["10.0.0.2:1"].weight == 7, STEP, "an update is seen")
    one.unpublish()
    eventually(lambda: recorder.ids == {"10.0.0.2:1", "10.0.0.3:1"}, STEP, "one left")
    two.unpublish()
    eventually(lambda: not recorder.ids, STEP, "the last ones left")
    assert not seen(registries.blocking())


def test_it_and_our_own_client_see_the_same(registries: Registries, server: Service) -> None:
    with Registry(server.url, options={**registries.options, "client": "grpc"}) as own:
        by_sdk = registries.blocking()
        own.publish("a", FULL)
        by_sdk.publish("b", Instance(host="::1", port=1, zone="hz"))
        settled(own)
        assert list(own.services()) == list(by_sdk.services())
        for name in ("a", "b"):
            assert set(own.lookup(name)) == set(by_sdk.lookup(name))


def test_a_listener_may_look_up_and_raise(registries: Registries) -> None:
    publisher, (consumer, recorder) = registries.blocking(), registries.recorder()
    found: list[int] = []

    def looking(_: object) -> None:
        found.append(len(consumer.lookup("other")))
        raise ValueError("on purpose")

    consumer.subscribe(ECHO, looking)
    publisher.publish("other", "10.0.0.1:1")
    for number in range(3):
        publisher.publish(ECHO, f"10.0.0.{number}:1")
        eventually(lambda: len(recorder.ids) == number + 1, STEP, "it is told")  # noqa: B023  called at once
    eventually(lambda: found[-1:] == [1], STEP, "so is the other one")


def test_a_connection_that_is_reset(registries: Registries, proxy: NetProxy, server: Service) -> None:
    """It is back within seconds, not at the SDK's tick of thirty."""
    publisher, (_, recorder) = registries.blocking(), registries.recorder()
    publisher.publish(ECHO, ["10.0.0.1:1", "10.0.0.2:1"])
    eventually(lambda: len(recorder.ids) == 2, STEP, "they are seen")
    recorder.mark()
    proxy.cut()
    with Registry(server.url, options={**registries.options, "client": "grpc"}) as reader:
        time.sleep(1.0)
        eventually(lambda: len(seen(reader)) == 2, 10.0, "they are back")
        stays(lambda: len(seen(reader)) == 2, 1.0, "several heartbeats")
    publisher.publish(ECHO, "10.0.0.3:1", timeout=10.0)
    eventually(lambda: len(recorder.ids) == 3, 10.0, "changes flow")
    assert recorder.smallest == 2


def test_a_frozen_client_comes_back(registries: Registries, proxy: NetProxy, server: Service) -> None:
    child = registries.child("stay", "10.0.0.1:1")
    child.expect("live", 30.0)
    with Registry(server.url, options={**registries.options, "client": "grpc"}) as reader:
        child.stop()
        proxy.cut()
        eventually(lambda: not seen(reader), STEP, "the server gave it up")
        child.cont()
        eventually(lambda: seen(reader), 10.0, "it is back")


def test_a_server_that_is_not_there(server: Service) -> None:
    with (
        Registry("nacos://127.0.0.1:1?client=sdk", options={"snapshot": "off"}) as registry,
        takes(1.0, "the verb"),
        pytest.raises(Unavailable),
    ):
        registry.lookup(ECHO, timeout=1.0)


def test_metadata_that_nacos_does_not_take(registries: Registries) -> None:
    with pytest.raises(ValueTooLarge):
        registries.blocking().publish(ECHO, "10.0.0.1:1", metadata={"k": "x" * 1024})


def test_passwords(own_nacos: Callable[..., Service], caplog: pytest.LogCaptureFixture) -> None:
    """A right one works and is in no log; a wrong one is Denied."""
    caplog.set_level(logging.DEBUG)
    server = own_nacos(push_delay=PUSH_DELAY, password=PASSWORD)
    for registries in made(server.url):
        publisher = registries.blocking()
        publisher.publish(ECHO, "10.0.0.1:1")
        assert seen(publisher)
        wrong = server.url.replace("canary", "other")
        with Registry(wrong, options=registries.options) as denied, pytest.raises(Denied):
            denied.lookup(ECHO)
    assert "canary" not in caplog.text


def test_what_is_declared(registries: Registries) -> None:
    assert not registries.blocking().capabilities.compare_and_set
    with pytest.raises(InvalidURL):
        Registry("nacos://127.0.0.1?client=java")


def test_the_sdk_is_imported_for_its_users_only() -> None:
    program = (
        "import sys; from sofa_registry_adapters import Registry\n"
        "r = Registry('nacos://127.0.0.1:1', options={'snapshot': 'off'}); r.open(); r.close(); assert 'v2' not in sys.modules\n"
        "sys.modules['v2'] = None\n"
        "r = Registry('nacos://127.0.0.1:1?client=sdk')\n"
        "try: r.open()\n"
        f"except {MissingDependency.__name__} as error: print(error)\n"
    )
    program = program.replace(
        "import Registry\n",
        f"import Registry; from sofa_registry_adapters.errors import {MissingDependency.__name__}\n",
        1,
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env={**os.environ}
    )
    assert "sofa-registry-adapters[nacos-sdk]" in found.stdout
