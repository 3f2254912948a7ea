"""One change in a service of ten thousand instances: milliseconds until a listener knows, here and with nacos-sdk-python.

::

    python tests/bench/nacos_one_change.py [--instances 10000] [--changes 7] [--rounds 3] [--line 3]

It needs the extras testing and nacos-sdk, and starts a Nacos server of its own. Rounds of three clients alternate in this process, each alone at
the server: a bare one, which only receives, ours, and the SDK. A time runs from the moment in which the server put the list together, which it says in
the list, to the listener: the server's push delay is not in it. What the bare client takes, the server and gRPC take. The instances have next to no
metadata: with more the SDK, which takes 4 MB at most, would lose its connection.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from sofa_registry_adapters.backends.nacos import BACKEND, wire
from sofa_registry_adapters.backends.nacos.connection import Connection
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.backends.nacos.watching import Told
from sofa_registry_adapters.registry import AsyncRegistry
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.testing.services import Service, find_service, nacos

NAMESPACE = "bench"
NAME = "echo"
GROUP = "DEFAULT_GROUP"
GOAL = 0.25


class Heard:
    """What a client was told last: the weight of the one instance that changes, when, and at which CPU time."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.weight = 0.0
        self.at = 0.0
        self.cpu = 0.0
        self.made_at = 0.0
        self.count = 0

    def note(self, weight: float, made_at: float, count: int) -> None:
        """The listener was called; ``made_at`` is when the server made the list, in milliseconds, ``count`` its length."""
        self.count = count
        self.at, self.cpu, self.weight, self.made_at = time.time() * 1000, time.process_time(), weight, made_at
        self.arrived.set()


def about(**more: object) -> dict[str, object]:
    return {"namespace": NAMESPACE, "groupName": GROUP, "serviceName": NAME, "module": "naming", **more}


def host(number: int, weight: float = 1.0) -> dict[str, object]:
    ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    usual = {"healthy": True, "enabled": True, "ephemeral": True, "clusterName": "DEFAULT", "metadata": {"v": "1"}}
    return {"ip": ip, "port": 1, "weight": weight, **usual}


@asynccontextmanager
async def transport(url: str, pushed: Callable[[Connection, memoryview], None]) -> AsyncIterator[Transport]:
    made = Transport(parse_target(url, BACKEND), SystemClock(), "naming", {"NotifySubscriberRequest": pushed})
    await made.open()
    try:
        yield made
    finally:
        await made.close()


class Publisher:
    """Ten thousand instances in one slot, and one in another, which changes."""

    def __init__(self, many: Transport, one: Transport, count: int) -> None:
        self._many, self._one, self.count = many, one, count
        self.weight = 1.0

    async def start(self) -> None:
        await self._put(self._many, [host(number) for number in range(1, self.count)])
        await self.change()

    async def change(self) -> None:
        self.weight = round(self.weight % 100 + 1.0, 1)
        await self._put(self._one, [host(0, self.weight)])

    async def _put(self, way: Transport, hosts: Sequence[object]) -> None:
        body = about(type="batchRegisterInstance", instances=hosts)
        await way.ask("BatchInstanceRequest", body, wire.Answer)


@asynccontextmanager
async def bare(url: str, _: Service, heard: Heard) -> AsyncIterator[None]:
    """A client that looks for one weight in the bytes, and does nothing else."""

    def pushed(_: Connection, body: memoryview) -> None:
        text = bytes(body)
        at = text.index(b'"ip":"10.0.0.0"')
        weight = text[text.index(b'"weight":', at) + 9 :].partition(b",")[0]
        made_at = text[text.rindex(b'"lastRefTime":') + 14 :].partition(b",")[0]
        heard.note(float(weight), float(made_at), text.count(b'"ip":'))

    async with transport(url, pushed) as way:
        await way.ask("SubscribeServiceRequest", about(subscribe=True, clusters=""), Told)
        yield


class Made(msgspec.Struct, rename="camel"):
    """When the server made a list."""

    last_ref_time: int = 0


class Push(msgspec.Struct, rename="camel"):
    """A list that the server pushes."""

    service_info: Made


