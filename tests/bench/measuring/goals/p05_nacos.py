"""P5 on Nacos: one change in a service, until a listener knows.

Rounds of three clients alternate in this process, each alone at the server: a bare one, which only looks for one weight in the bytes that are pushed to it,
ours, and nacos-sdk-python. A time runs from the moment in which the server put the list together, which it says in the list, to the listener: the server's push
delay is not in it. What the bare client takes, the server and gRPC take. The instances have next to no metadata: with more the SDK,
which takes 4 MB at most, would lose its connection. Nacos pushes whole lists, so the time grows with the service. Limit: a quarter of the SDK's time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from measuring.peers import Sdk
from measuring.places import Place
from measuring.report import Cell, of_limit
from measuring.rounds import Round, figures, ratio
from sofa_registry_adapters.backends.nacos import BACKEND, wire
from sofa_registry_adapters.backends.nacos.connection import Connection
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.backends.nacos.watching import Told
from sofa_registry_adapters.registry import AsyncRegistry
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock

GOAL = "P5"
TITLE = "Notify"
BACKENDS = ("nacos",)
SIZES = (10, 10_000)
CHANGES = 3
LIMIT = 0.25
GROUP = "DEFAULT_GROUP"
CHANGING = "10.0.0.0"
"""The address of the instance whose weight changes."""


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


def about(service: str, **more: object) -> dict[str, object]:
    """A request about a service."""
    return {"namespace": "public", "groupName": GROUP, "serviceName": service, "module": "naming", **more}


def host(number: int, weight: float = 1.0) -> dict[str, object]:
    """An instance as Nacos has it."""
    ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    usual = {"healthy": True, "enabled": True, "ephemeral": True, "clusterName": "DEFAULT", "metadata": {"v": "1"}}
    return {"ip": ip, "port": 1, "weight": weight, **usual}


@asynccontextmanager
async def transport(url: str, pushed: Callable[[Connection, memoryview], None]) -> AsyncIterator[Transport]:
    """A connection of its own."""
    made = Transport(parse_target(url, BACKEND), SystemClock(), "naming", {"NotifySubscriberRequest": pushed})
    await made.open()
    try:
        yield made
    finally:
        await made.close()


class Publisher:
    """All instances but one in one slot, and one in another, which changes."""

    def __init__(self, many: Transport, one: Transport, count: int) -> None:
        self._many, self._one, self.count = many, one, count
        self.weight = 1.0
        self.service = f"echo-{count}"

    async def start(self) -> None:
        """Publish."""
        await self._put(self._many, [host(number) for number in range(1, self.count)])
        await self.change()

    async def change(self) -> None:
        """Another weight."""
        self.weight = round(self.weight % 100 + 1.0, 1)
        await self._put(self._one, [host(0, self.weight)])

    async def _put(self, way: Transport, hosts: Sequence[object]) -> None:
        body = about(self.service, type="batchRegisterInstance", instances=hosts)
        await way.ask("BatchInstanceRequest", body, wire.Answer)


@asynccontextmanager
async def bare(place: Place, heard: Heard, service: str) -> AsyncIterator[None]:
    """A client that looks for one weight in the bytes, and does nothing else."""

    def pushed(_: Connection, body: memoryview) -> None:
        text = bytes(body)
        at = text.index(b'"ip":"%b"' % CHANGING.encode())
        weight = text[text.index(b'"weight":', at) + 9 :].partition(b",")[0]
        made_at = text[text.rindex(b'"lastRefTime":') + 14 :].partition(b",")[0]
        heard.note(float(weight), float(made_at), text.count(b'"ip":'))

    async with transport(place.url, pushed) as way:
        await way.ask("SubscribeServiceRequest", about(service, subscribe=True, clusters=""), Told)
        yield


class Made(msgspec.Struct, rename="camel"):
    """When the server made a list."""

    last_ref_time: int = 0


class Push(msgspec.Struct, rename="camel"):
    """A list that the server pushes."""

    service_info: Made


@asynccontextmanager
async def ours(place: Place, heard: Heard, service: str) -> AsyncIterator[None]:
    """A Registry with a listener."""
    stamp = [0.0]

    def told(change: Any) -> None:
        for one in (*change.added, *change.updated):
            if one.host == CHANGING:
                heard.note(one.weight / 100, stamp[0], len(change.instances))

    async with AsyncRegistry(place.url, options={"snapshot": "off"}) as registry:
        await registry.subscribe(service, told)
        handlers = registry._opened().engine.backend._transport._pushed  # the time in the list is no part of the API
        really = handlers["NotifySubscriberRequest"]

        def pushed(connection: Connection, body: memoryview) -> None:
            stamp[0] = msgspec.json.decode(body, type=Push).service_info.last_ref_time
            really(connection, body)

        handlers["NotifySubscriberRequest"] = pushed
        yield


@asynccontextmanager
async def sdk(place: Place, heard: Heard, service: str) -> AsyncIterator[None]:
    """nacos-sdk-python as it is, its log at ERROR."""
    from v2.nacos import NacosNamingService, SubscribeServiceParam

    client = await NacosNamingService.create_naming_service(Sdk.configuration(place))

    async def told(instances: Any) -> None:
        cached = next(iter(client.service_info_holder.service_info_map.values()))
        weight = next(one.weight for one in instances if one.ip == CHANGING)
        heard.note(weight, cached.lastRefTime, len(instances))

    await client.subscribe(SubscribeServiceParam(service_name=service, group_name=GROUP, subscribe_callback=told))
    yield
    await client.shutdown()


CLIENTS: dict[str, Callable[..., Any]] = {"ours": ours, "raw": bare, "nacos-sdk-python": sdk}


async def play(client: Callable[..., Any], place: Place, publisher: Publisher) -> Round:
    """One round: the first change warms up."""
    heard, wall, cpu = Heard(), [], []
    async with client(place, heard, publisher.service):
        for number in range(CHANGES + 1):
            await asyncio.sleep(0.3)
            heard.arrived.clear()
            before = time.process_time()
            await publisher.change()
            async with asyncio.timeout(20):
                while heard.weight != publisher.weight:
                    await heard.arrived.wait()
                    heard.arrived.clear()
            assert heard.count == publisher.count, f"a list has {heard.count} instances"
            if number:
                # The server's time has milliseconds.
                wall.append(max(0.0005, (heard.at - heard.made_at) / 1000))
                cpu.append(heard.cpu - before)
    return Round(wall, sum(cpu) / len(cpu))


async def keep(way: Transport) -> None:
    """Say something now and then: a server drops a connection that has been silent for twenty seconds, and all that came by it."""
    while True:
        await asyncio.sleep(4)
        await way.probe(await way.connection())


async def run(place: Place, size: int, rounds: int) -> dict[str, list[Round]]:
    """All rounds with a service of this size."""
    found: dict[str, list[Round]] = {name: [] for name in CLIENTS}
    async with transport(place.url, lambda *_: None) as many, transport(place.url, lambda *_: None) as one:
        publisher = Publisher(many, one, size)
        await publisher.start()
        keeping = [asyncio.create_task(keep(way)) for way in (many, one)]
        await asyncio.sleep(1)
        for _ in range(rounds):
            for name, client in CLIENTS.items():
                found[name].append(await play(client, place, publisher))
        for task in keeping:
            task.cancel()
    return found


def measure(place: Place, rounds: int) -> list[Cell]:
    """All cells."""
    cells = []
    for size in SIZES:
        found = asyncio.run(run(place, size, rounds))
        sides = {name: figures(played) for name, played in found.items()}
        times = ratio(found, "ours", "nacos-sdk-python")
        ratios = {"ours / raw": ratio(found, "ours", "raw")}
        ratios["ours / nacos-sdk-python, CPU"] = ratio(found, "ours", "nacos-sdk-python", cpu=True)
        what = "change to listener against nacos-sdk-python"
        if size == SIZES[-1]:
            cells.append(of_limit(what, times, "times", LIMIT, n=size, sides=sides, ratios=ratios))
        else:
            cells.append(Cell(what, times, "times", n=size, sides=sides, ratios=ratios))
    return cells
