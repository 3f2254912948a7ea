"""How the demo's processes talk: one line of JSON a message, times on the machine's monotonic clock."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

import msgspec

from sofa_registry_adapters.errors import RegistryError

TIMEOUT = 10.0
"""Seconds for one call of a demo's process."""


class Message(msgspec.Struct, frozen=True):
    """What a process says. ``asked`` and ``at`` are monotonic times, in seconds."""

    what: str
    asked: float = 0.0
    at: float = 0.0
    weights: dict[str, int] = {}
    stale: bool = False
    error: str = ""


def tell(
    what: str, *, asked: float = 0.0, at: float = 0.0, weights: dict[str, int] | None = None, **more: object
) -> None:
    """Say it to whoever runs the demo."""
    message = {"what": what, "asked": asked, "at": at, "weights": weights or {}, **more}
    print(msgspec.json.encode(message).decode(), flush=True)  # noqa: T201  the process's answer


@contextlib.contextmanager
def stage() -> Iterator[None]:
    """A process of the demo: an error is a message, not a traceback."""
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        yield
    except RegistryError as error:
        tell("failed", error=str(error))
        sys.exit(1)
    except (BrokenPipeError, KeyboardInterrupt):
        # Nobody listens any more; Python would complain about that once more at its end.
        os._exit(1)
