"""What `bind` gives back: configuration as an object of the user's class, always the newest valid one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from sofa_registry_adapters.errors import Closed, CorruptRecord, InvalidArgument, WrongThread
from sofa_registry_adapters.handles import AsyncFieldSubscription, FieldSubscription
from sofa_registry_adapters.model.config import ConfigKey

if TYPE_CHECKING:
    from sofa_registry_adapters.engine.binding import Binding, FieldMailbox
    from sofa_registry_adapters.engine.mailbox import Courier
    from sofa_registry_adapters.engine.session import Session
    from sofa_registry_adapters.typed.layers import Layers

T = TypeVar("T")
Source = str | ConfigKey | tuple[str, str]
"""A key, by itself or with its group."""


class _Bound(Generic[T]):
    """What both kinds share."""

    current: T
    """The newest valid object: an attribute, as quick to read as any. Another push makes another object; keep none for long."""

    def __init__(self, session: Session[Any], binding: Binding[T]) -> None:
        self._session = session
        self._binding = binding
        self._pid = os.getpid()
        self.current = binding.value
        binding.follow(self)

    def __repr__(self) -> str:
        keys = ", ".join(map(str, self.keys))
        state = " closed" if self.closed else " stale" if self.stale else ""
        return f"<{type(self).__name__} {self._binding.model.name} {keys}{state}>"

    def _show(self, value: T) -> None:
        self.current = value

    @property
    def keys(self) -> tuple[ConfigKey, ...]:
        """The sources, in order: later ones override earlier ones."""
        return self._binding.keys

    @property
    def stale(self) -> bool:
        """Whether the config center cannot confirm that ``current`` is what it says: it is away, or this is closed."""
        return self._pid != os.getpid() or self._binding.stale

    @property
    def last_error(self) -> CorruptRecord | None:
        """Why the newest value of some key is not in ``current``; None when it is."""
        return self._binding.error

    @property
    def closed(self) -> bool:
        """Whether ``current`` stays as it is for good."""
        return self._pid != os.getpid() or self._binding.ended

    def _close(self) -> None:
        if self._pid == os.getpid():
            self._binding.close()

    def _listen(self, field: str, callback: Callable[[Any, Any], object], courier: Courier) -> FieldMailbox[T]:
        from sofa_registry_adapters.engine.mailbox import check_listener

        if self.closed:
            raise Closed(f"{self!r} follows nothing any more: bind again")
        waiting = isinstance(self, AsyncBound)
        check_listener(callback, asynchronous=waiting)
        return self._binding.listen(field, callback, courier, self._session.engine, waiting=waiting)


class Bound(_Bound[T]):
    """Configuration as an object of your class. ``current`` is the newest one that was valid; `close` leaves it as it is.

    A push that cannot be parsed, or that the class refuses, changes nothing: `ConfigRejected` names the key, the field and the
    reason, and ``last_error`` has them until a push is good. A removal brings back what the other sources and the defaults say.
    """

    def on(self, field: str, callback: Callable[[Any, Any], object]) -> FieldSubscription:
        """Call ``callback(old, new)`` after each change of the field, ``pool.size``; of a mapping's entry, ``limits.eu``, as well.

        Calls come on a thread of ours, one at a time for each callback, and several quick changes are one: from what it was
        told before to what is there now, which is in ``current`` by then. None is no value. What a callback raises is logged
        and is an event, `ListenerFailed`. Raises `InvalidArgument` for a field that there cannot be.
        """
        return FieldSubscription(self._listen(field, callback, self._session.events.courier))

    def close(self) -> None:
        """Follow the sources no more and call no callback. Idempotent, never blocks."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


class AsyncBound(_Bound[T]):
    """See `Bound`. Values are parsed on a thread of ours; the loop only runs the callbacks."""

    def on(self, field: str, callback: Callable[[Any, Any], object]) -> AsyncFieldSubscription:
        """See `Bound.on`. The callback, plain or async, runs on the loop of the caller; this does not wait."""
        from sofa_registry_adapters.engine.mailbox import LoopCourier

        try:
            courier = LoopCourier()
        except RuntimeError:
            raise WrongThread("the callbacks of an AsyncBound need a running event loop: add them inside one") from None
        return AsyncFieldSubscription(self._listen(field, callback, courier))

    async def aclose(self) -> None:
        """See `Bound.close`."""
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()


def layers_of(model: type[T], sources: Sequence[Source], group: str, *, strict: bool) -> Layers[T]:
    """What `bind` was given, checked. Raises `InvalidArgument`, `MissingDependency`."""
    from sofa_registry_adapters.typed.layers import Layers
    from sofa_registry_adapters.typed.models import model_of

    keys = [
        ConfigKey(*one) if isinstance(one, tuple) and len(one) == 2 else ConfigKey.of(one, group) for one in sources
    ]
    if not keys or len(set(keys)) < len(keys):
        raise InvalidArgument("bind to at least one key, and to each only once")
    return Layers(model_of(model, strict=strict), keys)
