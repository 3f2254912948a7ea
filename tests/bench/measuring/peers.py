"""The peers: tooz, whose groups are the nearest to a registry, and nacos-sdk-python. They come with the extra ``bench``."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from measuring.content import address, metadata
from measuring.places import Place

SCHEMES = {"redis": "redis", "zookeeper": "kazoo", "etcd": "etcd3+http"}


class Publisher(NamedTuple):
    """A peer that publishes ``count`` times and says how long each took."""

    name: str
    publish: Callable[[int], list[float]]


def coordinator(place: Place, member: str) -> Any:
    """One member, which is what tooz calls a client, started."""
    from tooz import coordination

    url = f"{SCHEMES[place.backend]}://{place.service.host}:{place.service.port}"
    made = coordination.get_coordinator(url, member.encode())
    made.start(start_heart=True)
    return made


@contextlib.contextmanager
def tooz_group(place: Place, count: int) -> Iterator[Callable[[], Any]]:
    """A group with so many members; how to get them."""
    group = f"echo-{uuid.uuid4().hex}".encode()
    members = [coordinator(place, address(number)) for number in range(count)]
    members[0].create_group(group).get()
    for number, member in enumerate(members):
        member.join_group(group, capabilities=metadata(number)).get()
    try:
        yield lambda: members[0].get_members(group).get()
    finally:
        for member in members:
            member.stop()


@contextlib.contextmanager
def publisher(place: Place) -> Iterator[Publisher | None]:
    """The peer that publishes on this product, None where there is none."""
    if place.backend in SCHEMES:
        with _tooz_publisher(place) as found:
            yield found
    elif place.backend == "nacos":
        with sdk(place) as found:
            yield Publisher("nacos-sdk-python", found.register)
    else:
        yield None


@contextlib.contextmanager
def _tooz_publisher(place: Place) -> Iterator[Publisher]:
    group = f"echo-{uuid.uuid4().hex}".encode()
    member = coordinator(place, address(1))
    member.create_group(group).get()

    def publish(count: int) -> list[float]:
        found = []
        for number in range(count):
            start = time.perf_counter()
            member.join_group(group, capabilities=metadata(number)).get()
            found.append(time.perf_counter() - start)
            member.leave_group(group).get()
        return found

    try:
        yield Publisher("tooz", publish)
    finally:
        member.stop()


class Sdk:
    """nacos-sdk-python as it is, its log at ERROR, on an event loop that runs while a method is called."""

    def __init__(self, place: Place) -> None:
        from v2.nacos import NacosNamingService

        self._runner = asyncio.Runner()
        self.client = self._runner.run(NacosNamingService.create_naming_service(self.configuration(place)))

    @staticmethod
    def configuration(place: Place) -> Any:
        """Its own folders, for nothing is to be found there."""
        from v2.nacos import ClientConfigBuilder

        folder = place.folder / uuid.uuid4().hex
        folder.mkdir()
        builder = ClientConfigBuilder().server_address(f"{place.service.host}:{place.service.port}")
        return builder.namespace_id("public").log_level("ERROR").log_dir(str(folder)).cache_dir(str(folder)).build()

    def run(self, work: Any) -> Any:
        """Do it."""
        return self._runner.run(work)

    def register(self, count: int) -> list[float]:
        """Publish services with one instance each, and take them away again."""
        return list(self.run(self._register(count)))

    async def _register(self, count: int) -> list[float]:
        from v2.nacos import DeregisterInstanceParam, RegisterInstanceParam

        found = []
        for number in range(count):
            host = address(number).partition(":")[0]
            about: Any = {"service_name": f"sdk-{number}", "group_name": "DEFAULT_GROUP", "ip": host, "port": 12200}
            start = time.perf_counter()
            await self.client.register_instance(RegisterInstanceParam(**about, metadata=metadata(number)))
            found.append(time.perf_counter() - start)
            await self.client.deregister_instance(DeregisterInstanceParam(**about))
        return found

    def close(self) -> None:
        """Disconnect."""
        self.run(self.client.shutdown())
        self._runner.close()


@contextlib.contextmanager
def sdk(place: Place) -> Iterator[Sdk]:
    """The SDK, connected."""
    made = Sdk(place)
    try:
        yield made
    finally:
        made.close()
