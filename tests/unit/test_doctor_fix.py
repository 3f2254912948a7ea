"""What `doctor --fix` removes, and what it keeps."""

from __future__ import annotations

import asyncio
import pathlib
import socket
import textwrap
import uuid
from typing import Any

import pytest
import redis
from doctor_reports import (
    BUCKET,
    HELLO,
    TIMEOUT,
    QuickClock,
    codes,
    finding_of,
    fresh,
    fresh_like,
    home,
    put,
    report_on,
    room,
    value_of,
)

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.memory.spaces import Space
from sofa_registry_adapters.backends.memory.store import MemoryStore
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.cli.doctor import command
from sofa_registry_adapters.cli.doctor.findings import Report
from sofa_registry_adapters.cli.doctor.repair import Outcome, Repair, parse_name
from sofa_registry_adapters.cli.doctor.setting import read_setting
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.store import RecordKey
from sofa_registry_adapters.testing.faults import eventually, free_port, python_process
from sofa_registry_adapters.testing.services import Service

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["home", "room"]


def repair_of(url: str) -> Repair:
    return Repair(read_setting(url), QuickClock(), TIMEOUT, here=True)


def removed(url: str, report: Report) -> list[Outcome]:
    return command.run(repair_of(url).remove(report.removable))


def test_a_record_whose_owner_is_gone_is_removed(room: tuple[str, Space]) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)
    assert "belongs to an owner that is gone" in finding_of(report, "owner-gone").sentence
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (True, "its owner is gone")
    assert place.peek(key) is None
    assert codes(report_on(url)) == []


def test_a_record_of_a_living_owner_is_never_removed(room: tuple[str, Space]) -> None:
    url, _ = room
    with Registry(url) as registry:
        registry.publish(str(HELLO), "10.0.0.7:80")
        report = report_on(url)
        assert (report.removable, codes(report)) == ([], [])
        assert len(registry.lookup(str(HELLO))) == 1


def test_a_record_that_changed_since_it_was_shown_is_kept(room: tuple[str, Space]) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)
    put(place, "10.0.0.7:80", value_of(weight=7))
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (False, "it changed since it was shown")
    assert place.peek(key) is not None


def test_a_record_that_changes_between_the_last_look_and_the_removal_is_kept(
    room: tuple[str, Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)
    dead = MemoryStore.dead

    async def dead_then_changed(self: MemoryStore, keys: Any) -> Any:
        answer = await dead(self, keys)
        put(place, "10.0.0.7:80", value_of(weight=7))
        return answer

    monkeypatch.setattr(MemoryStore, "dead", dead_then_changed)
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (False, "it changed since it was shown")
    assert place.peek(key) is not None


def test_an_owner_that_is_back_keeps_its_record(room: tuple[str, Space], monkeypatch: pytest.MonkeyPatch) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)

    async def nobody(*_: object) -> list[RecordKey]:
        return []

    monkeypatch.setattr(MemoryStore, "dead", nobody)
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (False, "its owner is back")
    assert place.peek(key) is not None


def test_a_record_that_is_gone_already_is_no_trouble(room: tuple[str, Space]) -> None:
    url, place = room
    key = put(place, "10.0.0.7:80", value_of())
    report = report_on(url)
    place.delete_behind(key)
    (outcome,) = removed(url, report)
    assert (outcome.removed, outcome.why) == (False, "it is gone already")


def found(url: str, record: str) -> tuple[int, str]:
    removals, kept = command.run(repair_of(url).find([parse_name(f"{HELLO}/{record}")]))
    return len(removals), kept[0].why if kept else ""


def test_a_named_permanent_record_that_points_to_nothing(room: tuple[str, Space]) -> None:
    url, place = room
    port = free_port()
    name = f"127.0.0.1:{port}"
    key = put(place, name, value_of(name), owned=False)
    assert report_on(url).removable == []
    removals, kept = command.run(repair_of(url).find([parse_name(f"{HELLO}/{name}")]))
    assert kept == []
    assert removals[0].why == f"it has no owner, and {name} refuses connections"
    with socket.create_server(("127.0.0.1", port)):
        (outcome,) = command.run(repair_of(url).remove(removals))
        assert (outcome.removed, outcome.why) == (False, f"{name} accepts connections")
    (outcome,) = command.run(repair_of(url).remove(removals))
    assert outcome.removed
    assert place.peek(key) is None


