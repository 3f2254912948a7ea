"""The etcd store on three servers: one dies, hangs, loses the others, or is the wrong one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from echo_records import following, key, opened, record, values
from etcd_stores import ask, bounded, namespace, own, raised, store_at, version, works

from sofa_registry_adapters.backends.etcd.store import EtcdStore
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.testing.faults import ChildProcess, eventually_async, free_port
from sofa_registry_adapters.testing.plugin import OwnEtcd
from sofa_registry_adapters.testing.services import PRODUCTS

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["namespace", "own", "version"]


class Cluster:
    """Three servers on loopback."""

    def __init__(self, version: str, folder: Path) -> None:
        prepare = PRODUCTS[version].local()
        if isinstance(prepare, str):
            pytest.skip(prepare)
        self.ports = [free_port("127.0.0.1") for _ in range(3)]
        peers = [free_port("127.0.0.1") for _ in range(3)]
        everybody = ",".join(f"m{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))
        self.commands: list[list[str]] = []
        for number, port in enumerate(self.ports):
            data = folder / f"m{number}"
            data.mkdir()
            command = [word for word in prepare(data, port, False) if "peer" not in word and "cluster" not in word]
            place = f"http://127.0.0.1:{peers[number]}"
            self.commands.append(
                [
                    *command,
                    f"--name=m{number}",
                    f"--listen-peer-urls={place}",
                    f"--initial-advertise-peer-urls={place}",
                    f"--initial-cluster={everybody}",
                ]
            )
        self.members = [ChildProcess(command, cwd=folder) for command in self.commands]
        self.folder = folder
        self.hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def leader(self) -> int:
        """Which of them leads, as one that runs says."""
        for number, port in enumerate(self.ports):
            if self.members[number].alive:
                status = ask(("127.0.0.1", port), "maintenance/status")
                if status["leader"] == status["header"]["member_id"]:
                    return number
        raise AssertionError("nobody leads")

    def restart(self, number: int) -> None:
        self.members[number] = ChildProcess(self.commands[number], cwd=self.folder)

    def close(self) -> None:
        for member in self.members:
            member.kill()


@pytest.fixture
def cluster(version: str, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(version, tmp_path)
    yield made
    made.close()


def used(store: EtcdStore, cluster: Cluster) -> int:
    """The member that a store is connected to."""
    session = store._session
    assert session is not None
    assert session.link.current is not None
    return cluster.ports.index(int(session.link.current.where.rpartition(":")[2]))


async def ready(store: EtcdStore) -> None:
    await eventually_async(lambda: works(store.open), 20.0, "a cluster")


@bounded
async def test_the_member_in_use_dies_or_hangs(cluster: Cluster, namespace: str) -> None:
    store, writer = (store_at(cluster.hosts, namespace=namespace, lease=6, call_timeout=2.0) for _ in range(2))
    await ready(store)
    async with opened(writer), following(store) as follower:
        await writer.put([record()])
        await follower.shows({key(): b"1"})
        for number, hurt in enumerate(("kill", "stop")):
            victim = used(writer, cluster)
            getattr(cluster.members[victim], hurt)()
            value = b"after %d" % number

            async def beats() -> bool:
                return await works(store.renew) & await works(writer.renew)

            # A new leader may have to be elected first.
            await eventually_async(beats, 8.0, "another member is used", interval=0.1)
            assert used(writer, cluster) != victim

            async def written() -> bool:
                return await works(lambda: writer.put([record(value=value)]))  # noqa: B023

            await eventually_async(written, 5.0)
            await follower.shows({key(): value}, 5.0)
            assert set(await values(writer)) == {key()}
            if hurt == "kill":
                cluster.restart(victim)
            else:
                cluster.members[victim].cont()
            await asyncio.sleep(0.5)
        assert not await writer.renew(), "the lease is the cluster's, not a member's"
    await store.close()


@bounded
async def test_a_member_that_lost_the_others_is_left(cluster: Cluster, namespace: str) -> None:
    store = store_at(cluster.hosts, namespace=namespace, lease=6, call_timeout=2.0)
    await ready(store)
    async with following(store) as follower:
        kept = used(store, cluster)
        others = [number for number in range(3) if number != kept]
        for number in others:
            cluster.members[number].stop()

        async def refuses() -> bool:
            return not await works(store.renew)

        await eventually_async(refuses, 10.0, "who has no leader is no registry", interval=0.2)
        await eventually_async(lambda: follower.cuts, 5.0, "its watch is cut")
        for number in others:
            cluster.members[number].cont()
        await eventually_async(lambda: works(store.renew), 10.0, interval=0.1)
        await eventually_async(lambda: works(lambda: store.put([record()])), 5.0)
        await follower.shows({key(): b"1"})
    await store.close()


@bounded
async def test_one_of_three_hosts_is_wrong(own: OwnEtcd, namespace: str) -> None:
    server = own()
    good = f"{server.host}:{server.port}"
    nobody = f"127.0.0.1:{free_port('127.0.0.1')}"
    loop = asyncio.get_running_loop()
    with server.proxy() as hole:
        hole.black_hole()
        wrong = (nobody, "no-such-host.invalid:2379", f"{hole.host}:{hole.port}")
        for bad in wrong:
            for hosts in (f"{bad},{good},{good}", f"{good},{bad},{good}"):
                store = store_at(hosts, namespace=namespace)
                began = loop.time()
                async with opened(store):
                    assert loop.time() - began < 2.5
                    await store.put([record()])
        store = store_at(",".join(wrong), namespace=namespace, call_timeout=3.0)
        began = loop.time()
        assert isinstance(await raised(store.open()), Unavailable)
        assert loop.time() - began < 3.0
