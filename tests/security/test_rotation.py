"""Passwords that change under a running process: from a callable, a file, the environment; nothing is restarted."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from sofa_registry_adapters import Registry
from sofa_registry_adapters.errors import Denied, InvalidURL, RegistryError, Unavailable
from sofa_registry_adapters.named import find_settings
from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.services.operating import EtcdOperator

OFF = {"snapshot": "off", "call_timeout": 2.0}


class Keeper:
    """Where a password is kept; it can be given in every way there is."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = folder / "password"
        self._set = monkeypatch.setenv
        self.password = ""
        self.asked = 0

    def change(self, password: str) -> None:
        self.password = password
        self._file.write_text(f"{password}\n")
        self._set("CANARY_PASSWORD", password)

    def __call__(self) -> tuple[str, str]:
        self.asked += 1
        return "ann", self.password

    def registry(self, way: str, scheme: str, place: str) -> Registry:
        if way == "callable":
            return Registry(f"{scheme}://{place}", options=OFF, credentials=self)
        if way == "option":
            return Registry(f"{scheme}://ann@{place}", options={**OFF, "password_file": str(self._file)})
        reference = f"${{file:{self._file}}}" if way == "file" else "${CANARY_PASSWORD}"
        self._set("SOFA_REGISTRY_ROTATED_URL", f"{scheme}://ann:{reference}@{place}")
        return Registry("rotated", options=OFF)


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    return Keeper(tmp_path, monkeypatch)


WAYS = pytest.mark.parametrize("way", ("callable", "option", "file", "environment"))


def rotate(registry: Registry, proxy: NetProxy, change: Callable[[], None]) -> None:
    """A registration outlives the change, and new ones are made, after the connections were cut."""
    with registry:
        handle = registry.publish("before", "10.0.0.1:1")
        change()
        proxy.cut()

        def works() -> bool:
            try:
                registry.publish(f"after-{uuid.uuid4().hex}", "10.0.0.1:1", timeout=2)
            except RegistryError:
                return False
            return handle.state == "live" and len(registry.lookup("before", timeout=2)) == 1

        eventually(works, 20.0, "it works with the new password")


@WAYS
def test_redis(way: str, keeper: Keeper, redis_service: Service) -> None:
    with redis.Redis(redis_service.host, redis_service.port) as operator, NetProxy(redis_service.address) as proxy:
        name = uuid.uuid4().hex

        def change() -> None:
            keeper.change(f"pass%word/{uuid.uuid4().hex}")
            operator.execute_command(
                "ACL", "SETUSER", "ann", "on", "resetpass", f">{keeper.password}", "~*", "&*", "+@all"
            )

        change()
        try:
            rotate(keeper.registry(way, "redis", f"{proxy.address}?namespace={name}"), proxy, change)
        finally:
            operator.execute_command("ACL", "DELUSER", "ann")


@WAYS
def test_etcd(way: str, keeper: Keeper, own_etcd36: OwnEtcd) -> None:
    service = own_etcd36(f"--auth-token-ttl={300 + len(way)}")
    operator = EtcdOperator(service)
    operator.demand_passwords("root-password")
    keeper.change("first-password")
    operator.add_user("ann", keeper.password, "/shop/")

    def change() -> None:
        keeper.change("second-password")
        operator.ask("auth/user/changepw", name="ann", password=keeper.password)

    with NetProxy(service.address) as proxy:
        rotate(keeper.registry(way, "etcd", f"{proxy.address}/shop"), proxy, change)


@WAYS
def test_zookeeper(way: str, keeper: Keeper, zookeeper_service: Service) -> None:
    # ZooKeeper keeps no digest passwords: whoever comes with another one is somebody else, and is let in at the root.
    root = uuid.uuid4().hex
    keeper.change("first-password")
    proxy = NetProxy(zookeeper_service.address)
    with proxy, keeper.registry(way, "zookeeper", f"{proxy.address}/{root}") as registry:
        registry.publish("before", "10.0.0.1:1")
        keeper.change("second-password")
        proxy.cut()

        def somebody_else() -> bool:
            try:
                registry.publish(f"after-{uuid.uuid4().hex}", "10.0.0.1:1", timeout=2)
            except Denied:
                return True
            except Unavailable:
                return False
            return False

        eventually(somebody_else, 20.0, "the new password is used")
        keeper.change("first-password")
        proxy.cut()
        eventually(lambda: not somebody_else(), 20.0, "the old one is used again")


def test_a_callable_that_fails_or_hangs(redis_service: Service) -> None:
    told = "what-it-said-is-secret"

    def fails() -> tuple[str, str]:
        raise OSError(told)

    hanging = threading.Event()

    def hangs() -> tuple[str, str]:
        hanging.wait(20)
        return "ann", "x"

    try:
        for given in (fails, hangs, lambda: "ann", lambda: ("ann", None)):
            begin = time.monotonic()
            url = f"redis://{redis_service.host}:{redis_service.port}"
            registry = Registry(url, options={"snapshot": "off", "call_timeout": 0.5}, credentials=given)  # type: ignore[arg-type]
            with registry, pytest.raises(Unavailable, match="the credentials") as raised:
                registry.lookup("echo", timeout=1.5)
            assert told not in str(raised.value)
            assert time.monotonic() - begin < 5
    finally:
        hanging.set()


def test_what_contradicts_itself() -> None:
    def ann() -> tuple[str, str]:
        return "ann", "x"

    with pytest.raises(InvalidURL, match="keep one") as raised:
        Registry("redis://ann:other@h", credentials=ann)
    assert "other" not in str(raised.value)
    with pytest.raises(InvalidURL, match="no user"):
        Registry("local://", credentials=ann)
    assert "ann" not in repr(Registry("redis://h", credentials=ann).target)
    assert "ann" not in repr(Registry("redis://h", credentials=ann).target.login())


def test_a_reference_that_leads_nowhere_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("first")
    monkeypatch.setenv("SOFA_REGISTRY_URL", f"redis://ann:${{file:{file}}}@h")
    target = Registry(find_settings().url).target
    assert target.login().password == "first"
    file.unlink()
    with pytest.raises(Unavailable, match="which is not there"):
        target.login()
    file.write_text("se/co@nd")
    assert (target.login().username, target.login().password) == ("ann", "se/co@nd")