@asynccontextmanager
async def ours(url: str, _: Service, heard: Heard) -> AsyncIterator[None]:
    """A Registry with a listener."""

    stamp = [0.0]
    registry = AsyncRegistry(url, options={"snapshot": "off"})

    def told(change: Any) -> None:
        for one in (*change.added, *change.updated):
            if one.host == "10.0.0.0":
                heard.note(one.weight / 100, stamp[0], len(change.instances))

    async with registry:
        await registry.subscribe(NAME, told)
        handlers = registry._opened().engine.backend._transport._pushed  # the time in the list is no part of the API
        really = handlers["NotifySubscriberRequest"]

        def pushed(connection: Connection, body: memoryview) -> None:
            stamp[0] = msgspec.json.decode(body, type=Push).service_info.last_ref_time
            really(connection, body)

        handlers["NotifySubscriberRequest"] = pushed
        yield


@asynccontextmanager
async def sdk(_: str, service: Service, heard: Heard) -> AsyncIterator[None]:
    """nacos-sdk-python as it is, its log at ERROR."""
    from v2.nacos import ClientConfigBuilder, NacosNamingService, SubscribeServiceParam

    with tempfile.TemporaryDirectory() as folder:
        builder = ClientConfigBuilder().server_address(f"{service.host}:{service.port}").namespace_id(NAMESPACE)
        config = builder.log_level("ERROR").log_dir(folder).cache_dir(folder).build()
        client = await NacosNamingService.create_naming_service(config)

        async def told(instances: Any) -> None:
            cached = next(iter(client.service_info_holder.service_info_map.values()))
            heard.note(
                next(one.weight for one in instances if one.ip == "10.0.0.0"), cached.lastRefTime, len(instances)
            )

        await client.subscribe(SubscribeServiceParam(service_name=NAME, group_name=GROUP, subscribe_callback=told))
        yield
        await client.shutdown()


CLIENTS = {"bare": bare, "ours": ours, "sdk": sdk}


async def measure(
    client: Callable[..., Any], url: str, service: Service, publisher: Publisher, changes: int
) -> list[tuple[float, float]]:
    """Milliseconds to the listener, and of CPU, for each change."""
    heard, found = Heard(), []
    async with client(url, service, heard):
        for number in range(changes + 1):
            await asyncio.sleep(0.5)
            heard.arrived.clear()
            cpu = time.process_time()
            await publisher.change()
            async with asyncio.timeout(20):
                while heard.weight != publisher.weight:
                    await heard.arrived.wait()
                    heard.arrived.clear()
            assert heard.count == publisher.count, f"a list has {heard.count} instances"
            if number:  # the first one warms up
                found.append((heard.at - heard.made_at, (heard.cpu - cpu) * 1000))
    return found


async def run(service: Service, count: int, changes: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    url = f"nacos://{service.host}:{service.port}/{NAMESPACE}?push_delay=50ms"
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CLIENTS}
    async with transport(url, lambda *_: None) as many, transport(url, lambda *_: None) as one:
        publisher = Publisher(many, one, count)
        await publisher.start()
        for _ in range(rounds):
            for name, client in CLIENTS.items():
                found[name] += await measure(client, url, service, publisher, changes)
    return found


def report(found: dict[str, list[tuple[float, float]]]) -> bool:
    """Print the table; whether the goal is reached."""
    median: dict[str, tuple[float, float]] = {}
    say = sys.stdout.write
    say(f"{'client':<8}{'ms p50':>10}{'ms worst':>10}{'CPU ms p50':>12}\n")
    for name, times in found.items():
        wall, cpu = [one[0] for one in times], [one[1] for one in times]
        median[name] = statistics.median(wall), statistics.median(cpu)
        say(f"{name:<8}{median[name][0]:>10.1f}{max(wall):>10.1f}{median[name][1]:>12.1f}\n")
    whole = median["ours"][0] / median["sdk"][0]
    own = (median["ours"][0] - median["bare"][0]) / (median["sdk"][0] - median["bare"][0])
    say(f"ours / sdk: {whole:.2f} of the time, {own:.2f} without what the bare client takes (goal {GOAL})\n")
    say(f"ours / sdk: {median['ours'][1] / median['sdk'][1]:.2f} of the CPU time\n")
    return whole <= GOAL


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--line", type=int, default=3, choices=(2, 3))
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    with find_service(nacos.product(given.line, push_delay=0.05), own=True) as service:
        found = asyncio.run(run(service, given.instances, given.changes, given.rounds))
    return 0 if report(found) else 1


if __name__ == "__main__":
    sys.exit(main())
