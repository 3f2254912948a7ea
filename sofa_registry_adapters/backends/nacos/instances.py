"""An instance of ours as Nacos has it, and back. No I/O.

Nacos knows ``ip``, ``port``, ``weight`` (1.0 is nominal), ``healthy``, ``enabled``, ``ephemeral``, ``clusterName`` and ``metadata``. The rest is said in the
metadata, under keys that begin with ``sofa.``; a field at its default is left out. A zone that can be the name of a cluster is one.

Nacos lists no instance that is not ``enabled``: a consumer could not tell one that is disabled, or leaving, from one that was lost. So both are
written enabled, with ``sofa.enabled`` or ``sofa.state`` for those who know, and for all others unhealthy and with the weight 0: nobody sends to those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from sofa_registry_adapters.backends.nacos.names import SERVICE
from sofa_registry_adapters.errors import CorruptRecord, RegistryError, ValueTooLarge
from sofa_registry_adapters.model.instance import (
    MAX_WEIGHT,
    NOMINAL_WEIGHT,
    NOTHING,
    RESERVED_PREFIX,
    Extra,
    Instance,
    Metadata,
    check_extra,
    check_host,
    check_metadata,
    check_port,
    check_started,
    join_address,
)
from sofa_registry_adapters.model.names import check_text

MAX_METADATA = 1024
"""Characters of all keys and values together that Nacos takes, as Java counts them."""
DEFAULT_CLUSTER = "DEFAULT"

_CLUSTER = re.compile(r"[A-Za-z0-9-]{1,64}")
_EXTRA = "sofa.extra"
_KNOWN = frozenset(
    (
        "sofa.enabled",
        _EXTRA,
        "sofa.id",
        "sofa.owner",
        "sofa.protocol",
        SERVICE,
        "sofa.started",
        "sofa.state",
        "sofa.updated",
        "sofa.weight",
        "sofa.zone",
    )
)


class Host(msgspec.Struct, rename="camel", gc=False):
    """An instance as it is sent to Nacos, and as it comes back."""

    ip: str
    port: int
    weight: float = 1.0
    healthy: bool = True
    enabled: bool = True
    ephemeral: bool = True
    cluster_name: str = DEFAULT_CLUSTER
    metadata: dict[str, str | None] = {}


class Listed(msgspec.Struct, frozen=True, gc=False):
    """What an entry of a list says. ``instance`` is None where it cannot be read, for ``reason``.

    ``service`` is there where the service's name does not tell the key, ``updated`` once its publisher changed it.
    """

    instance_id: str
    instance: Instance | None
    reason: str = ""
    service: str = ""
    updated: int = 0

    @property
    def rank(self) -> tuple[int, str, int]:
        """Of several entries with one id the one with the highest counts: of the publisher that started last what it wrote last."""
        if self.instance is None:
            return -1, "", 0
        return self.instance.started, self.instance.owner, self.updated


_decode_host = msgspec.json.Decoder(Host).decode
_decode_extra = msgspec.json.Decoder(dict[str, object]).decode


def host_of(instance: Instance, service: str = "", updated: int = 0) -> Host:
    """The instance as Nacos has it; ``service`` and ``updated`` as in `Listed`. Raises `ValueTooLarge`."""
    silent = not instance.enabled or instance.state != "up"
    told: dict[str, str] = {
        "sofa.id": instance.instance_id if instance.instance_id != instance.address else "",
        "sofa.owner": instance.owner,
        "sofa.protocol": instance.protocol,
        SERVICE: service,
        "sofa.started": str(instance.started or ""),
        "sofa.state": instance.state if instance.state != "up" else "",
        "sofa.updated": str(updated or ""),
        "sofa.enabled": "" if instance.enabled else "false",
        "sofa.weight": str(instance.weight) if silent else "",
        **_told_extra(instance.extra),
    }
    cluster = instance.zone
    if not _CLUSTER.fullmatch(cluster) or cluster == DEFAULT_CLUSTER:
        cluster, told["sofa.zone"] = DEFAULT_CLUSTER, instance.zone
    metadata: dict[str, str | None] = {**instance.metadata, **{key: value for key, value in told.items() if value}}
    _check_size(instance, metadata)
    return Host(
        ip=instance.host,
        port=instance.port,
        weight=0.0 if silent else instance.weight / NOMINAL_WEIGHT,
        healthy=not silent,
        cluster_name=cluster,
        metadata=metadata,
    )


def _told_extra(extra: Extra) -> dict[str, str]:
    if not extra:
        return {}
    own = {key: value for key, value in extra.items() if key.startswith(RESERVED_PREFIX) and isinstance(value, str)}
    rest = {key: value for key, value in extra.items() if key not in own}
    return own | ({_EXTRA: msgspec.json.encode(rest).decode()} if rest else {})


def _check_size(instance: Instance, metadata: Mapping[str, str | None]) -> None:
    texts = (text for entry in metadata.items() for text in entry if text)
    size = sum(len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2 for text in texts)
    if size > MAX_METADATA:
        raise ValueTooLarge(
            f"the metadata of {instance.instance_id!r} has {size} characters, its own fields included, and Nacos takes "
            f"{MAX_METADATA}: publish less, for example a key under which the configuration has the rest"
        )


def listed(raw: bytes | memoryview | msgspec.Raw) -> Listed:
    """What an entry of a list says. Never raises."""
    try:
        host = _decode_host(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Listed(bytes(raw)[:80].decode("utf-8", "replace"), None, f"it cannot be decoded: {error}")
    metadata = host.metadata
    service = metadata.get(SERVICE) or ""
    name = metadata.get("sofa.id") or join_address(host.ip, host.port)
    try:
        return Listed(name, _instance(host, name), service=service, updated=int(metadata.get("sofa.updated") or 0))
    except (RegistryError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Listed(name, None, str(error), service)


def _instance(host: Host, name: str) -> Instance:
    told = host.metadata
    silent = told.get("sofa.weight")
    weight = int(silent) if silent else round(host.weight * NOMINAL_WEIGHT)
    return Instance(
        instance_id=check_text(name, "the instance id"),
        host=check_host(host.ip),
        port=check_port(host.port),
        protocol=check_text(told.get("sofa.protocol") or "", "the protocol", empty=True),
        # Nacos checks no weight: what others wrote is brought into range.
        weight=min(max(weight, 0), MAX_WEIGHT),
        enabled=told.get("sofa.enabled") != "false" and (silent is not None or (host.enabled and host.healthy)),
        zone=check_text(_zone(host), "the zone", empty=True),
        metadata=_own_metadata(told),
        started=check_started(int(told.get("sofa.started") or 0)),
        state="leaving" if told.get("sofa.state") == "leaving" else "up",
        owner=check_text(told.get("sofa.owner") or "", "the owner", empty=True),
        extra=_extra(told),
    )


def _zone(host: Host) -> str:
    if (zone := host.metadata.get("sofa.zone")) is not None:
        return zone
    return "" if host.cluster_name == DEFAULT_CLUSTER else host.cluster_name


def _own_metadata(told: Mapping[str, str | None]) -> Metadata:
    return check_metadata(
        {key: value or "" for key, value in told.items() if not key.startswith(RESERVED_PREFIX)}, reading=True
    )


def _extra(told: Mapping[str, str | None]) -> Extra:
    later = {key: value for key, value in told.items() if key.startswith(RESERVED_PREFIX) and key not in _KNOWN}
    text = told.get(_EXTRA)
    if not text and not later:
        return NOTHING
    try:
        return check_extra({**(_decode_extra(text) if text else {}), **later})
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"its {_EXTRA} is no JSON object: {error}") from None
