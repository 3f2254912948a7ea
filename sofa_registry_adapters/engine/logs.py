"""The one logger. Silent unless the application sets logging up; no payload at INFO, no secret ever."""

from __future__ import annotations

import logging

logger: logging.Logger = logging.getLogger("sofa_registry_adapters")
logger.addHandler(logging.NullHandler())
