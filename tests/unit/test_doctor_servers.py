"""What doctor says of a server's version, configuration and clock."""

from __future__ import annotations

import asyncio
import uuid

import pytest
import redis
from doctor_reports import TIMEOUT, QuickClock, codes, fresh, home, report_on

from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.backends.zookeeper.diagnosing import server_version
from sofa_registry_adapters.cli.doctor import command
from sofa_registry_adapters.cli.doctor.examination import Wish, examine
from sofa_registry_adapters.cli.doctor.findings import Report
from sofa_registry_adapters.errors import Unsupported
from sofa_registry_adapters.spi.diagnosis import Diagnosis, is_older
from sofa_registry_adapters.spi.options import Address
from sofa_registry_adapters.spi.store import RecordKey
from sofa_registry_adapters.testing.plugin import OwnService
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["home"]


class OtherStore(MemoryStore):
    """A store whose product says what a test wants."""

    said = Diagnosis()

    async def diagnose(self, probe: RecordKey) -> Diagnosis:
        return self.said


def report_of_product(said: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr(OtherStore, "said", said)
    monkeypatch.setattr("sofa_registry_adapters.backends.memory.store.MemoryStore", OtherStore)
    return report_on(f"memory://{uuid.uuid4().hex}")


def test_an_old_server(monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of_product(Diagnosis(server="Redis 4.0.14", needs="Redis 5"), monkeypatch)
    (finding,) = report.findings
    assert finding.sentence == "the server is Redis 4.0.14, and Redis 5 is needed. Upgrade the server."


def test_a_server_that_is_too_old_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise Unsupported("the server does not know the request")

    monkeypatch.setattr(OtherStore, "read", refuse)
    report = report_of_product(Diagnosis(server="ZooKeeper 3.4.14", needs="ZooKeeper 3.6"), monkeypatch)
    (finding,) = report.findings
    assert (finding.step, finding.code, report.steps[-1].step) == ("version", "old-server", "version")
    assert "the server is ZooKeeper 3.4.14, and ZooKeeper 3.6 is needed" in finding.sentence


@pytest.mark.parametrize(
    ("version", "older"),
    (("3.4.14", True), ("3.5", True), ("3.6.0", False), ("3.10.1", False), ("4", False), ("", False), ("x", False)),
)
def test_versions_are_compared_as_numbers(version: str, older: bool) -> None:
    assert is_older(version, (3, 6)) is older


def test_the_servers_tell_their_versions(
    redis_service: Service, zookeeper_service: Service, etcd_service: Service
) -> None:
    servers = ((redis_service, "Redis "), (zookeeper_service, "ZooKeeper 3."), (etcd_service, "etcd 3."))
    for service, begin in servers:
        report = report_on(fresh(service))
        assert next(one.seen for one in report.steps if one.step == "version").startswith(begin)


def test_an_old_zookeeper_is_known_by_its_greeting() -> None:
    async def old(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Zookeeper version: 3.4.14-4c25d48, built on 03/06/2019 16:18 GMT\nLatency min/avg/max: 0/0/0\n")
        writer.close()

    async def check() -> str:
        server = await asyncio.start_server(old, "127.0.0.1", 0)
        async with server:
            return await server_version(Address("127.0.0.1", server.sockets[0].getsockname()[1]))

    assert asyncio.run(check()) == "3.4.14"


def test_a_configuration_that_endangers_registrations(own_redis: OwnService) -> None:
    service = own_redis()
    client = redis.Redis(host=service.host, port=service.port)
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        (finding,) = report_on(fresh(service)).findings
    finally:
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
    assert "its maxmemory-policy is allkeys-lru, which may evict registrations" in finding.sentence


@pytest.mark.parametrize("product", ("redis", "zookeeper"))
@pytest.mark.parametrize(("off", "said"), ((-3600_000, "3600 s ahead of"), (60_000, "60 s behind")))
def test_a_clock_that_is_off(product: str, off: int, said: str, request: pytest.FixtureRequest) -> None:
    url = fresh(request.getfixturevalue(f"{product}_service"))
    report = command.run(examine(Wish(url, timeout=TIMEOUT), QuickClock(off)))
    (finding,) = report.findings
    assert (finding.severity, finding.step, finding.code) == ("warning", "clock", "clock-skew")
    assert f"the server's clock is {said} this machine's. Set both by NTP" in finding.sentence


@pytest.mark.parametrize("off", (-4_000, 4_000))
def test_clocks_that_differ_by_little_are_fine(off: int, redis_service: Service) -> None:
    report = command.run(examine(Wish(fresh(redis_service), timeout=TIMEOUT), QuickClock(off)))
    assert codes(report) == []
