"""The one logger. Silent unless the application sets logging up; no payload at INFO, no secret ever."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Adapter = logging.LoggerAdapter[logging.Logger]
else:
    Adapter = logging.LoggerAdapter


class _Harmless(Adapter):
    """Says what there is to say, and goes on if a filter or a handler of the application raises: no heartbeat ends for want of a log."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        try:
            # What called this one is of logging, which does not count.
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})
        except Exception:  # noqa: BLE001  it is theirs, and they are told as `logging` tells of its own
            if logging.raiseExceptions:
                with contextlib.suppress(Exception):
                    traceback.print_exc()


_LOGGER = logging.getLogger("sofa_registry_adapters")
_LOGGER.addHandler(logging.NullHandler())
logger: Adapter = _Harmless(_LOGGER, {})
