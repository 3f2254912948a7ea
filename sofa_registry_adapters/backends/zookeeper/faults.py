"""ZooKeeper's error codes as errors of this library."""

from __future__ import annotations

from sofa_registry_adapters.backends.zookeeper import wire
from sofa_registry_adapters.errors import (
    Conflict,
    Denied,
    InvalidArgument,
    Refused,
    RegistryError,
    Unavailable,
    Unsupported,
)

_NEEDS = "this backend needs ZooKeeper 3.6 or later, whose watches are persistent"

ERRORS: dict[int, tuple[type[RegistryError], str]] = {
    -1: (Unavailable, "the server has an internal error"),
    wire.CONNECTION_LOSS: (Unavailable, "the connection was lost"),
    -5: (Refused, "the server cannot read the request"),
    wire.UNIMPLEMENTED: (Unsupported, f"the server does not know the request: {_NEEDS}"),
    -7: (Unavailable, "the operation timed out"),
    -8: (InvalidArgument, "the path is not allowed"),
    wire.NO_NODE: (Unavailable, "its parent vanished again and again"),
    wire.NO_AUTH: (Denied, "no permission: check the URL's user and password, and the access list of the parents"),
    wire.BAD_VERSION: (Conflict, "the version moved"),
    -108: (Refused, "its parent is an owned record, which cannot have children"),
    wire.NODE_EXISTS: (Conflict, "it exists"),
    wire.NOT_EMPTY: (Refused, "it has children"),
    wire.SESSION_EXPIRED: (Unavailable, "the session expired"),
    -114: (Denied, "the access list is not valid: acl=creator needs credentials that the server accepts"),
    wire.AUTH_FAILED: (Denied, "the server refused the credentials"),
    -118: (Unavailable, "the session moved to another server"),
    -119: (Unavailable, "the server is read-only: it lost its quorum"),
    -122: (Unavailable, "the server dropped the request as too old"),
    -124: (Denied, "the server demands a login by SASL: see the option sasl"),
    -125: (Refused, "the server's quota is used up"),
    -127: (Unavailable, "the server throttles requests"),
}


def explained(code: int, server: str, what: str = "") -> RegistryError:
    """The error for a code; ``what`` names the record, where it is about one."""
    kind, sentence = ERRORS.get(code, (Refused, f"the server answered with the error {code}"))
    return kind(f"{server}: {what}: {sentence}" if what else f"{server}: {sentence}")
