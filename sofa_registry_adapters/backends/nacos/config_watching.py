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

PARTING = 1.0
"""Seconds that the end of listening may take."""


class _Notice(msgspec.Struct, rename="camel"):
    data_id: str
    group: str


class _Listener:
    """One key on one connection: whether it changed since it was last read."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.news = asyncio.Event()


class _Post:
    """One key at the server, and the watches that share it."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.listeners: set[_Listener] = set()


class Listening:
    """All watches of one backend, over one connection."""

    def __init__(self) -> None:
        self._posts: dict[tuple[str, str], _Post] = {}

    def pushed(self, connection: Connection, body: memoryview) -> None:
        """Handler of ``ConfigChangeNotifyRequest``."""
        notice = msgspec.json.decode(body, type=_Notice)
        post = self._posts.get((notice.data_id, notice.group))
        for listener in post.listeners if post is not None else ():
            if listener.connection is connection:
                listener.news.set()

    async def changes(self, transport: Transport, place: Place) -> AsyncGenerator[None, None]:
        """Something at once, then something whenever the value may have changed. Raises when the connection is over."""
        listener = _Listener(await transport.connection())
        async with self._posted(transport, place, listener):
            while True:
                yield
                await _either(listener.news, listener.connection.gone)
                if listener.connection.gone.is_set():
                    raise listener.connection.why
                # Before it is read: a change in the meantime counts again.
                listener.news.clear()

    @contextlib.asynccontextmanager
    async def _posted(self, transport: Transport, place: Place, listener: _Listener) -> AsyncIterator[None]:
        name = (place.data_id, place.group)
        post = self._posts.setdefault(name, _Post())
        post.listeners.add(listener)
        try:
            async with post.turn:
                await self._ask(transport, place, listener.connection, listen=True)
            yield
        finally:
            post.listeners.discard(listener)
            await self._part(transport, place, listener.connection, post)
            if not post.listeners and self._posts.get(name) is post:
                del self._posts[name]

    async def _part(self, transport: Transport, place: Place, connection: Connection, post: _Post) -> None:
        """The last watch ends the listening, before the next one of the key can begin another."""
        with contextlib.suppress(RegistryError, TimeoutError):
            async with asyncio.timeout(PARTING), post.turn:
                if not post.listeners and not connection.gone.is_set():
                    await self._ask(transport, place, connection, listen=False)

    async def _ask(self, transport: Transport, place: Place, connection: Connection, *, listen: bool) -> None:
        # Without a digest: the value is read after this anyway, and every change from here on is told.
        about = {"dataId": place.data_id, "group": place.group, "tenant": place.tenant, "md5": ""}
        body = {"listen": listen, "configListenContexts": [about], "module": "config"}
        await transport.ask("ConfigBatchListenRequest", body, wire.Answer, on=connection)


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
