"""Redis with Sentinels, and Redis Cluster: what is theirs alone. The contracts on them are wide."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Connection, SSLConnection

from sofa_registry_adapters import Registry
from sofa_registry_adapters.backends.redis import BACKEND as REDIS
from sofa_registry_adapters.backends.redis.asking import ask_most, gravest
from sofa_registry_adapters.backends.redis.cluster import prefix
from sofa_registry_adapters.backends.redis.connecting import Wiring, part
from sofa_registry_adapters.backends.redis.keys import Keyspace
from sofa_registry_adapters.backends.redis.masters import MasterConnector, home_of_master
from sofa_registry_adapters.backends.redis.sentinel import database, master_name
from sofa_registry_adapters.backends.redis.sharding import Plan, key_of
from sofa_registry_adapters.backends.redis.wire import Position
from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import Denied, InvalidURL, Refused, RegistryError, Unavailable
from sofa_registry_adapters.handles import Registration
from sofa_registry_adapters.model.views import InstancesChange
from sofa_registry_adapters.settings import parse_target, scheme_of
from sofa_registry_adapters.spi.options import Address, Target
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.redis_sets import ClusterSet, SentinelSet
from sofa_registry_adapters.testing.services.redis_sets.members import ask

MANY = [f"10.0.0.{number}:1" for number in range(10)]
SERVICES = [f"service {number}" for number in range(6)]
LEAVING, *STAYING = SERVICES
OPTIONS = {"lease": 2.0, "call_timeout": 1.0, "snapshot": "off"}
FAILOVER = 20.0
SECRET = "s3cret"


def target_of(url: str) -> Target:
    return parse_target(url, Plugins().backend(scheme_of(url)))


@pytest.mark.parametrize(
    ("url", "part"),
    (
        ("redis+sentinel://h", "what the Sentinels call the master"),
        ("redis+sentinel://h/", "what the Sentinels call the master"),
        ("redis+sentinel://h/main/x", "database number"),
        ("redis+sentinel://h/main/0/1", "database number"),
        ("redis+sentinel://u:p@h/main?password_file=x", "keep one"),
        ("redis+sentinel://h/main?sentinel_username=x", "sentinel_password_file"),
        ("redis+sentinel://h/main?ca=x", r"rediss\+sentinel"),
        ("redis+cluster://h?cert=x", r"rediss\+cluster"),
        ("redis+cluster://h/a%7Bb", "prefix"),
        ("redis+cluster://h/a?prefix=b", "keep one"),
        ("redis+cluster://h/a/b c", "prefix"),
        ("redis://h,i", r"redis\+sentinel"),
    ),
)
def test_a_url_that_cannot_be_used_is_refused_at_once(url: str, part: str) -> None:
    with pytest.raises(InvalidURL, match=part) as caught:
        target_of(url)
    assert ":p@" not in str(caught.value)


def test_what_a_url_says() -> None:
    target = target_of("redis+sentinel://user:p%40ss@h1,h2:1,[::1]:2/main/3")
    assert (master_name(target), database(target)) == ("main", 3)
    assert [(one.host, one.port) for one in target.addresses] == [("h1", 26379), ("h2", 1), ("::1", 2)]
    assert "p@ss" not in repr(target)
    assert database(target_of("redis+sentinel://h/main")) == 0
    for url, expected in {
        "redis+cluster://h/shop": "shop",
        "redis+cluster://h": "sofa",
        "redis+cluster://h?prefix=b": "b",
    }.items():
        assert prefix(target_of(url)) == expected


@pytest.mark.parametrize("scheme", ("rediss+sentinel", "rediss+cluster"))
def test_tls_always_looks_at_the_name(scheme: str) -> None:
    wiring = Wiring(target_of(f"{scheme}://h/main?ca=x"))
    assert wiring._kind is SSLConnection
    asked = {name: wiring._settings[name] for name in ("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs")}
    assert asked == {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": "x"}


def test_the_slot_of_a_command_is_that_of_its_bucket() -> None:
    records, *others = Keyspace("sofa", "space").keys(("services", "echo"))
    assert key_of(("HGETALL", records)) == key_of(("EVALSHA", b"digest", 6, records, *others)) == records
    assert key_of(("PING",)) is None


def test_a_plan_tells_who_has_a_slot() -> None:
    one, two = Address("a", 1), Address("b", 2)
    plan = Plan(1, (0, 100), (50, 200), (one, two))
    assert [plan.master(slot) for slot in (0, 50, 100, 200)] == [one, one, two, two]
    for slot in (51, 99, 201):
        with pytest.raises(Unavailable):
            plan.master(slot)


def test_an_epoch_is_another_one_in_another_history() -> None:
    at = Position("epoch", 5, "nonce", home="one")
    assert at.revision.epoch != Position("epoch", 5, "nonce", home="two").revision.epoch
    assert Position("epoch", 5, "nonce").revision.epoch == "epoch"
    assert Position("", 0, "", home="one").revision.epoch == ""


@pytest.mark.parametrize(
    ("silent", "answering", "expected"), ((1, 2, 2), (2, 1, 1), (3, 0, 0)), ids=("one hangs", "two hang", "all hang")
)
def test_most_of_them_are_asked(silent: int, answering: int, expected: int) -> None:
    async def say(number: int) -> int:
        return number

    async def hang() -> int:
        await asyncio.sleep(60)
        return 0

    async def main() -> Sequence[int]:
        questions: list[Any] = [*(hang() for _ in range(silent)), *(say(number) for number in range(answering))]
        found, troubles = await ask_most(questions, 0.2)
        assert not troubles
        assert len(asyncio.all_tasks()) == 1
        return found

    began = time.monotonic()
    assert len(asyncio.run(main())) == expected
    assert (time.monotonic() - began < 0.15) == (answering > silent)


def test_the_gravest_trouble_is_told() -> None:
    away, denied = Unavailable("away"), Denied("who are you")
    assert gravest([denied, denied], "them") is denied
    assert isinstance(gravest([away, denied], "them"), Unavailable)
    assert isinstance(gravest([], "them"), Unavailable)


class Scene:
    """A publisher of some services and a consumer of all."""

    def __init__(self, url: str, closing: contextlib.ExitStack) -> None:
        options = {**OPTIONS, "namespace": uuid.uuid4().hex}
        self.publisher = closing.enter_context(Registry(url, options=options))
        self.consumer = closing.enter_context(Registry(url, options=options))
        self.smallest = len(MANY)
        self.registrations: list[Registration] = [self.publisher.publish(one, MANY) for one in SERVICES]
        for one in STAYING:
            self.consumer.subscribe(one, self.hear)
        eventually(lambda: all(len(self.consumer.lookup(one)) == len(MANY) for one in STAYING), 5.0, "all are seen")

    def hear(self, change: InstancesChange) -> None:
        self.smallest = min(self.smallest, len(change.instances))

    def writes(self, weight: int) -> bool:
        try:
            for one in self.registrations:
                one.update(weight=weight, timeout=0.5)
        except RegistryError:
            return False
        return True

    def listed(self, name: str) -> set[int] | None:
        """The weights that the registry itself has, read from there."""
        try:
            return {one.weight for one in self.publisher.lookup(name, timeout=0.5)}
        except RegistryError:
            return None

    def lists(self, weight: int) -> bool:
        """Whether it has this weight everywhere."""
        return all(self.listed(name) == {weight} for name in STAYING)

    def flows(self, weight: int) -> None:
        eventually(lambda: self.writes(weight), FAILOVER, "everything can be written")
        eventually(
            lambda: {one.weight for name in STAYING for one in self.consumer.lookup(name)} == {weight},
            5.0,
            "it is seen",
        )
        assert {one.state for one in self.registrations} == {"live"}
        assert self.smallest == len(MANY), "no view was ever smaller"


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_a_master_nobody_knows_is_a_refusal(own_redis_sentinel: Callable[[], SentinelSet]) -> None:
    url = own_redis_sentinel().url.rpartition("/")[0]
    with Registry(f"{url}/other", options=OPTIONS) as registry, pytest.raises(Refused, match="No such master"):
        registry.lookup("echo", timeout=3.0)


async def _talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As a Sentinel that says less of its master than every Sentinel does."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while count := int((await reader.readline() or b"*0")[1:]):
            words = [await reader.readexactly(int((await reader.readline())[1:]) + 2) for _ in range(count)]
            writer.write(b"*2\r\n$5\r\nflags\r\n$6\r\nmaster\r\n" if words[0] == b"SENTINEL\r\n" else b"+OK\r\n")
    writer.close()


def test_what_is_no_sentinel_is_named() -> None:
    async def main() -> None:
        async with await asyncio.start_server(_talk_nonsense, "127.0.0.1", 0) as server:
            where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with asyncio.timeout(5):
                with pytest.raises(Unavailable, match=f"the Sentinel {where} does not answer as a Sentinel"):
                    await MasterConnector(target_of(f"redis+sentinel://{where}/main")).connect()

    asyncio.run(main())


def test_a_replica_is_not_taken_for_the_master(own_redis_sentinel: Callable[[], SentinelSet]) -> None:
    """A Sentinel's word is not enough: the server has to say itself that it is the master."""
    servers = own_redis_sentinel()

    async def home_of(server: LocalService) -> str:
        connection = Connection(host=server.host, port=server.port, protocol=2)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            return await home_of_master(connection, "there")
        finally:
            await part(connection)

    assert asyncio.run(home_of(servers.master))
    with pytest.raises(Unavailable, match="no master"):
        asyncio.run(home_of(servers.replicas[0]))


