"""The native layout: one readable JSON record an instance.

::

    services/<service>/<instance id>
    {"v":1,"id":"10.0.0.7:12200","host":"10.0.0.7","port":12200,"weight":100,"started":1766197200000,"owner":"…"}

Segments are percent-encoded (`ServiceKey.segment`; an id keeps its ``:``). Fields at their default are
left out, unknown ones are kept. ``v`` is the format's version: a reader takes records of its own
version and of later ones, whose known fields keep their meaning. The id in the value must be the one
in the name. docs/reference/native-layout.md has the whole format.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from sofa_registry_adapters.errors import CorruptRecord, RegistryError
from sofa_registry_adapters.model.instance import (
    MAX_WEIGHT,
    NOTHING,
    Extra,
    Instance,
    State,
    check_host,
    check_metadata,
    read_metadata,
)
from sofa_registry_adapters.model.names import ServiceKey, are_plain, check_text, encode_segment
from sofa_registry_adapters.spi.layout import Seen, ServiceLayout
from sofa_registry_adapters.spi.store import Bucket, Record, Stored

VERSION = 1
ROOT = ("services",)
MAX_BYTES = 256 * 1024
"""A record with more bytes is not decoded: it was not written by this library."""
SMALL_BYTES = 1024
"""The metadata of a record with more is kept for its instance alone."""


class _Fields(msgspec.Struct, omit_defaults=True):
    v: int
    id: str
    host: str
    port: Annotated[int, Meta(ge=1, le=65535)]
    protocol: str = ""
    weight: Annotated[int, Meta(ge=0, le=MAX_WEIGHT)] = 100
    enabled: bool = True
    zone: str = ""
    metadata: dict[str, str] = {}
    started: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    state: State = "up"
    owner: str = ""


class _Only(_Fields, forbid_unknown_fields=True):
    """The fields of a record that has no others."""


_KNOWN = frozenset(_Fields.__struct_fields__)
_decode = msgspec.json.Decoder(_Fields).decode
_decode_only = msgspec.json.Decoder(_Only).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class NativeLayout(ServiceLayout):
    """See the module."""

    name: ClassVar[str] = "native"
    marks_leaving: ClassVar[bool] = True

    def bucket(self, service: ServiceKey) -> Bucket:
        return Bucket(_path(service))

    def record(self, service: ServiceKey, instance: Instance) -> Record:
        return Record(_path(service), encode_segment(instance.instance_id, ":"), encode_instance(instance))

    def decode(self, service: ServiceKey, stored: Stored, seen: Seen) -> Instance | None:
        instance = decode_instance(stored.record.value)
        if encode_segment(instance.instance_id, ":") != stored.record.name:
            raise CorruptRecord(f"the record {stored.record.name!r} says that its id is {instance.instance_id!r}")
        return instance

    def root(self) -> tuple[str, ...]:
        return ROOT

    def service_of(self, segment: str) -> ServiceKey | None:
        try:
            return ServiceKey.from_segment(segment)
        except (ValueError, RegistryError):
            return None


@lru_cache(maxsize=512)
def _path(service: ServiceKey) -> tuple[str, ...]:
    return (*ROOT, service.segment)


def encode_instance(instance: Instance) -> bytes:
    """The record's bytes."""
    fields = _Fields(
        VERSION,
        instance.instance_id,
        instance.host,
        instance.port,
        instance.protocol,
        instance.weight,
        instance.enabled,
        instance.zone,
        instance.metadata or {},
        instance.started,
        instance.state,
        instance.owner,
    )
    if not instance.extra:
        return _encode(fields)
    return _encode({**msgspec.to_builtins(fields), **instance.extra})


def decode_instance(value: bytes) -> Instance:
    """The instance that the bytes describe. Raises `CorruptRecord`, never anything else."""
    if len(value) > MAX_BYTES:
        raise CorruptRecord(f"the record has {len(value)} bytes, more than {MAX_BYTES}")
    try:
        fields, extra = _read(value)
        if fields.v < VERSION:
            raise CorruptRecord(f"the record has the version {fields.v}")
        return _instance(fields, extra, small=len(value) <= SMALL_BYTES)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptRecord(f"the record cannot be decoded: {error}") from None


def _read(value: bytes) -> tuple[_Fields, Extra]:
    try:
        # Nearly always nothing is unknown.
        return _decode_only(value), NOTHING
    except msgspec.ValidationError:
        fields = _decode(value)
    extra = Extra({key: item for key, item in _decode_any(value).items() if key not in _KNOWN})
    return fields, extra or NOTHING


def _instance(fields: _Fields, extra: Extra, *, small: bool) -> Instance:
    if not fields.id or not are_plain(fields.id, fields.protocol, fields.zone, fields.owner):
        check_text(fields.id, "the instance id")
        check_text(fields.protocol, "the protocol", empty=True)
        check_text(fields.zone, "the zone", empty=True)
        check_text(fields.owner, "the owner", empty=True)
    return Instance(
        instance_id=fields.id,
        host=check_host(fields.host),
        port=fields.port,
        # Kept once, however many instances say the same.
        protocol=sys.intern(fields.protocol),
        weight=fields.weight,
        enabled=fields.enabled,
        zone=sys.intern(fields.zone),
        metadata=read_metadata(fields.metadata) if small else check_metadata(fields.metadata, reading=True),
        started=fields.started,
        state=fields.state,
        owner=sys.intern(fields.owner),
        extra=extra,
    )
