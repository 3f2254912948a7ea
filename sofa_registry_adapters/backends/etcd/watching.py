"""One stream for all watches of a store, and what is collected for one who reads a watch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from sofa_registry_adapters.backends.etcd import messages
from sofa_registry_adapters.backends.etcd.connecting import Conversation
from sofa_registry_adapters.backends.etcd.failures import again
from sofa_registry_adapters.backends.etcd.keys import Span
from sofa_registry_adapters.backends.etcd.link import Link
from sofa_registry_adapters.backends.etcd.messages import Message, kv, rpc
from sofa_registry_adapters.backends.etcd.reading import Witness
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.spi.flag import Flag

WATCH = messages.call("Watch", "Watch")
DELETED = kv.Event.DELETE


class Listener(Protocol):
    """Who is told of one watch."""

    def opened(self) -> None:
        """The server watches."""
        ...

    def changed(self, events: Sequence[Message]) -> None:
        """Changes, in order; each key may be in it several times."""
        ...

    def compacted(self) -> None:
        """The server has forgotten what came next: read, and watch from there. The watch is over."""
        ...

    def cut(self, reason: RegistryError) -> None:
        """The watch is over."""
        ...


class Watch:
    """One watch on the server. ``id`` is -1 until the server has given it one."""

    __slots__ = ("id", "listener", "over", "parts")

    def __init__(self, listener: Listener) -> None:
        self.id = -1
        self.listener = listener
        self.over = False
        self.parts: list[Message] = []


class Stream:
    """All watches over the connection that there is; a cut ends all of them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._conversation: Conversation | None = None
        self._asked: deque[Watch] = deque()
        self._watches: dict[int, Watch] = {}

    def watch(self, listener: Listener, span: Span, start: int) -> Watch:
        """Tell the listener of all changes from the revision ``start`` on. Raises `Unavailable` without a connection."""
        if self._conversation is not None and self._conversation.token != self._link.token:
            # A server looks at the token that the stream began with.
            self._link.leave(self._conversation)
            self._cut(Unavailable("the token of the watches was over"))
        if self._conversation is None:
            self._conversation = self._link.converse(WATCH, self._heard, self._cut)
        request = rpc.WatchCreateRequest(key=span.first, range_end=span.end, start_revision=start, fragment=True)
        self._conversation.say(rpc.WatchRequest(create_request=request))
        watch = Watch(listener)
        self._asked.append(watch)
        return watch

    def end(self, watch: Watch) -> None:
        """Tell the listener of nothing any more."""
        watch.over = True
        # After a cut another watch may have its number.
        if self._watches.get(watch.id) is watch:
            del self._watches[watch.id]
            self._cancel(watch.id)

    def _cancel(self, number: int) -> None:
        if self._conversation is not None:
            self._conversation.say(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=number)))

    def _heard(self, response: Message) -> None:
        if response.created:
            self._created(response)
        elif response.canceled:
            watch = self._watches.pop(response.watch_id, None)
            if watch is not None:
                _end(watch, response)
        elif response.events:
            watch = self._watches.get(response.watch_id)
            if watch is not None:
                _deliver(watch, response)

    def _created(self, response: Message) -> None:
        # They are answered in the order in which they were asked for.
        watch = self._asked.popleft()
        if response.canceled:
            _end(watch, response)
        elif watch.over:
            self._cancel(response.watch_id)
        else:
            watch.id = response.watch_id
            self._watches[watch.id] = watch
            watch.listener.opened()

    def _cut(self, reason: RegistryError) -> None:
        watches = [*self._watches.values(), *self._asked]
        self._conversation = None
        self._watches.clear()
        self._asked.clear()
        for watch in watches:
            if not watch.over:
                watch.over = True
                watch.listener.cut(again(reason))


def _end(watch: Watch, response: Message) -> None:
    """The server has ended a watch, or not begun it."""
    if watch.over:
        return
    watch.over = True
    if response.compact_revision:
        watch.listener.compacted()
        return
    reason = response.cancel_reason or "it gave no reason"
    kind = Denied if "permission denied" in reason else Unavailable
    watch.listener.cut(kind(f"etcd ended a watch: {reason}"))


def _deliver(watch: Watch, response: Message) -> None:
    if response.fragment:
        watch.parts.append(response)
        return
    events: Sequence[Message] = response.events
    if watch.parts:
        parts, watch.parts = watch.parts, []
        events = [event for part in (*parts, response) for event in part.events]
    watch.listener.changed(events)


class Feed:
    """The changes of one watch, until somebody takes them: the last one of each key.

    ``count`` is how many keys there are at ``revision``, the last that was taken, and ``witness`` the newest of them that is
    known.
    """

    def __init__(self, revision: int, count: int, witness: Witness | None) -> None:
        self.revision = revision
        self.count = count
        self.witness = witness
        self._coming = (revision, count)
        self._events: dict[bytes, Message] = {}
        self._error: RegistryError | None = None
        self._forgotten = False
        self._is_open = False
        self._woken = Flag()

    def opened(self) -> None:
        self._is_open = True
        self._woken.set()

    def changed(self, events: Sequence[Message]) -> None:
        count = self._coming[1]
        for event in events:
            changed = event.kv
            if event.type == DELETED:
                count -= 1
            elif changed.create_revision == changed.mod_revision:
                count += 1
            # Taken out first: the order is that of the last changes.
            self._events.pop(changed.key, None)
            self._events[changed.key] = event
        self._coming = events[-1].kv.mod_revision, count
        self._woken.set()

    def compacted(self) -> None:
        self._forgotten = True
        self._woken.set()

    def cut(self, reason: RegistryError) -> None:
        self._error = reason
        self._woken.set()

    async def begun(self) -> None:
        """Return when the server watches, or has forgotten. Raises what the watch was cut with."""
        while not (self._is_open or self._forgotten):
            await self._next()

    async def take(self) -> Sequence[Message] | None:
        """What changed since, at least one; None if the server has forgotten it. Raises what the watch was cut with."""
        while not self._events:
            if self._forgotten:
                return None
            await self._next()
        events, self._events = list(self._events.values()), {}
        self.revision, self.count = self._coming
        written = next((one.kv for one in reversed(events) if one.type != DELETED), None)
        self.witness = Witness.of(written) if written is not None else self.witness
        return events

    async def _next(self) -> None:
        if self._error is None:
            self._woken.clear()
            await self._woken.wait()
        if self._error is not None:
            raise self._error