def rules_of(*more: str) -> list[str]:
    """What `redis://` documents for its users, and more."""
    text = REDIS.considerations.partition("default prefix: ")[2].partition(". A layout")[0]
    return ["reset", "on", f">{SECRET}", *text.split(), *more]


def test_users_of_servers_and_of_sentinels(
    own_redis_sentinel: Callable[[], SentinelSet], tmp_path: pathlib.Path
) -> None:
    servers, file = own_redis_sentinel(), tmp_path / "password"
    for node in servers.nodes:
        ask(node, "ACL", "SETUSER", "app", *rules_of("+info"))
    rights = ("+sentinel|master", "+sentinel|get-master-addr-by-name")
    for sentinel in servers.sentinels:
        ask(sentinel, "ACL", "SETUSER", "watcher", "reset", "on", ">other", "-@all", *rights)
    url = servers.url.replace("://", f"://app:{SECRET}@")
    options = {**OPTIONS, "sentinel_username": "watcher", "sentinel_password_file": str(file)}
    file.write_text("other\n")
    with Registry(url, options=options) as registry:
        registry.publish("users", MANY)
        assert len(registry.lookup("users")) == len(MANY)
    for content, at in (("wrong", url), ("other", url.replace(SECRET, "wrong"))):
        file.write_text(content)
        with Registry(at, options=options) as registry, pytest.raises(Denied) as caught:
            registry.lookup("users")
        assert "wrong" not in str(caught.value)


