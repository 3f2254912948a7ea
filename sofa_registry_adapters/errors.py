"""What can go wrong, as one tree.

Every error says what happened, where, and what to do. None of them carries a password.

::

    RegistryError
    ├── InvalidArgument (ValueError)      refused before anything was written
    │   ├── InvalidURL                    the registry's URL cannot be used
    │   │   ├── UnknownScheme
    │   │   └── UnknownOption
    │   ├── InvalidName                   a service name, version, group or instance id
    │   ├── UnroutableAddress             0.0.0.0 or loopback, published to a registry elsewhere
    │   └── ValueTooLarge                 more bytes than the product takes
    ├── AlreadyPublished                  this Registry publishes the same id of the same service
    ├── Closed                            a verb after close, or a handle inherited through a fork
    ├── WrongThread                       a blocking verb inside the engine's own callback
    ├── MissingDependency (ImportError)   the client library is not installed
    ├── PluginError                       a plugin cannot be loaded, or two share a name
    ├── BackendDefect                     a backend raised what no backend may
    ├── Unsupported                       the product, or this platform, cannot do it
    │   └── ForkUnsupported               open after the fork, or use spawn
    ├── Unavailable                       the registry cannot be reached, or does not answer
    │   └── DeadlineExceeded (TimeoutError)   not done within its time-out
    └── Refused                           the registry answered, and said no
        ├── Denied                        wrong credentials, or no permission
        ├── Conflict                      somebody else holds the record, or its version moved
        ├── CorruptRecord                 one record cannot be decoded
        └── CorruptStore                  the store's own file is damaged
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self


class RegistryError(Exception):
    """The root of everything that this library raises on purpose."""

    instance_ids: frozenset[str] = frozenset()
    """The instances that it is about, where only some of a service are concerned."""
    also: tuple[RegistryError, ...] = ()
    """Further errors of the same call and service, about other instances."""

    def about(self, instance_ids: frozenset[str]) -> Self:
        """A copy of this error, said of these instances."""
        copied = copy.copy(self)
        copied.instance_ids = instance_ids
        copied.__cause__ = self.__cause__
        return copied

    def beside(self, others: Sequence[RegistryError]) -> Self:
        """This error, with others beside it."""
        self.also = tuple(others)
        return self


class InvalidArgument(RegistryError, ValueError):
    """An argument was refused before anything was written."""


class InvalidURL(InvalidArgument):
    """The registry's URL, or a value in it, cannot be used."""


class UnknownScheme(InvalidURL):
    """No backend answers to the URL's scheme."""


class UnknownOption(InvalidURL):
    """The backend has no option of that name."""


class InvalidName(InvalidArgument):
    """A service name, version, group or instance id breaks the naming rules."""


class UnroutableAddress(InvalidArgument):
    """The address cannot be reached from where the registry's other users run."""


class ValueTooLarge(InvalidArgument):
    """A record has more bytes than the product takes; it was not sent."""


class AlreadyPublished(RegistryError):
    """This Registry already publishes an instance with the same id for the same service."""


class Closed(RegistryError):
    """The Registry was closed, or the handle belongs to the process before a fork."""


class WrongThread(RegistryError):
    """A blocking verb was called on the engine's own thread, where it would wait for itself."""


class MissingDependency(RegistryError, ImportError):
    """The backend's client library is not installed; the message has the install command."""


class PluginError(RegistryError):
    """A plugin cannot be loaded, or two plugins claim one name."""


class BackendDefect(RegistryError):
    """The backend failed in a way that is a mistake in its code, which no waiting mends; ``__cause__`` is what it raised."""


class Unsupported(RegistryError):
    """The product or the platform cannot do what was asked."""


class ForkUnsupported(Unsupported):
    """The backend's client library does not survive a fork: open after it, or spawn."""


class Unavailable(RegistryError):
    """The registry cannot be reached, or gave no answer; whether a write was applied is unknown."""


class DeadlineExceeded(Unavailable, TimeoutError):
    """The call was not done within its time-out."""


class Refused(RegistryError):
    """The registry answered and refused."""


class Denied(Refused):
    """Wrong credentials, or no permission for this operation."""


class Conflict(Refused):
    """Somebody else holds the record, or it changed since it was read.

    Of a configuration value: ``expected`` is the revision that was demanded, ``present`` the one that is there; None is
    no value.
    """

    def __init__(self, *message: object, expected: str | None = None, present: str | None = None) -> None:
        super().__init__(*message)
        self.expected: str | None = expected
        self.present: str | None = present


class CorruptRecord(Refused):
    """One record cannot be decoded; it costs that record only."""


class CorruptStore(Refused):
    """The store's own file is damaged; nothing was overwritten."""
