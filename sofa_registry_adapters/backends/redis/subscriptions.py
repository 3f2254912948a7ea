"""One connection for the messages of all watches. When it is cut, all of them are told, and nothing reconnects."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Sequence

from redis.exceptions import ResponseError

from sofa_registry_adapters.backends.redis.connecting import GOODBYE_SECONDS, Link, part
from sofa_registry_adapters.backends.redis.failures import translate, translating
from sofa_registry_adapters.backends.redis.keys import Path, Topic
from sofa_registry_adapters.errors import RegistryError, Unavailable
from sofa_registry_adapters.spi.flag import Flag

INBOX_MESSAGES = 1000
INBOX_BYTES = 16_000_000
"""What waits for a slow reader at most; beyond it the messages are dropped and it catches up."""


class Inbox:
    """The messages that wait for one watch, and the buckets it has to look at again."""

    def __init__(self) -> None:
        self._messages: list[tuple[Path, bytes]] = []
        self._size = 0
        self._doubtful: set[Path] = set()
        self._overflowed = False
        self._error: RegistryError | None = None
        self._wake = Flag()

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._wake.is_set()

    def put(self, path: Path, data: bytes) -> None:
        """Add a message."""
        if len(self._messages) >= INBOX_MESSAGES or self._size + len(data) > INBOX_BYTES:
            self._messages.clear()
            self._size = 0
            self._overflowed = True
        if not self._overflowed:
            self._messages.append((path, data))
            self._size += len(data)
        self._wake.set()

    def doubt(self, *paths: Path) -> None:
        """Let the watch look at these buckets again, at all of its buckets if none is named."""
        self._doubtful.update(paths)
        self._overflowed |= not paths
        self._wake.set()

    def cut(self, error: RegistryError) -> None:
        """End the watch with this error."""
        self._error = error
        self._wake.set()

    async def take(self) -> tuple[Sequence[tuple[Path, bytes]], Collection[Path] | None]:
        """Wait until something is there; the messages, and the doubtful buckets, None for all of them."""
        await self._wake.wait()
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        self._wake.clear()
        messages, doubtful = tuple(self._messages), None if self._overflowed else frozenset(self._doubtful)
        self._messages.clear()
        self._size = 0
        self._doubtful.clear()
        self._overflowed = False
        return messages, doubtful


class Feed:
    """The connection, and who listens to what."""

    def __init__(self, link: Link, where: str, path_of: Callable[[bytes], Path | None], patience: float) -> None:
        self.where = where
        self.home: str = link.home
        self.error: RegistryError | None = None
        self._connection = link.connection
        self._path_of = path_of
        self._patience = patience
        self._listeners: dict[Topic, dict[Inbox, asyncio.Future[None]]] = {}
        self._subscribed: dict[Topic, asyncio.Future[None]] = {}
        self._unanswered: deque[tuple[Topic, asyncio.Future[None]]] = deque()
        self._asked: float | None = None
        self._sending = asyncio.Lock()
        self._reader = asyncio.create_task(self._read(), name="redis messages")

    @property
    def idle(self) -> bool:
        """Whether nobody listens."""
        return not self._listeners

    async def listen(self, inbox: Inbox, topics: Sequence[Topic]) -> None:
        """From the return of this on, every message of the topics reaches the inbox."""
        answers = []
        for topic in topics:
            listeners = self._listeners.setdefault(topic, {})
            first = not listeners
            if first:
                self._subscribed[topic] = asyncio.get_running_loop().create_future()
                self._unanswered.append((topic, self._subscribed[topic]))
            listeners[inbox] = self._subscribed[topic]
            answers.append(self._subscribed[topic])
            if first:
                await self._send("PSUBSCRIBE" if topic.pattern else "SUBSCRIBE", topic.name)
        for answer in answers:
            await asyncio.shield(answer)

    async def leave(self, inbox: Inbox, topics: Sequence[Topic]) -> None:
        """No more messages for the inbox. Never raises."""
        for topic in topics:
            listeners = self._listeners.get(topic, {})
            listeners.pop(inbox, None)
            if topic in self._listeners and not listeners:
                del self._listeners[topic]
                self._subscribed.pop(topic)
                with contextlib.suppress(RegistryError, TimeoutError):
                    async with asyncio.timeout(GOODBYE_SECONDS):
                        await self._send("PUNSUBSCRIBE" if topic.pattern else "UNSUBSCRIBE", topic.name)

    async def probe(self, now: float) -> None:
        """Ask for a sign of life; ``now`` is monotonic seconds. Raises `Unavailable` if one is overdue."""
        if self._asked is not None:
            if now - self._asked < self._patience:
                return
            self.cut(Unavailable(f"redis at {self.where} is silent on the connection for messages"))
        if self.error is None:
            self._asked = now
            await self._send("PING")
        if self.error is not None:
            raise Unavailable(*self.error.args)

    async def close(self) -> None:
        """End the connection and its task. Never raises; may be called twice."""
        self.cut(Unavailable(f"the connection for messages to redis at {self.where} was closed"))
        await asyncio.wait((self._reader,), timeout=2 * GOODBYE_SECONDS)
        await part(self._connection)

    def cut(self, error: RegistryError) -> None:
        """The connection is gone: tell everybody."""
        if self.error is not None:
            return
        self.error = error
        for _, answer in self._unanswered:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # nobody may be waiting
        self._unanswered.clear()
        for listeners in self._listeners.values():
            for inbox in listeners:
                inbox.cut(error)
        if asyncio.current_task() is not self._reader:
            self._reader.cancel()

    async def _send(self, *command: str | bytes) -> None:
        async with self._sending:
            # The client library would connect again, silently, to send on a connection that is gone.
            if self.error is not None:
                raise Unavailable(*self.error.args)
            try:
                with translating(self.where):
                    async with asyncio.timeout(self._patience):
                        await self._connection.send_command(*command)
            except RegistryError as error:
                self.cut(error)
                raise

    async def _read(self) -> None:
        try:
            while True:
                try:
                    answer = await self._connection.read_response()
                except ResponseError as error:
                    self._refuse(translate(error, self.where))
                else:
                    self._dispatch(answer)
        except Exception as error:  # noqa: BLE001  whatever it is, the watches have to know
            self.cut(Unavailable(str(translate(error, self.where))))
        finally:
            self.cut(Unavailable(f"the connection for messages to redis at {self.where} ended"))
            await part(self._connection)

    def _dispatch(self, answer: object) -> None:
        match answer:
            case [b"message", bytes(channel), bytes(data)]:
                self._deliver(Topic(channel), channel, data)
            case [b"pmessage", bytes(pattern), bytes(channel), bytes(data)]:
                self._deliver(Topic(pattern, pattern=True), channel, data)
            case [b"subscribe" | b"psubscribe" as kind, bytes(name), _]:
                self._confirm(Topic(name, pattern=kind == b"psubscribe"))
            case b"PONG" | [b"pong", _]:
                self._asked = None

    def _deliver(self, topic: Topic, channel: bytes, data: bytes) -> None:
        path = self._path_of(channel)
        if path is not None:
            for inbox in self._listeners.get(topic, ()):
                inbox.put(path, data)

    def _confirm(self, topic: Topic) -> None:
        # Every answer to a subscription means: messages before it may be lost.
        for inbox, answer in self._listeners.get(topic, {}).items():
            if answer.done():
                inbox.doubt()
        if self._unanswered and self._unanswered[0][0] == topic:
            _, answer = self._unanswered.popleft()
            if not answer.done():
                answer.set_result(None)

    def _refuse(self, error: RegistryError) -> None:
        if self._unanswered:
            topic, answer = self._unanswered.popleft()
            if not answer.done():
                answer.set_exception(error)
                answer.exception()
            if self._subscribed.get(topic) is answer:
                # The next one who listens asks again.
                self._subscribed.pop(topic)
                self._listeners.pop(topic, None)
