"""What grpc and the server say, as errors of this library. Messages name the server, never a password."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc

from sofa_registry_adapters.errors import (
    Denied,
    Refused,
    RegistryError,
    Unavailable,
    Unsupported,
    ValueTooLarge,
)


class LeaseOver(Unavailable):
    """The lease that a write was made under is gone, and all records with it."""


_BY_CODE: dict[Any, type[RegistryError]] = {
    grpc.StatusCode.UNAUTHENTICATED: Denied,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.INVALID_ARGUMENT: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.NOT_FOUND: Refused,
    grpc.StatusCode.ALREADY_EXISTS: Refused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Refused,
}
"""All others tell nothing about what became of the request: `Unavailable`."""

_BY_TEXT: tuple[tuple[str, type[RegistryError], str], ...] = (
    ("authentication failed", Denied, "check the URL's user and password"),
    ("user name is empty", Denied, "it wants a user and a password: write etcd://user:password@host"),
    ("auth: user name not found", Denied, "check the URL's user"),
    ("permission denied", Denied, "the user needs a role with readwrite on the prefix, or read to look only"),
    ("invalid auth token", Denied, "the token is over"),
    ("revision of auth store is old", Denied, "the token is over"),
    ("request is too large", ValueTooLarge, "the server's --max-request-bytes is the limit"),
    ("message larger than max", ValueTooLarge, "the server's --max-request-bytes is the limit"),
    ("database space exceeded", Refused, "compact and defragment it, then etcdctl alarm disarm"),
    ("too many requests", Unavailable, ""),
    ("requested lease not found", LeaseOver, "it ended, and its records with it"),
    ("Failed parsing HTTP/2", Unavailable, "what listens there does not speak etcd's protocol: correct the port"),
    ("WRONG_VERSION_NUMBER", Unavailable, "it seems to speak without TLS: write etcd:// for that"),
    ("CERTIFICATE_VERIFY_FAILED", Unavailable, "its certificate is not signed by one in the option ca"),
)
_TOKEN = ("invalid auth token", "revision of auth store is old", "user name is empty")


def translate(error: Exception, where: str) -> RegistryError:
    """The error of this library for one of grpc, about the server ``where``."""
    if isinstance(error, RegistryError):
        return error
    code, text = _said(error)
    for words, kind, hint in _BY_TEXT:
        if words in text:
            return kind(f"etcd at {where}: {text}" + (f": {hint}" if hint else ""))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        text = "no answer in time"
    return _BY_CODE.get(code, Unavailable)(f"etcd at {where}: {text}")


def _said(error: Exception) -> tuple[Any, str]:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code(), " ".join(str(error.details() or error.code().name).split())
    return None, f"{type(error).__name__}: {error}"


def is_token(error: BaseException | None) -> bool:
    """Whether a call was refused for the token it was made with, so that a new one would do."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return False
    text = error.details() or ""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED or any(words in text for words in _TOKEN)


def says(error: BaseException | None, words: str) -> bool:
    """Whether a call was refused with these words."""
    return isinstance(error, grpc.aio.AioRpcError) and words in (error.details() or "")


def of_connection(error: BaseException | None) -> bool:
    """Whether the connection is at fault, and not what was asked."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}
    return isinstance(error, Unavailable)


def of_member(error: BaseException | None) -> bool:
    """Whether the server could be reached, and another one of its cluster may do better."""
    return says(error, "etcdserver:")


def again(error: RegistryError) -> RegistryError:
    """The same error, to be raised once more."""
    copied = type(error)(*error.args)
    copied.__cause__ = error.__cause__
    return copied


@contextlib.contextmanager
def translating(where: str) -> Iterator[None]:
    """Raise what grpc raises as an error of this library."""
    try:
        yield
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
        raise translate(error, where) from error
    except asyncio.CancelledError:
        # grpc cancels whoever waits for a call on a channel that is closed: nobody cancelled the task.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable(f"etcd at {where}: the connection was closed") from None