def test_a_user_of_a_cluster(own_redis_cluster: Callable[[], ClusterSet]) -> None:
    servers = own_redis_cluster()
    for node in servers.nodes:
        ask(node, "ACL", "SETUSER", "app", *rules_of("+info", "+cluster"))
    url = servers.url.replace("://", f"://app:{SECRET}@")
    with Registry(url, options=OPTIONS) as registry:
        for name in SERVICES:
            registry.publish(name, MANY)
            assert len(registry.lookup(name)) == len(MANY)
    with Registry(url.replace(SECRET, "wrong"), options=OPTIONS) as registry, pytest.raises(Denied) as caught:
        registry.lookup("echo")
    assert "wrong" not in str(caught.value)


def test_a_replica_that_takes_over_gets_everything_again(
    own_redis_sentinel: Callable[[], SentinelSet], closing: contextlib.ExitStack
) -> None:
    """The master is killed when no replica has what it confirmed last."""
    servers = own_redis_sentinel()
    scene = Scene(servers.url, closing)
    master, replicas = servers.master, servers.replicas
    for replica in replicas:
        replica.pause()
    ask(master, "CLIENT", "KILL", "TYPE", "replica")
    scene.flows(7)
    leaving = scene.registrations.pop(0)
    leaving.unpublish()
    before = scene.consumer.lookup(STAYING[0]).revision
    master.kill()
    for replica in replicas:
        replica.resume()
    eventually(lambda: servers.master is not master, FAILOVER, "a replica is promoted")
    eventually(lambda: scene.lists(7), FAILOVER, "what was changed last is there as it was")
    eventually(lambda: not scene.listed(LEAVING), FAILOVER, "what was withdrawn last is gone again")
    assert leaving.state == "withdrawn"
    scene.flows(8)
    after = scene.consumer.lookup(STAYING[0]).revision
    assert before is not None
    assert after is not None
    assert before.epoch != after.epoch


def test_one_master_of_a_cluster_fails_over(
    own_redis_cluster: Callable[[], ClusterSet], closing: contextlib.ExitStack
) -> None:
    servers = own_redis_cluster()
    scene = Scene(f"{servers.url}/shop", closing)
    scene.flows(7)
    assert set(scene.consumer.services()) == {one.service for one in scene.registrations}
    # Each write needs the index of its namespace, which one of them has: the services wait for that one's replica.
    index = [one for one in servers.writable() if ask(one, "KEYS", "shop:*:buckets")]
    master, other = [one for one in servers.writable() if one not in index][:2]
    master.kill()
    assert _one_can_be_written(scene), "the other masters go on"
    eventually(lambda: master not in servers.masters_by(other), FAILOVER, "its replica takes over")
    scene.flows(8)
    assert any(ask(one, "KEYS", "shop:*") for one in servers.writable()), "the path is the prefix"


def _one_can_be_written(scene: Scene) -> bool:
    for one in scene.registrations:
        with contextlib.suppress(RegistryError):
            one.update(weight=9, timeout=0.5)
            return True
    return False
