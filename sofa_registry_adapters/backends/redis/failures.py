"""What the client library raises, as errors of this library. Messages name the server, never a password."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator

from redis import exceptions

from sofa_registry_adapters.errors import Denied, Refused, RegistryError, Unavailable


class Moved(Unavailable):
    """Another server has the slot by now; the command was not carried out."""


_BY_CLASS: tuple[tuple[type[Exception], type[RegistryError]], ...] = (
    (exceptions.AuthenticationError, Denied),
    (exceptions.AuthorizationError, Denied),
    (exceptions.NoPermissionError, Denied),
    (exceptions.ConnectionError, Unavailable),
    (exceptions.TimeoutError, Unavailable),
    (exceptions.ReadOnlyError, Unavailable),
    (exceptions.ClusterDownError, Unavailable),
    (exceptions.MovedError, Moved),
    (exceptions.AskError, Unavailable),
    (exceptions.TryAgainError, Unavailable),
    (OSError, Unavailable),
    (EOFError, Unavailable),
)
_BY_CODE = {
    "NOAUTH": Denied,
    "NOPERM": Denied,
    "WRONGPASS": Denied,
    "READONLY": Unavailable,
    "LOADING": Unavailable,
    "MASTERDOWN": Unavailable,
    "NOREPLICAS": Unavailable,
    "CLUSTERDOWN": Unavailable,
    "BUSY": Unavailable,
    "UNBLOCKED": Unavailable,
}
_REPEATS = "with args beginning with"
_HINTS = (
    ("WRONG_VERSION_NUMBER", "it seems to speak without TLS: write redis instead of rediss for that"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate has to have this name, and to be signed by one in the option ca"),
    ("Protocol Error", "what listens there does not speak Redis' protocol: correct the port"),
    ("SENTINEL", "it is no Sentinel: for one server write redis://"),
    ("cluster support disabled", "it is no node of a cluster: for one server write redis://"),
)


def translate(error: Exception, where: str) -> RegistryError:
    """The error of this library for one of the client library, about the server ``where``."""
    if isinstance(error.__context__, OSError):
        # The client library hides what TLS has to say, and puts that of the system into words that repeat the address.
        error = error.__context__
    text = _told(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    text += "".join(f": {hint}" for words, hint in _HINTS if words in text)
    for kind, ours in _BY_CLASS:
        if isinstance(error, kind):
            return ours(f"redis at {where}: {text}")
    # What a script ran into has its code at the start, or behind the script's own complaint.
    if "user executing the script" in text:
        return Denied(f"redis at {where}: {text}")
    words = text.replace("-", " ").split()
    for word in words:
        if word in _BY_CODE:
            return _BY_CODE[word](f"redis at {where}: {text}")
    return Refused(f"redis at {where} refused: {text}")


def _told(error: Exception) -> str:
    """What the error says, without what was sent: a server that does not know AUTH repeats the password."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        return os.strerror(error.errno) if error.errno > 0 else error.strerror or ""
    text, repeats, _ = str(error).partition(_REPEATS)
    if repeats:
        text = text.rstrip(", ")
        # It is the cause of ours, and shown with it.
        error.args = (text,)
    return text


@contextlib.contextmanager
def translating(where: str) -> Iterator[None]:
    """Raise what the client library raises as an error of this library."""
    try:
        yield
    except (exceptions.RedisError, OSError, EOFError) as error:
        raise translate(error, where) from error
