"""What gRPC and the server say went wrong, as errors of this library. No message carries a credential."""

from __future__ import annotations

import grpc
import grpc.aio

from sofa_registry_adapters.backends.nacos.wire import Answer
from sofa_registry_adapters.errors import (
    DeadlineExceeded,
    Denied,
    Refused,
    RegistryError,
    Unavailable,
    Unsupported,
    ValueTooLarge,
)

_BY_STATUS: dict[grpc.StatusCode, type[RegistryError]] = {
    grpc.StatusCode.UNAUTHENTICATED: Denied,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ValueTooLarge,
}
_NOT_NACOS = "it does not speak Nacos' gRPC interface, which begins with Nacos 2.0"
_HINTS = (
    ("Failed parsing HTTP/2", f"{_NOT_NACOS}: correct the port"),
    ("Handshake read failed", "if it speaks without TLS, write nacos://"),
    ("WRONG_VERSION_NUMBER", "it seems to speak without TLS: write nacos:// for that"),
)
FORBIDDEN = 403
_BY_CODE: dict[int, type[RegistryError]] = {
    FORBIDDEN: Denied,
    401: Denied,
    # The server is starting, shutting down, or without a leader.
    300: Unavailable,
    302: Unavailable,
    503: Unavailable,
}


def explained(error: Exception, where: str) -> RegistryError:
    """The error of this library for one of gRPC, about the server ``where``."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return Unavailable(f"{where}: the connection is over ({type(error).__name__})")
    status = error.code()
    kind = _BY_STATUS.get(status, Unavailable)
    text = _NOT_NACOS if kind is Unsupported else " ".join(str(error.details() or status.name).split())[:300]
    return kind(f"{where}: {text}" + "".join(f": {hint}" for words, hint in _HINTS if words in text))


def refusal(answer: Answer, where: str, what: str) -> RegistryError:
    """The error for an answer that is none; ``what`` was asked."""
    kind = _BY_CODE.get(answer.error_code, Refused)
    code = answer.error_code or answer.result_code
    text = " ".join((answer.message or "no reason given").split())[:300]
    return kind(f"{where} refuses {what} with {code}: {text}")
