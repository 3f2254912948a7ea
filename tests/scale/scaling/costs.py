"""What one change, one first list, and one idle client cost on a product, at small sizes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from scaling.counting import CountingProxy
from scaling.table import Change, First, Scale, Traffic
from sofa_registry_adapters.handles import AsyncRegistration
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange
from sofa_registry_adapters.registry import AsyncRegistry
from sofa_registry_adapters.testing.faults import eventually_async
from sofa_registry_adapters.testing.faults.operators import operator_of
from sofa_registry_adapters.testing.faults.operators.redis import RedisOperator
from sofa_registry_adapters.testing.faults.operators.zookeeper import ZooKeeperOperator
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.services.local import LocalService

SIZES = ((10, 4), (100, 4), (1_000, 4), (100, 1), (100, 16), (100, 64))
"""Instances of the service, consumers of it."""
CHANGES = {"nacos": 20}
"""How many are made one after the other, elsewhere a hundred; on Nacos each takes half a second."""
IDLE = 8.0
QUIET = 1.5
WITHIN = 60.0
WEIGHED = 2_000
"""Instances by which the server's store is weighed."""
METADATA = {"zone": "cn-hangzhou-a", "protocol": "bolt", "serialization": "hessian2", "version": "1.0"}
OPTIONS = {"snapshot": "off", "protection_hold": 0, "leaving": 0}


def _address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:12200"


class Follower:
    """A consumer: how many it sees, and the weight of the one that changes."""

    def __init__(self, watched: str) -> None:
        self._watched = watched
        self.count = 0
        self.weight = 0

    def __call__(self, change: InstancesChange) -> None:
        self.count = len(change.instances)
        for one in (*change.added, *change.updated):
            if one.instance_id == self._watched:
                self.weight = one.weight


