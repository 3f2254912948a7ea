"""What doctor says of records, and of the instances that they name."""

from __future__ import annotations

import asyncio
import socket
import uuid
from typing import Any

import pytest
from doctor_reports import HELLO, QuickClock, codes, finding_of, fresh_like, home, put, report_on, room, value_of

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.memory.spaces import Space
from sofa_registry_adapters.cli.doctor import command, reaching
from sofa_registry_adapters.cli.doctor.access import PROBE
from sofa_registry_adapters.cli.doctor.examination import Wish, examine
from sofa_registry_adapters.cli.doctor.findings import exit_code
from sofa_registry_adapters.cli.doctor.reaching import is_forbidden, reach
from sofa_registry_adapters.layouts.native import NativeLayout
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.spi.store import Record
from sofa_registry_adapters.testing.faults import NetProxy, free_port
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["home", "room"]


def test_a_record_that_cannot_be_decoded(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", b"{not json", owned=False)
    report = report_on(url)
    assert finding_of(report, "no-owner").advice == "Nobody but you can remove it."
    finding = finding_of(report, "undecodable")
    assert (finding.severity, finding.where) == ("error", "com.acme.Hello:1.0/10.0.0.7:80")
    assert "the record cannot be decoded" in finding.sentence
    assert "Consumers leave it out" in finding.sentence


def test_a_record_whose_id_is_another_and_one_id_twice(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", value_of())
    put(place, "10.0.0.8:80", value_of())
    report = report_on(url)
    assert "the record '10.0.0.8:80' says that its id is '10.0.0.7:80'" in finding_of(report, "misnamed").sentence
    said = finding_of(report, "same-id").sentence
    assert "2 records have the same id '10.0.0.7:80': '10.0.0.7:80', '10.0.0.8:80'" in said


def test_a_record_without_an_owner(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", value_of(), owned=False)
    finding = finding_of(report_on(url), "no-owner")
    assert finding.severity == "warning"
    assert "the record '10.0.0.7:80' has no owner: it stays when its instance ends" in finding.sentence
    assert "--fix --record 'com.acme.Hello:1.0/10.0.0.7:80'" in finding.sentence


@pytest.mark.parametrize("off", ({"enabled": False}, {"weight": 0}))
def test_all_instances_disabled(room: tuple[str, Space], off: dict[str, Any]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", value_of(**off))
    put(place, "10.0.0.8:80", value_of("10.0.0.8:80", **off))
    assert "all its 2 instances are disabled or of weight 0" in finding_of(report_on(url), "all-disabled").sentence
    put(place, "10.0.0.9:80", value_of("10.0.0.9:80"))
    assert "all-disabled" not in codes(report_on(url))


def leaving_value() -> bytes:
    return value_of().replace(b'"port":80', b'"port":80,"state":"leaving"')


def test_a_record_that_has_been_leaving_for_a_minute(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", leaving_value())
    clock = QuickClock()
    told: list[str] = []
    report = command.run(examine(Wish(url, tell=told.append), clock))
    assert clock.slept == [60.0]
    assert told == ["1 record leaving, to be looked at again in 60 s"]
    assert "has been leaving for longer than a minute" in finding_of(report, "leaving").sentence


def test_a_record_that_leaves_in_good_order_is_fine(room: tuple[str, Space]) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", leaving_value())

    class Leaving(QuickClock):
        async def sleep(self, seconds: float) -> None:
            place.delete_behind(key)

    assert "leaving" not in codes(command.run(examine(Wish(url), Leaving())))


def outside_address() -> str:
    """An address of this machine that is no loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        host = str(probe.getsockname()[0])
    if host.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return host


def test_loopback_addresses_on_a_registry_elsewhere(redis_service: Service) -> None:
    namespace = uuid.uuid4().hex
    with NetProxy(redis_service.address, host=outside_address()) as proxy:
        url = f"redis://{proxy.address}?namespace={namespace}"
        with Registry(url, options={"allow_loopback": True}) as registry:
            registry.publish(str(HELLO), ["127.0.0.1:80", "10.0.0.7:80", "0.0.0.0:80"])
            report = report_on(url)
            assert codes(report) == ["loopback", "loopback"]
            said = {one.record: one.sentence for one in report.findings}
            assert codes(report_on(f"{url}&allow_loopback=yes")) == []
            assert codes(report_on(fresh_like(redis_service, namespace))) == []
    assert (
        "127.0.0.1:80 is another machine for everybody who reads it, and the registry is elsewhere"
        in said["127.0.0.1:80"]
    )


def test_only_the_services_that_are_named(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "10.0.0.7:80", b"{", owned=False)
    other = ServiceKey("other")
    report = report_on(url, services=[other])
    assert [(one.severity, one.service) for one in report.findings] == [("note", "other")]
    assert exit_code(report.findings) == 0


def test_a_bucket_that_is_no_service_is_a_note(room: tuple[str, Space]) -> None:
    url, place = room
    place.write_behind(Record(("services", "a:b:c:d"), "x", b"1"), "foreign")
    report = report_on(url)
    assert codes(report) == ["foreign-bucket"]
    assert exit_code(report.findings) == 0
    assert NativeLayout().service_of(PROBE) is None


def test_addresses_that_refuse_a_connection(room: tuple[str, Space]) -> None:
    url, place = room
    closed = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        live = listener.getsockname()[1]
        put(place, f"127.0.0.1:{live}", value_of(f"127.0.0.1:{live}"), owned=False)
        put(place, f"127.0.0.1:{closed}", value_of(f"127.0.0.1:{closed}"), owned=False)
        assert "refused" not in codes(report_on(url))
        finding = finding_of(report_on(url, probe=True), "refused")
    assert finding.record == f"127.0.0.1:{closed}"
    assert f"127.0.0.1:{closed} refuses connections: nothing listens there" in finding.sentence


@pytest.mark.parametrize(
    ("ip", "forbidden"),
    (
        ("169.254.169.254", True),
        ("169.254.0.1", True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("2002:a9fe:a9fe::1", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("10.0.0.7", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
    ),
)
def test_metadata_addresses_are_never_connected_to(ip: str, forbidden: bool) -> None:
    assert is_forbidden(ip) is forbidden


def test_a_name_that_stands_for_a_metadata_address_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[str] = []

    async def resolve(host: str, _: float) -> list[str]:
        return ["169.254.169.254"] if host == "evil" else [host]

    async def connect(ip: str, _: int) -> reaching.Outcome:
        connected.append(ip)
        return "refused"

    monkeypatch.setattr(reaching, "resolve", resolve)
    monkeypatch.setattr(reaching, "_connect", connect)
    places = [("evil", 80), ("169.254.169.254", 80), ("10.0.0.7", 80), ("127.0.0.1", 80)]
    outcomes = command.run(reach(places, here=False))
    assert connected == ["10.0.0.7"]
    assert [outcomes[place] for place in places] == ["not tried", "not tried", "refused", "not tried"]


def test_no_more_than_64_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = most = 0

    async def connect(_: str, __: int) -> reaching.Outcome:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return "open"

    monkeypatch.setattr(reaching, "_connect", connect)
    outcomes = command.run(reach([("10.0.0.1", port) for port in range(1, 300)], here=True))
    assert len(outcomes) == 299
    assert 1 < most <= 64
