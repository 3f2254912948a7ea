"""Knowing that a publication comes from inside a listener, or a callback, of the very key that is published."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from sofa_registry_adapters.model.config import ConfigKey

Place = tuple[object, tuple[ConfigKey, ...]]
"""An engine, and keys that are listened to there."""
Listener = Callable[[Any], Any]

_PLACE: ContextVar[Place | None] = ContextVar("sofa_registry_listening", default=None)


def inside(engine: object, key: ConfigKey) -> bool:
    """Whether the caller is called by a listener of the key on this engine, or was begun by one."""
    place = _PLACE.get()
    return place is not None and place[0] is engine and key in place[1]


def placed(listener: Listener, engine: object, *keys: ConfigKey, asynchronous: bool) -> Listener:
    """The listener, such that `inside` recognises what it does."""

    @functools.wraps(listener, updated=())
    def blocking(change: object) -> object:
        token = _PLACE.set((engine, keys))
        try:
            return listener(change)
        finally:
            _PLACE.reset(token)

    @functools.wraps(listener, updated=())
    async def waiting(change: object) -> None:
        token = _PLACE.set((engine, keys))
        try:
            answer = listener(change)
            if inspect.isawaitable(answer):
                await answer
        finally:
            _PLACE.reset(token)

    chosen: Listener = waiting if asynchronous else blocking
    # By this name a listener that fails is reported; what has none of its own is shown as it is.
    chosen.__qualname__ = getattr(listener, "__qualname__", repr(listener))
    return chosen
