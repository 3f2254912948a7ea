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
from typing import Any, ClassVar

import msgspec

from sofa_registry_adapters.errors import CorruptRecord, RegistryError
from sofa_registry_adapters.model.instance import (
    NOTHING,
    Extra,
    Instance,
    State,
    check_host,
    check_metadata,
    check_port,
    check_started,
    check_weight,
    read_metadata,
)
from sofa_registry_adapters.model.names import ServiceKey, check_text, encode_segment
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
    port: int
    protocol: str = ""
    weight: int = 100
    enabled: bool = True
    zone: str = ""
    metadata: dict[str, str] = {}
    started: int = 0
    state: State = "up"
    owner: str = ""


_KNOWN = frozenset(_Fields.__struct_fields__)
_decode = msgspec.json.Decoder(_Fields).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class NativeLayout(ServiceLayout):
    """See the module."""

    name: ClassVar[str] = "native"
    marks_leaving: ClassVar[bool] = True

    def bucket(self, service: ServiceKey) -> Bucket:
        return Bucket((*ROOT, service.segment))

    def record(self, service: ServiceKey, instance: Instance) -> Record:
        return Record((*ROOT, service.segment), encode_segment(instance.instance_id, ":"), encode_instance(instance))

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
        fields = _decode(value)
        if fields.v < VERSION:
            raise CorruptRecord(f"the record has the version {fields.v}")
        return _instance(fields, _extra(value, fields), small=len(value) <= SMALL_BYTES)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptRecord(f"the record cannot be decoded: {error}") from None


def _extra(value: bytes, fields: _Fields) -> Extra:
    # Re-encoding is much cheaper than decoding into dictionaries, and nearly always tells that nothing is unknown.
    if len(_encode(fields)) == len(value):
        return NOTHING
    extra = Extra({key: item for key, item in _decode_any(value).items() if key not in _KNOWN})
    return extra or NOTHING


def _instance(fields: _Fields, extra: Extra, *, small: bool) -> Instance:
    return Instance(
        instance_id=check_text(fields.id, "the instance id"),
        host=check_host(fields.host),
        port=check_port(fields.port),
        # Kept once, however many instances say the same.
        protocol=sys.intern(check_text(fields.protocol, "the protocol", empty=True)),
        weight=check_weight(fields.weight),
        enabled=fields.enabled,
        zone=sys.intern(check_text(fields.zone, "the zone", empty=True)),
        metadata=read_metadata(fields.metadata) if small else check_metadata(fields.metadata, reading=True),
        started=check_started(fields.started),
        state=fields.state,
        owner=sys.intern(check_text(fields.owner, "the owner", empty=True)),
        extra=extra,
    )