def test_named_records_that_are_kept(room: tuple[str, Space]) -> None:
    url, place = room
    put(place, "169.254.1.1:80", value_of("169.254.1.1:80"), owned=False)
    put(place, "10.0.0.7:80", b"{", owned=False)
    put(place, "10.0.0.8:80", value_of("10.0.0.8:80"))
    assert found(url, "10.0.0.7:80") == (
        0,
        "it cannot be decoded, so nobody knows what it points to: delete it by hand",
    )
    assert found(url, "10.0.0.8:80") == (0, "it has an owner, which removes it")
    assert found(url, "10.0.0.9:80") == (0, "there is no such record")
    assert found(url, "169.254.1.1:80")[1].endswith("doctor never connects, so nothing is proven")


def test_redis_knows_an_owner_without_a_lease(redis_service: Service) -> None:
    namespace = uuid.uuid4().hex
    url = f"{fresh_like(redis_service, namespace)}&lease=60"
    with Registry(url) as registry:
        registry.publish(str(HELLO), "10.0.0.7:80")
        head = f"sofa:{{{namespace}/services/{HELLO.segment}}}:"
        with redis.Redis(host=redis_service.host, port=redis_service.port) as client:
            record = client.hget(head + "records", "10.0.0.7:80")
            other = record.replace(record.partition(b"\x1f")[0], b"0123456789abcdef")
            other = other.replace(b"10.0.0.7", b"10.0.0.8")
            client.hset(head + "records", "10.0.0.8:80", other)
        report = report_on(url)
        assert [one.record for one in report.removable] == ["10.0.0.8:80"]
        (outcome,) = removed(url, report)
        assert outcome.removed
        assert [one.address for one in registry.lookup(str(HELLO))] == ["10.0.0.7:80"]


def test_an_owner_on_redis_that_lives_without_its_lease_writes_again(redis_service: Service) -> None:
    namespace = uuid.uuid4().hex
    url = f"{fresh_like(redis_service, namespace)}&lease=60"
    with Registry(url) as registry, redis.Redis(host=redis_service.host, port=redis_service.port) as client:
        registry.publish(str(HELLO), "10.0.0.7:80")
        leases = f"sofa:{{{namespace}/services/{HELLO.segment}}}:leases"

        def is_taken_for_dead() -> bool:
            client.delete(leases)
            report = report_on(url)
            return any(one.removed for one in (removed(url, report) if report.removable else ()))

        eventually(is_taken_for_dead, 10.0, "doctor is faster than the owner's renewal")
        eventually(lambda: len(registry.lookup(str(HELLO))) == 1, 5.0, "it is back")
        assert client.zcard(leases) == 1


def test_zookeeper_proves_nothing_and_says_so(zookeeper_service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    url = fresh(zookeeper_service)
    with Registry(url) as registry:
        registry.publish(str(HELLO), "10.0.0.7:80")
        assert main(["doctor", "--url", url, "--fix", "--yes"]) == 0
        assert len(registry.lookup(str(HELLO))) == 1
    said = capsys.readouterr().out
    assert "nothing is proven to be dead, so nothing is removed." in said
    assert "never: the servers remove what a session owns when it ends" in said


PUBLISHER = """
    import sys, time
    from sofa_registry_adapters import Registry
    registry = Registry({url!r})
    registry.publish("com.acme.Hello:1.0", "10.0.0.7:80")
    print("live")
    time.sleep(60)
"""


def test_local_knows_a_process_that_ended(tmp_path: pathlib.Path) -> None:
    url = f"local://{tmp_path}/registry.db"

    async def dead(store: Any, child: Any) -> tuple[list[str], list[str]]:
        keys = [RecordKey(BUCKET, "10.0.0.7:80")]
        await store.open()
        try:
            before = await store.dead(keys)
            child.kill()
            return [one.name for one in before], [one.name for one in await store.dead(keys)]
        finally:
            await store.close()

    setting = read_setting(url)
    with python_process(textwrap.dedent(PUBLISHER.format(url=url))) as child:
        child.expect("live")
        store: Any = setting.make
        assert asyncio.run(dead(store(setting.target, SystemClock()), child)) == ([], ["10.0.0.7:80"])
