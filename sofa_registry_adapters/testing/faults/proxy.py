"""A TCP proxy that breaks the network on command.

It stands between a client and any server, in this process, and needs no privilege. Because it is no packet
filter, a "lost" byte is held back, as TCP would do it by sending again: it arrives when the hole ends, or
never, if the connection is reset before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, Self, TypeVar

from sofa_registry_adapters.testing.faults.ports import free_port

Direction = Literal["both", "up", "down"]
T = TypeVar("T")

_CHUNK = 65_536
_QUEUED_CHUNKS = 16
_RESET = struct.pack("ii", 1, 0)
_SWITCH_SECONDS = 10.0
_PIECES_PER_SECOND = 50
_BIND_TRIES = 20


class _Way:
    """One direction of all connections: a gate, and a count of the bytes that went through it."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.bytes = 0

    def block(self, *, blocked: bool) -> None:
        if blocked:
            self.gate.clear()
        else:
            self.gate.set()


class _Link:
    """One proxied connection; unless it ended cleanly, closing it resets both sides."""

    def __init__(self, client: socket.socket) -> None:
        self.sockets = [client]
        self.clean = False

    def close(self) -> None:
        for end in self.sockets:
            if not self.clean:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()


class NetProxy:
    """A proxy on `host`:`port` to `upstream`, listening as soon as it is made, from a thread of its own.

    The verbs may be called from any thread and are in force when they return. "up" is from the client to the
    server: black-holing it loses requests, black-holing "down" loses the answers to requests that were
    carried out.

    A server whose clients use several ports, at fixed distances from the main one, is given with these
    `offsets`: the proxy listens at the same distances from `port`, and each fault is one of all of them.
    """

    def __init__(
        self, upstream: tuple[str, int], host: str = "127.0.0.1", port: int = 0, *, offsets: Sequence[int] = (0,)
    ) -> None:
        self.upstream = upstream
        self.offsets: tuple[int, ...] = tuple(offsets)
        self.host = host
        self.port: int = port
        self.accepted: int = 0
        self.cuts: int = 0
        self._owner = os.getpid()
        self._up, self._down = _Way(), _Way()
        self._delay = self._jitter = self._rate = 0.0
        self._budget: int | None = None
        self._last_cut: asyncio.Task[None] | None = None
        self._listeners: list[socket.socket] = []
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="NetProxy", daemon=True)
        self._thread.start()
        try:
            self._switch(self._listen())
        except BaseException:
            self._end_loop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """`host:port`, as it stands in a URL."""
        return f"{self.host}:{self.port}"

    @property
    def bytes_up(self) -> int:
        """Bytes passed on to the server so far."""
        return self._up.bytes

    @property
    def bytes_down(self) -> int:
        """Bytes passed on to clients so far."""
        return self._down.bytes

    @property
    def connections(self) -> int:
        """Connections open at this moment."""
        return len(self._links)

    def pass_through(self) -> None:
        """End every fault: what was held back flows, the port listens again, no delay, no limit."""
        self._delay = self._jitter = self._rate = 0.0
        self._budget = None

        async def heal() -> None:
            self._up.block(blocked=False)
            self._down.block(blocked=False)
            await self._listen()

        self._switch(heal())

    def black_hole(self, direction: Direction = "both") -> None:
        """Let nothing through in `direction`, on open and on new connections; the other direction flows.

        Nobody is told: connections stay open, new ones are accepted, and a close does not reach the other
        side.
        """

        async def swallow() -> None:
            self._up.block(blocked=direction in ("both", "up"))
            self._down.block(blocked=direction in ("both", "down"))

        self._switch(swallow())

    def cut(self) -> None:
        """Reset (RST) every open connection on both sides; new ones are accepted."""
        self._switch(self._cut())

    def refuse(self) -> None:
        """Stop listening and reset every connection; `pass_through` listens on the same port again."""

        async def shut() -> None:
            self._stop_listening()
            await self._cut()

        self._switch(shut())

    def latency(self, seconds: float, jitter: float = 0.0) -> None:
        """Deliver everything `seconds` later, and up to `jitter` more, each way; bandwidth is kept."""
        self._delay, self._jitter = seconds, jitter

    def rate(self, bytes_per_second: float) -> None:
        """Pass at most that many bytes a second on each connection in each direction; 0: no limit."""
        self._rate = bytes_per_second

    def cut_after(self, count: int) -> None:
        """Pass `count` more bytes, both directions and all connections together, then `cut` once."""
        self._budget = count

    def close(self) -> None:
        """Reset all connections and end; nothing on a second call or in a forked copy of the process."""
        if self._loop.is_closed() or os.getpid() != self._owner:
            return
        self.refuse()
        self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SWITCH_SECONDS)
        self._loop.close()

    def _switch(self, change: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            change.close()
            message = f"the proxy on {self.address} was closed; make a new one"
            raise RuntimeError(message)
        return asyncio.run_coroutine_threadsafe(change, self._loop).result(_SWITCH_SECONDS)

    async def _listen(self) -> None:
        if not self._listeners:
            self._listeners = self._bind()
            self.port = int(self._listeners[0].getsockname()[1]) - self.offsets[0]
            host, port = self.upstream
            for offset, listener in zip(self.offsets, self._listeners, strict=True):
                self._loop.add_reader(listener, self._accept, listener, (host, port + offset))

    def _bind(self) -> list[socket.socket]:
        chosen = self.port
        for left in reversed(range(1 if chosen else _BIND_TRIES)):
            try:
                return self._bind_all(chosen or free_port(self.host, self.offsets))
            except OSError:
                if not left:
                    raise
        raise AssertionError

    def _bind_all(self, port: int) -> list[socket.socket]:
        with contextlib.ExitStack() as bound:
            listeners = [bound.enter_context(socket.socket()) for _ in self.offsets]
            for offset, listener in zip(self.offsets, listeners, strict=True):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.settimeout(0)
                listener.bind((self.host, port + offset))
                listener.listen(256)
            bound.pop_all()
        return listeners

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners = []

    def _accept(self, listener: socket.socket, upstream: tuple[str, int]) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # whoever knocked has gone
        client.settimeout(0)
        self.accepted += 1
        link = _Link(client)
        task = self._loop.create_task(self._carry(link, upstream))
        self._links[task] = link
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._links.pop(task).close()

    async def _cut(self) -> None:
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        self.cuts += len(tasks)
        if tasks:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # the sockets are closed by the tasks' callbacks

    async def _carry(self, link: _Link, upstream: tuple[str, int]) -> None:
        await self._up.gate.wait()  # in a black hole the server never hears of a new connection
        server = socket.socket()
        link.sockets.append(server)
        for end in link.sockets:
            end.settimeout(0)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = link.sockets[0]
        with contextlib.suppress(OSError, ExceptionGroup):
            await self._loop.sock_connect(server, upstream)
            async with asyncio.TaskGroup() as pumps:
                for source, sink, way in ((client, server, self._up), (server, client, self._down)):
                    queue: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(_QUEUED_CHUNKS)
                    pumps.create_task(self._take(source, queue))
                    pumps.create_task(self._give(sink, queue, way))
            link.clean = True

    async def _take(self, source: socket.socket, queue: asyncio.Queue[tuple[float, bytes | None]]) -> None:
        """Queue what `source` sends, with the time it is due; b"" is its end, None its reset."""
        chunk: bytes | None = b"..."
        while chunk:
            try:
                chunk = await self._loop.sock_recv(source, _CHUNK)
            except OSError:
                chunk = None
            delay = self._delay + random.random() * self._jitter  # noqa: S311 - a delay is no secret
            await queue.put((self._loop.time() + delay, chunk))

    async def _give(self, sink: socket.socket, queue: asyncio.Queue[tuple[float, bytes | None]], way: _Way) -> None:
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if chunk:
                await self._pass_on(sink, chunk, way)
                continue
            await way.gate.wait()
            if chunk is None:
                raise ConnectionResetError
            sink.shutdown(socket.SHUT_WR)
            return

    async def _pass_on(self, sink: socket.socket, chunk: bytes, way: _Way) -> None:
        while chunk:
            await way.gate.wait()
            size = min(len(chunk), max(1, int(self._rate / _PIECES_PER_SECOND))) if self._rate else len(chunk)
            if self._budget is not None:
                size = min(size, self._budget)
                self._budget -= size
            way.bytes += size  # before they arrive: who has read them finds them counted
            await self._loop.sock_sendall(sink, chunk[:size])
            chunk = chunk[size:]
            if self._budget == 0:
                self._last_cut = self._last_cut or asyncio.create_task(self._cut_once())
                await asyncio.Event().wait()  # until that task ends this one
            await asyncio.sleep(size / self._rate if self._rate else 0)

    async def _cut_once(self) -> None:
        await self._cut()
        self._budget = self._last_cut = None
