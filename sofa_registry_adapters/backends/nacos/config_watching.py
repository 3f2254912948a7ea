"""Listening: the server names the keys that changed to the connection, and each watch of one reads it again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from sofa_registry_adapters.backends.nacos import wire
from sofa_registry_adapters.backends.nacos.config_values import Place
from sofa_registry_adapters.backends.nacos.connection import Connection
from sofa_registry_adapters.backends.nacos.transport import Transport
from sofa_registry_adapters.errors import RegistryError

TOGETHER = 500
"""Keys in one request that ends listening to them."""

Name = tuple[str, str]
"""A data id and its group."""


class _Notice(msgspec.Struct, rename="camel"):
    data_id: str
    group: str


class _Listener:
    """One watch of a key on one connection: whether the key changed since it was last read."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.news = asyncio.Event()


class Listening:
    """All watches of one backend, over one connection, in one namespace."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._listeners: dict[Name, set[_Listener]] = {}
        self._left: dict[Name, Connection] = {}
        self._parting: asyncio.Task[None] | None = None
        self._parted: frozenset[Name] = frozenset()

    def __len__(self) -> int:
        return len(self._listeners)

    def pushed(self, connection: Connection, body: memoryview) -> None:
        """Handler of ``ConfigChangeNotifyRequest``."""
        notice = msgspec.json.decode(body, type=_Notice)
        for listener in self._listeners.get((notice.data_id, notice.group), ()):
            if listener.connection is connection:
                listener.news.set()

    async def changes(self, transport: Transport, place: Place) -> AsyncGenerator[None, None]:
        """Something at once, then something whenever the value may have changed. Raises when the connection is over."""
        listener = _Listener(await transport.connection())
        async with self._listened(transport, (place.data_id, place.group), listener):
            while True:
                yield
                await _either(listener.news, listener.connection.gone)
                if listener.connection.gone.is_set():
                    raise listener.connection.why
                # Before it is read: a change in the meantime counts again.
                listener.news.clear()

    async def close(self) -> None:
        """Forget what the server was still to be told: it forgets the connection."""
        self._left.clear()
        if self._parting is not None:
            self._parting.cancel()
            await asyncio.wait((self._parting,))

    @contextlib.asynccontextmanager
    async def _listened(self, transport: Transport, name: Name, listener: _Listener) -> AsyncIterator[None]:
        self._listeners.setdefault(name, set()).add(listener)
        try:
            self._left.pop(name, None)
            while name in self._parted and self._parting is not None:
                # The later of two requests about one key has to be the later one at the server, too.
                await asyncio.wait((self._parting,))
            await self._ask(transport, listener.connection, [name], listen=True)
            yield
        finally:
            self._listeners[name].discard(listener)
            if not self._listeners[name]:
                del self._listeners[name]
                self._part(transport, name, listener.connection)

    def _part(self, transport: Transport, name: Name, connection: Connection) -> None:
        """Nobody listens to the key any more; the server is told soon, of all such keys together."""
        if connection.gone.is_set():
            return
        self._left[name] = connection
        if self._parting is None or self._parting.done():
            self._parting = asyncio.create_task(self._tell_left(transport))

    async def _tell_left(self, transport: Transport) -> None:
        while self._left:
            connection = next(iter(self._left.values()))
            names = [name for name, on in self._left.items() if on is connection][:TOGETHER]
            for name in names:
                del self._left[name]
            self._parted = frozenset(names)
            try:
                # Where this fails the server goes on naming keys that nobody here listens to.
                with contextlib.suppress(RegistryError):
                    await self._ask(transport, connection, names, listen=False)
            finally:
                self._parted = frozenset()

    async def _ask(self, transport: Transport, connection: Connection, names: list[Name], *, listen: bool) -> None:
        # Without a digest: the value is read after this anyway, and every change from here on is told.
        about = [{"dataId": data_id, "group": group, "tenant": self._tenant, "md5": ""} for data_id, group in names]
        body = {"listen": listen, "configListenContexts": about, "module": "config"}
        await transport.ask("ConfigBatchListenRequest", body, wire.Answer, on=connection)


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