class Bench:
    """One server with three lines: of who publishes, of who changes, of the consumers."""

    def __init__(self, name: str, service: LocalService) -> None:
        self.name = name
        self.service: Service = service
        self.lines = {
            who: CountingProxy(name, service.address, offsets=service.product.offsets)
            for who in ("publisher", "changer", "consumers")
        }
        child = service._child
        assert child is not None
        self._process = child.pid

    def registry(self, who: str, namespace: str) -> AsyncRegistry:
        """A new Registry on one of the lines."""
        return AsyncRegistry(self.service.url_through(self.lines[who]), options=OPTIONS | {"namespace": namespace})

    def processor(self) -> float:
        """Seconds of processors that the server has used."""
        words = Path(f"/proc/{self._process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """The lines end."""
        for line in self.lines.values():
            line.close()

    def stored(self) -> float:
        """Bytes of the server's store, as it says; 0 where it does not."""
        operator = operator_of(self.service.product.scheme, self.service.host, self.service.port)
        if isinstance(operator, RedisOperator):
            said = str(operator.ask("INFO", "memory"))
            return float(next(line.partition(":")[2] for line in said.splitlines() if line.startswith("used_memory:")))
        if isinstance(operator, ZooKeeperOperator):
            said = operator.word("mntr")
            return float(next(x.split()[1] for x in said.splitlines() if x.startswith("zk_approximate_data_size")))
        request: Callable[[str, str], bytes] | None = getattr(operator, "_request", None)
        if request is None:
            return 0.0
        text = request("GET", "/metrics").decode()
        name = "etcd_mvcc_db_total_size_in_use_in_bytes "
        return float(next(line for line in text.splitlines() if line.startswith(name)).split()[1])


@contextlib.asynccontextmanager
async def scene(
    bench: Bench, instances: int, consumers: int
) -> AsyncIterator[tuple[AsyncRegistration, list[Follower]]]:
    """A service with so many instances, one of which is the changer's, and so many consumers of it."""
    namespace, service = f"scale-{uuid.uuid4().hex[:8]}", ServiceKey("com.alipay.trade.TradeService", "1.0")
    async with contextlib.AsyncExitStack() as closing:
        publisher = await closing.enter_async_context(bench.registry("publisher", namespace))
        changer = await closing.enter_async_context(bench.registry("changer", namespace))
        await publisher.publish(service, [_address(n) for n in range(1, instances)], metadata=METADATA, timeout=WITHIN)
        changed = await changer.publish(service, _address(0), metadata=METADATA, timeout=WITHIN)
        followers = [Follower(_address(0)) for _ in range(consumers)]
        for one in followers:
            registry = await closing.enter_async_context(bench.registry("consumers", namespace))
            await registry.subscribe(service, one, timeout=WITHIN)
        await eventually_async(lambda: all(one.count == instances for one in followers), WITHIN, "all is seen")
        yield changed, followers


def _since(line: CountingProxy, before: tuple[int, int, int, int], idle: Traffic, seconds: float) -> Traffic:
    """What went over the line since then, without what goes when nothing happens."""
    now = line.counted()
    spent = [after - was for after, was in zip(now, before, strict=True)]
    rates = (idle.messages_up, idle.messages_down, idle.bytes_up, idle.bytes_down)
    return Traffic(*(max(0.0, each - rate * seconds) for each, rate in zip(spent, rates, strict=True)))


def _each(traffic: Traffic, count: float) -> Traffic:
    values = (traffic.messages_up, traffic.messages_down, traffic.bytes_up, traffic.bytes_down)
    return Traffic(*(round(value / count, 2) for value in values))


async def _idle(bench: Bench) -> dict[str, Traffic]:
    """What goes over each line in a second when nothing happens."""
    before = {who: line.counted() for who, line in bench.lines.items()}
    await asyncio.sleep(IDLE)
    return {who: _each(_since(line, before[who], Traffic(), 0.0), IDLE) for who, line in bench.lines.items()}


async def one_size(bench: Bench, scale: Scale, instances: int, consumers: int) -> None:
    """Measure one size, and add it."""
    line, loop, count = bench.lines["consumers"], asyncio.get_running_loop(), CHANGES.get(bench.name, 100)
    before = line.counted()
    async with scene(bench, instances, consumers) as (changed, followers):
        scale.firsts.append(First(instances=instances, consumer=_each(_since(line, before, Traffic(), 0.0), consumers)))
        await asyncio.sleep(QUIET)
        idle, resting = await _idle(bench), bench.processor()
        await asyncio.sleep(IDLE / 2)
        rest = (bench.processor() - resting) / (IDLE / 2)
        scale.idle_publisher = idle["publisher"]
        scale.idle_consumer = _each(idle["consumers"], consumers)
        began, used = loop.time(), bench.processor()
        counted = {who: one.counted() for who, one in bench.lines.items()}
        for number in range(count):
            await changed.update(weight=number + 1, timeout=WITHIN)
            await eventually_async(
                lambda wanted=number + 1: all(one.weight == wanted for one in followers), WITHIN, "a change is seen"
            )
        took = loop.time() - began
        used = max(0.0, bench.processor() - used - rest * took)
        spent = {who: _since(one, counted[who], idle[who], took) for who, one in bench.lines.items()}
    scale.changes.append(
        Change(
            instances=instances,
            consumers=consumers,
            changes=count,
            publisher=_each(spent["changer"], count),
            consumer=_each(spent["consumers"], count * consumers),
            processor=round(used / count * 1e6, 1),
        )
    )


async def weigh(bench: Bench, scale: Scale) -> None:
    """What one instance more costs the store."""
    async with bench.registry("publisher", f"scale-{uuid.uuid4().hex[:8]}") as registry:
        await registry.publish("first", _address(0), timeout=WITHIN)
        before = bench.stored()
        addresses = [_address(number) for number in range(WEIGHED)]
        await registry.publish("com.alipay.trade.TradeService", addresses, metadata=METADATA, timeout=WITHIN)
        await asyncio.sleep(QUIET)
        scale.stored = round(max(0.0, bench.stored() - before) / WEIGHED, 1)
