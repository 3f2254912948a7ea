"""The bare protocol over grpc: one request a record, answered; a push is noticed and confirmed. It uses our transport without the backend."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from measuring.content import address, metadata
from measuring.places import Place
from measuring.raw.client import RawClient
from sofa_registry_adapters.backends.nacos import BACKEND, wire
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.clock import SystemClock

GROUP = "DEFAULT_GROUP"


class Listed(msgspec.Struct):
    """A list whose hosts are not decoded."""

    hosts: list[msgspec.Raw] = []


class Told(wire.Answer, rename="camel"):
    """The answer that may have a list."""

    service_info: Listed | None = None


def host(number: int) -> dict[str, object]:
    """An instance as Nacos has it."""
    ip = address(number).partition(":")[0]
    usual = {"healthy": True, "enabled": True, "ephemeral": True, "clusterName": "DEFAULT", "weight": 1.0}
    return {"ip": ip, "port": 12200, "metadata": metadata(number), **usual}


def about(service: str, **more: object) -> dict[str, object]:
    """A request about a service."""
    return {"namespace": "public", "groupName": GROUP, "serviceName": service, "module": "naming", **more}


class Raw(RawClient):
    """See the module. Its event loop runs while a method does."""

    def __init__(self, place: Place) -> None:
        self._runner = asyncio.Runner()
        self._target = parse_target(place.url, BACKEND)
        self._published: list[int] = []
        self._told: Callable[[], object] = lambda: None
        self._runner.run(self._open())

    async def _open(self) -> None:
        self._transport = Transport(
            self._target, SystemClock(), "naming", {"NotifySubscriberRequest": lambda *_: self._told()}
        )
        await self._transport.open()

    def _ask(self, kind: str, body: dict[str, object]) -> Any:
        return self._runner.run(self._transport.ask(kind, body, Told))

    def prepared(self, number: int) -> int:
        return number

    def publish(self, number: int) -> None:
        self._ask("InstanceRequest", about(f"raw-{number}", type="registerInstance", instance=host(number)))
        self._published.append(number)

    def watch(self, service: str, told: Callable[[], object]) -> None:
        self._told = told
        self._ask("SubscribeServiceRequest", about(service, subscribe=True, clusters=""))

    def snapshot(self, service: str) -> Sequence[bytes]:
        answer = self._ask("ServiceQueryRequest", about(service, cluster="", healthyOnly=False, udpPort=0))
        return [bytes(one) for one in answer.service_info.hosts]

    def write_all(self, records: Sequence[int]) -> None:
        hosts = [host(number) for number in records]
        self._ask("BatchInstanceRequest", about("raw", type="batchRegisterInstance", instances=hosts))

    def clear(self) -> None:
        for number in self._published:
            self._ask("InstanceRequest", about(f"raw-{number}", type="deregisterInstance", instance=host(number)))
        self._published.clear()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._runner.run(self._transport.close())
        self._runner.close()
