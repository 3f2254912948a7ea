"""etcd, a password that was changed at the server only: who published is told, though nothing is written, and does not show it again and again."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.etcd.refusals import AGAIN, MOST_AGAIN, Refusals
from sofa_registry_adapters.errors import Denied
from sofa_registry_adapters.events import BackendLost, BackendRestored
from sofa_registry_adapters.spi.options import Login
from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.services.operating import EtcdOperator

OPTIONS = {"snapshot": "off", "call_timeout": 2.0, "lease": 3.0}
STEADY = 2.5
"""Seconds in which a renewal that is answered would show: each second there is one."""


def ordeal(service: Service) -> list[str]:
    """Published, cut, refused for a while, and let in again; what is listed while it is refused."""
    operator = EtcdOperator(service)
    operator.demand_passwords("root-password")
    operator.add_user("ann", "first-password", "/shop/")
    operator.add_user("bob", "password-of-bob", "/shop/", "READ")
    name, given = f"rotated-{uuid.uuid4().hex}", ["first-password"]
    lost: list[BackendLost] = []
    restored: list[BackendRestored] = []
    reader = Registry(f"etcd://bob:password-of-bob@{service.host}:{service.port}/shop", options=OPTIONS)
    with (
        NetProxy(service.address) as proxy,
        reader,
        Registry(f"etcd://{proxy.address}/shop", options=OPTIONS, credentials=lambda: ("ann", given[0])) as registry,
    ):
        registry.events.on(BackendLost, lost.append)
        registry.events.on(BackendRestored, restored.append)
        handle = registry.publish(name, "10.0.0.1:1")
        operator.ask("auth/user/changepw", name="ann", password="second-password")
        proxy.cut()
        eventually(lambda: len(lost) == 1, 10, "it is told")
        end = time.monotonic() + STEADY
        while time.monotonic() < end:
            assert not restored, "nobody says that all is well"
            time.sleep(0.05)
        listed = [one.address for one in reader.lookup(name)]
        with pytest.raises(Denied, match="check the URL's user and password"):
            registry.publish("another", "10.0.0.1:1", timeout=2)
        given[0] = "second-password"
        eventually(lambda: len(restored) == 1, 10, "the new password is shown at once")
        eventually(lambda: len(reader.lookup(name)) == 1, 10, "it is published")
        assert handle.state == "live"
    return listed


@pytest.mark.slow
def test_a_publisher_that_was_cut(own_etcd: OwnEtcd) -> None:
    """etcd 3.4 keeps a lease for whoever asks: what was published stays."""
    assert ordeal(own_etcd("--auth-token-ttl=310", "--bcrypt-cost=4")) == ["10.0.0.1:1"]


@pytest.mark.slow
def test_a_publisher_of_a_server_that_looks_at_renewals(own_etcd36: OwnEtcd) -> None:
    ordeal(own_etcd36("--auth-token-ttl=310", "--bcrypt-cost=4"))


def test_what_was_refused_is_not_shown_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """But ever less often; and what is new is shown at once."""
    now = 100.0
    monkeypatch.setattr("sofa_registry_adapters.backends.etcd.refusals._now", lambda: now)
    refusals, wrong, shown = Refusals(), Login("ann", "wrong"), 0
    for _ in range(6000):
        now += 0.1
        try:
            refusals.check(wrong)
        except Denied:
            continue
        else:
            shown += 1
            refusals.note(wrong, Denied("no"))
    assert 600 / MOST_AGAIN <= shown <= 600 / MOST_AGAIN + 20
    refusals.check(Login("ann", "another"))
    refusals.note(Login("ann", "another"), Denied("no"))
    now += AGAIN
    refusals.check(Login("ann", "another"))
    refusals.forget()
    refusals.check(wrong)


def test_it_shows_no_password() -> None:
    async def main() -> None:
        refusals = Refusals()
        refusals.note(Login("ann", "secret"), Denied("no"))
        assert "secret" not in repr(vars(refusals))

    asyncio.run(main())
