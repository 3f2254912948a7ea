"""What a bound model follows: its sources, the swap of its value, and the callbacks of its fields."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial, wraps
from typing import Any, Generic, Protocol, TypeVar, cast

from sofa_registry_adapters.engine.config_core import ConfigEngine
from sofa_registry_adapters.engine.config_loops import placed
from sofa_registry_adapters.engine.config_mirror import ConfigMailbox
from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.mailbox import Courier, Events, Pending, ThreadCourier
from sofa_registry_adapters.engine.session import Session
from sofa_registry_adapters.errors import CorruptRecord, Unavailable
from sofa_registry_adapters.model.config import ConfigChange, ConfigItem, ConfigKey
from sofa_registry_adapters.model.events import ConfigRejected
from sofa_registry_adapters.model.guarded import Guarded
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.worker import started
from sofa_registry_adapters.typed.bounds import Unusable
from sofa_registry_adapters.typed.layers import Layers, Rejection
from sofa_registry_adapters.typed.models import value_at

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
GRACE = 1.0
"""Seconds that a center gets to tell what is not required."""
REPEAT_AFTER = 60.0
"""Seconds before the same rejection is logged again."""

Callback = Callable[[Any, Any], object]
"""Told what a field was and what it is."""


class Shown(Protocol[T_contra]):
    """Where users read the value."""

    def _show(self, value: T_contra) -> None: ...


class FieldMailbox(Pending[tuple[T, T]]):
    """The objects before and after the changes that one callback has not seen yet."""

    def __init__(self, guard: Guarded, field: str, now: T, forget: Callable[[Any], None]) -> None:
        super().__init__(guard, field, forget, known=False)
        self._told = self._now = now

    def put_locked(self, value: T) -> None:
        """Under the lock: there is another object."""
        self._now, self._news = value, True

    def _take_locked(self) -> tuple[T, T]:
        told, self._told = self._told, self._now
        return told, self._now


class Binding(Guarded, Generic[T]):
    """The newest valid object of some sources. Parsing and validating happen on a thread of ours, one change at a time."""

    def __init__(self, layers: Layers[T], mailboxes: Sequence[ConfigMailbox], events: Events, clock: Clock) -> None:
        super().__init__()
        self.closed: bool = False
        self.error: CorruptRecord | None = None
        """Why the newest value of some source is not used."""
        self.value: T
        self.model = layers.model
        self.keys: tuple[ConfigKey, ...] = layers.keys
        self._layers = layers
        self._mailboxes = mailboxes
        self._events = events
        self._clock = clock
        self._shown: Shown[T] | None = None
        self._fields: tuple[FieldMailbox[T], ...] = ()
        self._courier = ThreadCourier()
        self._running = self._again = False
        self._reported: tuple[Rejection | None, float] = (None, 0.0)

    @property
    def stale(self) -> bool:
        """Whether there may be a newer value that nobody has told us of."""
        return self.ended or any(one.stale for one in self._mailboxes)

    @property
    def ended(self) -> bool:
        """Whether it follows nothing any more."""
        return self.closed or any(one.closed for one in self._mailboxes)

    # The first object.

    def begin(self, *, required: bool) -> None:
        """Make the first object, in this thread. Raises `CorruptRecord`, `Unavailable`, `MissingDependency`.

        Unless it is ``required`` that everything known can be used, what can be used is, over the defaults.
        """
        try:
            changes = [_latest(one) for one in self._mailboxes]
            items = [None if one is None else one.item for one in changes]
            answer = self._layers.start(items)
            if isinstance(answer, Rejection):
                if required:
                    raise answer.error(self.model.name)
                answer = self._salvage(items, answer, known=None not in changes)
            self.value = answer
        except BaseException:
            self.close()
            raise

    def _salvage(self, items: Sequence[ConfigItem | None], mistake: Rejection, *, known: bool) -> T:
        found: list[T] = []
        try:
            found.append(self._layers.defaults())
        except Unusable as error:
            if not known:
                keys = ", ".join(map(str, self.keys))
                raise Unavailable(
                    f"not all is known of {keys}, and {self.model.name} has no defaults for that: {error}"
                ) from None
        for index, item in enumerate(items):
            answer = self._layers.change(index, item)
            if isinstance(answer, Rejection):
                self._note(answer)
            else:
                found.append(answer)
        if not found:
            raise mistake.error(self.model.name)
        return found[-1]

    # Following.

    def follow(self, shown: Shown[T]) -> None:
        """From now on use what comes, and show it there."""
        self._shown = shown
        for one in self._mailboxes:
            one.on_news(self._wake)

    def _wake(self) -> None:
        with self.locked():
            if self._running or self.ended:
                self._again = True
                return
            self._running = True
        try:
            self._courier.carry(self._next, self._apply, self._events.failed)
        except BaseException:
            self._running = False
            raise

    def _next(self) -> tuple[int, ConfigChange] | None:
        while True:
            for index, one in enumerate(self._mailboxes):
                change = one.take()
                if change is not None:
                    return index, change
            with self.locked():
                if not self._again:
                    self._running = False
                    return None
                self._again = False

    def _apply(self, step: tuple[int, ConfigChange]) -> None:
        answer = self._layers.change(step[0], step[1].item)
        if isinstance(answer, Rejection):
            self._note(answer)
        else:
            self._swap(answer)

    def _swap(self, value: T) -> None:
        with self.locked():
            if self.closed:
                return
            self.value = value
            if self._shown is not None:
                self._shown._show(value)  # noqa: SLF001  nobody else is to set it
            fields = self._fields
            for one in fields:
                one.put_locked(value)
        self._settle()
        for one in fields:
            one.nudge()

    def _note(self, rejection: Rejection) -> None:
        self._settle()
        now = self._clock.monotonic()
        if self._reported[0] != rejection or now - self._reported[1] > REPEAT_AFTER:
            self._reported = rejection, now
            logger.warning("the value of %s is not used for %s: %s", rejection.key, self.model.name, rejection.reason)
        self._events.emit(ConfigRejected(rejection.key, rejection.reason, rejection.field))

    def _settle(self) -> None:
        rejection = self._layers.rejection
        self.error = None if rejection is None else rejection.error(self.model.name)

    # Callbacks.

    def listen(
        self, field: str, callback: Callback, courier: Courier, engine: object, *, waiting: bool
    ) -> FieldMailbox[T]:
        """Call ``callback`` with each change of the field. Raises `InvalidArgument`."""
        steps = self.model.steps(field)
        with self.locked():
            mailbox = FieldMailbox(self, field, self.value, self._forget)
            self._fields = (*self._fields, mailbox)
        listener = placed(_comparing(callback, steps), engine, *self.keys, asynchronous=waiting)
        mailbox.deliver(courier, listener, self._events.failed)
        return mailbox

    def _forget(self, mailbox: FieldMailbox[T]) -> None:
        with self.locked():
            self._fields = tuple(one for one in self._fields if one is not mailbox)

    def close(self) -> None:
        """Follow nothing and call nobody any more. Any thread, any number of times."""
        with self.locked():
            self.closed = True
            places: tuple[Pending[Any], ...] = (*self._mailboxes, *self._fields)
        for one in places:
            one.close()


def _latest(mailbox: ConfigMailbox) -> ConfigChange | None:
    """What there is to know, all of it; None if there is nothing yet."""
    latest = None
    while (change := mailbox.take()) is not None:
        latest = change
    return latest


def _comparing(callback: Callback, steps: Sequence[str]) -> Callable[[tuple[object, object]], object]:
    """The callback, called with what the field was and is, if that differs."""

    @wraps(callback, updated=())
    def told(objects: tuple[object, object]) -> object:
        old, new = (value_at(one, steps) for one in objects)
        return None if _same(old, new) else callback(old, new)

    return told


def _same(old: object, new: object) -> bool:
    try:
        return old is new or bool(old == new)
    except Exception:  # noqa: BLE001  what cannot be compared counts as changed
        return False


async def bind_all(
    session: Session[ConfigEngine], layers: Layers[T], clock: Clock, timeout: float, *, required: bool
) -> Binding[T]:
    """A binding that follows all keys; see `ConfigEngine.attach`. Raises what the first of them raises, and follows none then."""
    attach = partial(_attach, session.engine, timeout=timeout, required=required)
    attaching = [asyncio.create_task(attach(key)) for key in layers.keys]
    try:
        mailboxes = await asyncio.gather(*attaching)
    except BaseException:
        for task in attaching:
            task.cancel()
        for answer in await asyncio.gather(*attaching, return_exceptions=True):
            if isinstance(answer, ConfigMailbox):
                answer.close()
        raise
    return Binding(layers, mailboxes, session.events, clock)


async def _attach(engine: ConfigEngine, key: ConfigKey, *, timeout: float, required: bool) -> ConfigMailbox:
    """Follow a key. What need not be known has a moment to become so: the defaults are for centers that are away."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    mailbox = cast("ConfigMailbox", await engine.attach(key, timeout, required=required))
    try:
        # Not by the mailbox: whom it wakes must fetch the news, and that is for the binding to do.
        await engine.wait_known(key, min(GRACE, deadline - loop.time()))
    except BaseException:
        mailbox.close()
        raise
    return mailbox


async def begin_aside(binding: Binding[T], *, required: bool) -> None:
    """`Binding.begin` on a thread of ours: an application's loop does not stop for it. Who does not wait for it has no binding.

    Raises `Unavailable` where there is no thread to be had.
    """
    begun: Future[None] = Future()

    def begin() -> None:
        try:
            binding.begin(required=required)
        except BaseException as error:  # noqa: BLE001  whoever waits is to have it
            begun.set_exception(error)
        else:
            begun.set_result(None)

    try:
        started(threading.Thread(target=begin, name="sofa-registry-listener", daemon=True))
        await asyncio.shield(asyncio.wrap_future(begun))
    except BaseException:
        binding.close()
        raise
