"""One ZooKeeper session on an event loop."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from sofa_registry_adapters.backends.zookeeper import client, wire
from sofa_registry_adapters.backends.zookeeper.access import Access
from sofa_registry_adapters.backends.zookeeper.faults import explained
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.spi.options import Target


class Inbox:
    """Calls from other threads to the loop, in order, waking the loop once for many."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: collections.deque[tuple[Callable[..., None], tuple[object, ...]]] = collections.deque()
        self._armed = False

    def post(self, function: Callable[..., None], *args: object) -> None:
        """Call ``function`` on the loop soon."""
        self.add(function, *args)
        self.wake()

    def add(self, function: Callable[..., None], *args: object) -> None:
        """Call ``function`` on the loop after the next `wake`, or with what is posted before that."""
        self._calls.append((function, args))

    def wake(self) -> None:
        """Let the loop do what it has not done yet."""
        if self._calls and not self._armed:
            self._armed = True
            # A closed loop has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        # First: a call that is added from now on is seen below, or arms again.
        self._armed = False
        while self._calls:
            function, args = self._calls.popleft()
            function(*args)


class Owner(Protocol):
    """Who is told about a session, on the loop."""

    def joined(self, session: Session, before: int) -> None:
        """It is connected; ``before`` is the session's id until now, 0 at first."""
        ...

    def cut(self, session: Session, reason: str) -> None:
        """Its connection is gone."""
        ...

    def changed(self, kind: int, path: str) -> None:
        """One of its watches saw a change."""
        ...

    def rewound(self, session: Session) -> None:
        """The servers are behind what they said over an earlier connection: they lost data, or were restored."""
        ...


class _Pending(client.Result):
    def __init__(self, inbox: Inbox, session: Session, future: asyncio.Future[wire.Answer]) -> None:
        self._inbox = inbox
        self._session = session
        self._future = future

    def answer(self, zxid: int, replies: Sequence[wire.Reply]) -> None:
        self._inbox.post(self._answered, wire.Answer(zxid, replies))

    def fail(self, code: int) -> None:
        self._inbox.post(self._failed, code)

    def _answered(self, answer: wire.Answer) -> None:
        self._session.on_answer(answer.zxid)
        if not self._future.done():
            self._future.set_result(answer)

    def _failed(self, code: int) -> None:
        if not self._future.done():
            self._future.set_exception(explained(code, self._session.server))
            self._future.exception()  # nobody may be waiting any more


class Session:
    """A session and its connection. ``id`` is 0 until there is one, and changes when it is replaced.

    ``zxid`` is the last change that any answer over this connection had seen, ``seen`` that of the ones before.
    """

    def __init__(self, target: Target, access: Access, owner: Owner, seen: int = 0) -> None:
        self.server: str = server_name(target)
        self.timeout: float = target.number("session_timeout")
        self.id: int = 0
        self.zxid: int = 0
        self.seen: int = seen
        self.connected: bool = False
        self.over: bool = False
        self.denied: bool = False
        self._stopping = False
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(self._loop)
        self._first: asyncio.Future[None] = self._loop.create_future()
        self._last: asyncio.Future[None] = self._loop.create_future()
        self._waiters: list[asyncio.Future[None]] = []
        hosts = ",".join(_shown(address.host, address.port) for address in target.addresses)
        self._client = client.make_client(hosts, self.timeout, access, _Relay(self._inbox, self))

    def start(self) -> None:
        """Begin to connect, and go on for ever."""
        self._client.start_async()

    async def established(self) -> None:
        """Wait for the first connection. Raises `Unavailable` when every server was tried once."""
        await asyncio.shield(self._first)
        if self._stopping:
            raise self.problem()

    async def reachable(self) -> None:
        """Return when connected. Raises when every server was tried once more, in vain."""
        if not self.connected:
            if self.over:
                raise self.problem()
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def send(self, request: wire.Request) -> asyncio.Future[wire.Answer]:
        """Send a request; the future has the answer, or `RegistryError`."""
        future: asyncio.Future[wire.Answer] = self._loop.create_future()
        if self.connected:
            self._client.send(request, _Pending(self._inbox, self, future))
        else:
            # kazoo would send it after the connection is back, when nobody wants it any more.
            future.set_exception(self.problem())
            future.exception()
        return future

    async def call(self, request: wire.Request) -> wire.Answer:
        """Send a request and wait for the answer."""
        return await self.send(request)

    def problem(self) -> Unavailable | Denied:
        """Why it cannot be used at present."""
        if self.denied:
            return Denied(f"{self.server} refused the credentials")
        return Unavailable(f"{self.server} cannot be reached at present")

    def stop(self) -> None:
        """End the session; `finished` tells when."""
        self._stopping = True
        self._client.begin_stop()

    def abort(self) -> None:
        """End without waiting for the server."""
        self._client.abort()

    async def finished(self) -> None:
        """Wait for the end of the thread."""
        await asyncio.shield(self._last)

    def on_connected(self, session_id: int, timeout: float) -> None:
        """There is a connection."""
        before, self.id = self.id, session_id
        self.timeout, self.connected = timeout, True
        self.seen, self.zxid = max(self.seen, self.zxid), 0
        if not self._first.done():
            self._first.set_result(None)
        self._owner.joined(self, before)
        self._tell(None)

    def on_answer(self, zxid: int) -> None:
        """An answer that had seen the change ``zxid``."""
        if zxid < self.seen:
            self.seen = 0
            self._owner.rewound(self)
        self.zxid = max(self.zxid, zxid)

    def on_cut(self, reason: str) -> None:
        """The connection is gone."""
        self.connected = False
        self._owner.cut(self, reason)

    def on_unreachable(self, reason: str) -> None:
        """No server could be reached."""
        problem = Unavailable(f"{self.server} cannot be reached: {reason}")
        if not self._first.done():
            self._first.set_exception(problem)
            self._first.exception()  # nobody may be waiting any more
        self._tell(problem)

    def on_changed(self, kind: int, path: str) -> None:
        """A watch event."""
        self._owner.changed(kind, path)

    def on_ended(self, *denied: bool) -> None:
        """The thread ends."""
        self.connected, self.over, self.denied = False, True, any(denied)
        if not self._first.done():
            self._first.set_exception(self.problem())
            self._first.exception()  # nobody may be waiting any more
        self._tell(self.problem())
        self._client.release()
        if not self._last.done():
            self._last.set_result(None)

    def _tell(self, problem: RegistryError | None) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if problem is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(type(problem)(*problem.args))


class _Relay(client.Events):
    """From the connection's thread to the loop."""

    def __init__(self, inbox: Inbox, session: Session) -> None:
        self._inbox = inbox
        self._session = session

    def connected(self, session_id: int, timeout: float) -> None:
        self._inbox.post(self._session.on_connected, session_id, timeout)

    def cut(self, reason: str) -> None:
        self._inbox.post(self._session.on_cut, reason)

    def unreachable(self, reason: str) -> None:
        self._inbox.post(self._session.on_unreachable, reason)

    def changed(self, kind: int, path: str) -> None:
        # Whoever writes much hears of each of its records: waking the loop for each would cost more than all the rest.
        self._inbox.add(self._session.on_changed, kind, path)

    def idle(self) -> None:
        self._inbox.wake()

    def ended(self, *, denied: bool) -> None:
        self._inbox.post(self._session.on_ended, denied)


def server_name(target: Target) -> str:
    """What messages call the servers."""
    return f"zookeeper at {','.join(_shown(address.host, address.port) for address in target.addresses)}"


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
