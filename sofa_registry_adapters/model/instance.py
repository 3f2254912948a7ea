"""One endpoint of a service, and the rules for its fields."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NoReturn, cast

import msgspec

from sofa_registry_adapters.errors import InvalidArgument
from sofa_registry_adapters.model.names import check_text

MAX_WEIGHT = 1_000_000
NOMINAL_WEIGHT = 100
MAX_METADATA_ENTRIES = 256
MAX_METADATA_BYTES = 64 * 1024
RESERVED_PREFIX = "sofa."
"""Metadata keys that begin so belong to this library."""

State = Literal["up", "leaving"]

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}", re.ASCII)
_SCOPE = re.compile(r"[A-Za-z0-9._-]{1,32}")
_WEIGHT_HELP = f"a weight is a whole number from 0 to {MAX_WEIGHT}, {NOMINAL_WEIGHT} is nominal"


class Metadata(dict[str, str]):
    """A read-only mapping of text to text."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("metadata is read-only: publish or update with a new mapping")

    if not TYPE_CHECKING:  # which keeps what dict says of them
        __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Metadata], tuple[dict[str, str]]]:
        return Metadata, (dict(self),)


EMPTY = Metadata()


class Extra(dict[str, object]):
    """Fields of a record that this version does not know; written back unchanged."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


NOTHING = Extra()


class Instance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, repr_omit_defaults=True, gc=False):
    """One endpoint of a service, as it stands in the registry. Immutable; compare with ``==``.

    ``instance_id`` is unique within a service and defaults to ``host:port``. ``weight`` is 0 to
    1 000 000 with 100 nominal. ``enabled=False`` asks consumers to send nothing. ``started`` is when
    the publisher made it, in milliseconds since 1970; of two publishers with one id the later one
    holds it. ``state`` is ``leaving`` from the moment the publisher began to withdraw. ``owner``
    tells two publishers apart. ``extra`` holds unknown fields of the record.
    """

    host: str
    port: int
    instance_id: str = ""
    protocol: str = ""
    weight: int = NOMINAL_WEIGHT
    enabled: bool = True
    zone: str = ""
    metadata: Metadata = EMPTY
    started: int = 0
    state: State = "up"
    owner: str = ""
    extra: Extra = NOTHING

    @classmethod
    def of(
        cls,
        address: str | Instance,
        *,
        instance_id: str = "",
        protocol: str = "",
        weight: int = NOMINAL_WEIGHT,
        enabled: bool = True,
        zone: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Instance:
        """A checked instance from ``host:port`` or ``[ipv6]:port``. Raises `InvalidArgument`."""
        if isinstance(address, Instance):
            return address.checked()
        host, port = split_address(address)
        return cls(
            host=host,
            port=port,
            instance_id=instance_id,
            protocol=protocol,
            weight=weight,
            enabled=enabled,
            zone=zone,
            metadata=cast("Metadata", metadata or EMPTY),
        ).checked()

    def checked(self) -> Instance:
        """This instance with every field checked and its id filled in. Raises `InvalidArgument`."""
        host, port = check_host(self.host), check_port(self.port)
        if not isinstance(self.enabled, bool):
            raise InvalidArgument(f"enabled must be True or False, not {self.enabled!r}")
        if self.state not in ("up", "leaving"):
            raise InvalidArgument(f"the state is 'up' or 'leaving', not {self.state!r:.60}")
        return msgspec.structs.replace(
            self,
            host=host,
            port=port,
            started=check_started(self.started),
            owner=check_text(self.owner, "the owner", empty=True),
            extra=check_extra(self.extra),
            instance_id=check_text(self.instance_id or join_address(host, port), "the instance id"),
            protocol=check_text(self.protocol, "the protocol", empty=True),
            weight=check_weight(self.weight),
            zone=check_text(self.zone, "the zone", empty=True),
            metadata=check_metadata(self.metadata),
        )

    @property
    def address(self) -> str:
        """``host:port``, with brackets round an IPv6 host."""
        return join_address(self.host, self.port)


def join_address(host: str, port: int) -> str:
    """``host:port``, with brackets round an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: object) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[ipv6]:port``. Raises `InvalidArgument`."""
    if not isinstance(address, str):
        raise InvalidArgument(f"an address is 'host:port', not {type(address).__name__}: {address!r}")
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in address:
        raise InvalidArgument(f"the address {address!r} is not 'host:port'")
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise InvalidArgument(f"the address {address!r} is IPv6 without brackets: write '[host]:port'")
    if not port.isascii() or not port.isdigit() or len(port) > 5:
        raise InvalidArgument(f"the port {port!r} of the address {address!r} is not a number from 1 to 65535")
    return check_host(host[1:-1] if bracketed else host), check_port(int(port))


def check_host(host: object) -> str:
    """A host name or an IP address, the latter in its usual form. Raises `InvalidArgument`."""
    if isinstance(host, str) and _IPV4.fullmatch(host):
        return str.__str__(host)
    if not isinstance(host, str) or not host or len(host) > 253:
        raise InvalidArgument(f"the host must be a name or an IP address of 1 to 253 characters: {host!r:.60}")
    if ":" in host or host.replace(".", "").isdigit():
        import ipaddress  # most of the cost of importing the package, needed by a publisher only

        try:
            if "%" in host and not _SCOPE.fullmatch(host.partition("%")[2]):
                raise ValueError(host)
            return str(ipaddress.ip_address(host))
        except ValueError:
            raise InvalidArgument(f"the host {host!r} is not an IP address") from None
    if not _HOST.fullmatch(host):
        raise InvalidArgument(f"the host {host!r} is neither a host name nor an IP address")
    return str.__str__(host)


def check_port(port: object) -> int:
    """A port from 1 to 65535. Raises `InvalidArgument`."""
    if isinstance(port, bool) or not isinstance(port, int):
        raise InvalidArgument(f"the port must be a whole number, not {port!r}")
    if not 1 <= port <= 65535:
        raise InvalidArgument(f"the port {port} is out of range: 1 to 65535")
    return int(port)


def check_weight(weight: object) -> int:
    """A weight from 0 to 1 000 000. Raises `InvalidArgument`."""
    if isinstance(weight, bool) or not isinstance(weight, int):
        raise InvalidArgument(f"the weight {weight!r} is not a whole number: {_WEIGHT_HELP}")
    if not 0 <= weight <= MAX_WEIGHT:
        raise InvalidArgument(f"the weight {weight} is out of range: {_WEIGHT_HELP}")
    return int(weight)


def check_started(started: object) -> int:
    """Milliseconds since 1970, or 0. Raises `InvalidArgument`."""
    if isinstance(started, bool) or not isinstance(started, int) or not 0 <= started < 2**63:
        raise InvalidArgument(f"started is a whole number of milliseconds since 1970, not {started!r:.60}")
    return int(started)


def check_extra(extra: object) -> Extra:
    """Further fields of a record, as JSON has them. Raises `InvalidArgument`."""
    if not extra:
        return NOTHING
    if not isinstance(extra, Mapping) or not all(isinstance(key, str) for key in extra):
        raise InvalidArgument(f"extra maps names to JSON values, and is not {type(extra).__name__}")
    try:
        msgspec.json.encode(dict(extra))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidArgument(f"extra is not what JSON can carry: {error}") from None
    return extra if isinstance(extra, Extra) else Extra(extra)


def check_metadata(metadata: object, *, reading: bool = False) -> Metadata:
    """Text to text, within the bounds, keys not reserved unless ``reading``. Raises `InvalidArgument`."""
    if not metadata and (metadata is None or isinstance(metadata, Mapping)):
        return EMPTY
    if not isinstance(metadata, Mapping):
        raise InvalidArgument(f"metadata must map text to text, not be {type(metadata).__name__}")
    if len(metadata) > MAX_METADATA_ENTRIES:
        raise InvalidArgument(f"metadata has {len(metadata)} entries, at most {MAX_METADATA_ENTRIES} are allowed")
    size = 0
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidArgument(f"metadata must map text to text: {key!r:.60} is {value!r:.60}")
        if key.startswith(RESERVED_PREFIX) and not reading:
            raise InvalidArgument(f"the metadata key {key!r:.60} is reserved: choose one without {RESERVED_PREFIX!r}")
        try:
            size += len(key.encode()) + len(value.encode())
        except UnicodeEncodeError:
            raise InvalidArgument(f"metadata {key!r:.60} is not text that UTF-8 can carry") from None
    if size > MAX_METADATA_BYTES:
        raise InvalidArgument(f"metadata has {size} bytes, at most {MAX_METADATA_BYTES} are allowed")
    # Exact text: a subclass may be more than a record can say.
    return Metadata({sys.intern(str.__str__(key)): str.__str__(value) for key, value in metadata.items()})


def read_metadata(metadata: Mapping[str, str]) -> Metadata:
    """`check_metadata` for a small record that was read: instances that say the same share it."""
    return _shared(tuple(metadata.items())) if metadata else EMPTY


@lru_cache(maxsize=512)
def _shared(items: tuple[tuple[str, str], ...]) -> Metadata:
    return check_metadata(dict(items), reading=True)
