"""Asking several servers the same thing at once: one that hangs costs nothing while most of them answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from sofa_registry_adapters.errors import Refused, RegistryError, Unavailable

T = TypeVar("T")


async def ask_most(
    questions: Iterable[Coroutine[Any, Any, T]], seconds: float
) -> tuple[Sequence[T], Sequence[RegistryError]]:
    """The answers of most of them, or of as many as answer in time, and what others ran into."""
    asking = {asyncio.create_task(question) for question in questions}
    found: list[T] = []
    troubles: list[RegistryError] = []
    waiting = asking
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        while waiting and len(found) <= len(asking) // 2:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                try:
                    found.append(task.result())
                except RegistryError as error:
                    troubles.append(error)
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            # What they still run into is of no interest, and would be logged if nobody looked at it.
            await asyncio.gather(*waiting, return_exceptions=True)
    return found, troubles


def gravest(troubles: Sequence[RegistryError], group: str) -> RegistryError:
    """Why nobody gave an answer. A refusal is said only if nobody was silent who might know better."""
    refusals = [one for one in troubles if isinstance(one, Refused)]
    if refusals and len(refusals) == len(troubles):
        return refusals[0]
    first = f": {troubles[0]}" if troubles else ""
    return Unavailable(f"none of {group} answers{first}")
