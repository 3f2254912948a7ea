"""What matters in certain moments only, which no server can be asked for: on a transport that answers when the test says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest

from sofa_registry_adapters.backends.nacos import BACKEND
from sofa_registry_adapters.backends.nacos.config import NacosConfig
from sofa_registry_adapters.backends.nacos.instances import Host, host_of
from sofa_registry_adapters.backends.nacos.listing import ServiceInfo
from sofa_registry_adapters.backends.nacos.names import service_name
from sofa_registry_adapters.backends.nacos.registry import NacosRegistry
from sofa_registry_adapters.engine.lifeline import Lifeline
from sofa_registry_adapters.engine.link import Link
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.spi.registry import Wanted
from sofa_registry_adapters.testing.clock import ManualClock

ECHO = ServiceKey("echo")
ONE = Instance.of("10.0.0.1:1")
TARGET = parse_target("nacos://h", BACKEND)


class Line:
    """A connection."""

    def __init__(self) -> None:
        self.id = "c"
        self.gone = asyncio.Event()


class Server:
    """A transport: what it was asked, and what it waits for before it answers a list."""

    logins = 0

    def __init__(self) -> None:
        self.line = Line()
        self.asked: list[str] = []
        self.probes = 0
        self.listing = asyncio.Event()
        self.may_list = asyncio.Event()
        self.may_list.set()
        self.hosts: dict[str, Host] = {}

    async def open(self) -> None:
        pass

    async def log_in(self) -> None:
        pass

    async def connection(self) -> Line:
        return self.line

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[Line]:
        yield self.line

    async def probe(self, on: Line) -> None:
        assert on is self.line
        self.probes += 1

    async def ask(self, kind: str, body: Any, answer: Any, *, on: Line | None = None) -> Any:
        self.asked.append(kind)
        if kind == "ServiceQueryRequest":
            self.listing.set()
            await self.may_list.wait()
            hosts = [self.hosts[name]] if (name := body["serviceName"]) in self.hosts else []
            return answer(service_info=ServiceInfo([msgspec.Raw(msgspec.json.encode(one)) for one in hosts]))
        return answer(service_names=list(self.hosts)) if kind == "ServiceListRequest" else answer()


def registry_on(server: Server, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> NacosRegistry:
    registry = NacosRegistry(TARGET, clock)
    monkeypatch.setattr(registry, "_transport", server)
    return registry


@pytest.mark.parametrize("again", (False, True), ids=("withdrawn", "published again"))
def test_what_is_withdrawn_while_its_list_is_under_way_is_not_looked_after(
    again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        server, clock = Server(), ManualClock()
        registry = registry_on(server, clock, monkeypatch)
        assert not await registry.announce(Wanted({ECHO: (ONE,)}), [ECHO])
        clock.advance(60)
        server.may_list.clear()
        renewal = asyncio.create_task(registry.renew())
        await server.listing.wait()
        assert not await registry.announce(Wanted({}), [ECHO])
        if again:
            assert not await registry.announce(Wanted({ECHO: (ONE,)}), [ECHO])
        server.may_list.set()
        assert not await renewal
        asked = len(server.asked)
        for _ in range(3):
            clock.advance(60)
            assert not await registry.renew()
        assert server.asked[asked:] == ["ServiceQueryRequest"] * (3 if again else 0)
        server.line = Line()
        assert (await registry.renew()).keys() == ({ECHO} if again else set())

    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize("told", ("a:b:c:d", "\x00", ":1", "another"))
def test_a_service_whose_key_cannot_be_read_is_not_listed(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    long = [ServiceKey(letter * 250) for letter in "ab"]
    server = Server()
    server.hosts = {
        service_name(ECHO): host_of(ONE),
        service_name(long[0]): host_of(ONE, told),
        service_name(long[1]): host_of(ONE, str(long[1])),
    }
    registry = registry_on(server, ManualClock(), monkeypatch)
    assert asyncio.run(registry.services()) == [long[1], ECHO]


def test_a_config_center_that_nobody_asks_is_renewed_at_its_pace_after_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """And at once when the connection is cut: the first one as well as those that a renewal made."""

    async def main() -> None:
        server, clock = Server(), ManualClock()
        config = NacosConfig(TARGET, clock)
        monkeypatch.setattr(config, "_transport", server)
        monkeypatch.setattr("sofa_registry_adapters.backends.nacos.config.line_of", AsyncMock())
        lifeline = Lifeline(config, "nacos", 5.0, clock, Link("nacos", clock, lambda _: None))
        lifeline.start()

        async def passes(seconds: float) -> int:
            """So many probes."""
            before = server.probes
            for _ in range(round(seconds / 0.05)):
                for _ in range(20):
                    await asyncio.sleep(0)
                clock.advance(0.05)
            return server.probes - before

        for _ in range(3):
            assert await passes(0.5) <= 1
            cut, server.line = server.line, Line()
            cut.gone.set()
            assert await passes(0.2) >= 1
            assert 8 <= await passes(10) <= 12
        await lifeline.stop()

    asyncio.run(asyncio.wait_for(main(), 60))
