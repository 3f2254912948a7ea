"""What a backend raises and no backend may: said as a defect of it, with its type, and never as an outage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sofa_registry_adapters.engine.logs import logger
from sofa_registry_adapters.engine.reactor import Closable, bounded
from sofa_registry_adapters.errors import BackendDefect, RegistryError


def defect(name: str, doing: str, error: BaseException) -> BackendDefect:
    """The error to tell of what ``name`` raised while ``doing``; the log gets the traceback."""
    logger.error("%s failed while %s, in a way that is a defect of the backend", name, doing, exc_info=error)
    made = BackendDefect(
        f"{name} failed while {doing}, and that is a defect of the backend: {type(error).__name__}: {error}. "
        "Report it to the backend's author; the log has the traceback"
    )
    made.__cause__ = error
    return made


@contextlib.contextmanager
def told_as_defects(name: str, doing: str) -> Iterator[None]:
    """Raise `BackendDefect` for what the body raises and no backend may."""
    try:
        yield
    except RegistryError:
        raise
    except Exception as error:
        raise defect(name, doing, error) from error


async def close_backend(backend: Closable, name: str, seconds: float) -> None:
    """Close it, within so many seconds. What it raises is for the log: whoever closes goes on closing."""
    try:
        async with bounded(seconds, "closing"):
            await backend.close()
    except RegistryError as error:
        logger.info("%s was not closed in good order: %s", name, error)
    except Exception as error:  # noqa: BLE001  a backend's bug must not keep the rest open
        defect(name, "closing", error)
