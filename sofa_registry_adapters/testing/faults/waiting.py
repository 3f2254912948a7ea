"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 5.0, message: str = "", *, interval: float = 0.01) -> T:
    """The first true value that `predicate` returns, asked again and again for up to `timeout` seconds.

    `interval` seconds lie between two calls. It is asked at least once, and once more at the deadline. What
    it raises passes through.

    Raises:
        AssertionError: it never became true; the text holds `message` and the last value.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        value = predicate()
        if value:
            return value
        if late:
            raise AssertionError(_complaint(message, timeout, value))
        time.sleep(min(interval, max(0.0, deadline - time.monotonic())))


@overload
async def eventually_async(
    predicate: Callable[[], Awaitable[T]],
    timeout: float = ...,
    message: str = ...,
    *,
    interval: float = ...,
) -> T: ...


@overload
async def eventually_async(
    predicate: Callable[[], T], timeout: float = ..., message: str = ..., *, interval: float = ...
) -> T: ...


async def eventually_async(
    predicate: Callable[[], T | Awaitable[T]],
    timeout: float = 5.0,
    message: str = "",
    *,
    interval: float = 0.01,
) -> T:
    """As `eventually`, without blocking the running event loop; `predicate` may be a coroutine function.

    Raises:
        AssertionError: it never became true, or one call of it did not end before the deadline.
    """
    deadline = time.monotonic() + timeout
    last: T | None = None
    while True:
        late = time.monotonic() >= deadline
        answer = predicate()
        if isinstance(answer, Awaitable):
            last = await _before(deadline + interval, answer, message, timeout)
        else:
            last = answer
        if last:
            return last
        if late:
            raise AssertionError(_complaint(message, timeout, last))
        await asyncio.sleep(min(interval, max(0.0, deadline - time.monotonic())))


async def _before(deadline: float, answer: Awaitable[T], message: str, timeout: float) -> T:
    try:
        async with asyncio.timeout(max(0.05, deadline - time.monotonic())):
            return await answer
    except TimeoutError as error:
        text = f"{message or 'a condition'}: one look at it did not end within {timeout:g} s"
        raise AssertionError(text) from error


def _complaint(message: str, timeout: float, last: object) -> str:
    return f"{message or 'a condition never became true'} (waited {timeout:g} s, last value: {last!r})"
