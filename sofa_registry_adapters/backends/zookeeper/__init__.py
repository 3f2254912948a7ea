"""ZooKeeper 3.6 and later: records are nodes, owned records ephemeral nodes, watches persistent and recursive.

::

    zookeeper://[user:password@]host[:port][,host[:port]…][/root][?option=value&…]

A record is the node ``/root/namespace/bucket…/name``. User and password are digest credentials.
"""

from __future__ import annotations

from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target

CAPABILITIES = Capabilities(
    push=True,
    lease=True,
    liveness="session",
    compare_and_set=True,
    list_services=True,
    announces_withdrawal=True,
    persistent=True,
    shared=True,
    detects_loss_within=1.5,
    notices_death_within=4.0,
    max_value_bytes=1_000_000,
    survives_fork=True,
)

OPTIONS = (
    Option(
        name="session_timeout",
        kind="seconds",
        default=10.0,
        least=0.5,
        most=600,
        meaning="silence after which the servers drop this process's records; they may grant more or less",
    ),
    Option(
        name="acl",
        kind="text",
        default="",
        choices=("", "open", "creator"),
        meaning="who may read and change what is written: everybody, or whoever has the same credentials; "
        "empty: creator where the URL has credentials, else open",
    ),
    Option(
        name="max_session_bytes",
        kind="bytes",
        default=1_000_000,
        least=1_000,
        most=1_500_000,
        meaning="paths of owned records in one session; beyond it a further session is opened",
    ),
)

CONSIDERATIONS = """\
Needs ZooKeeper 3.6: earlier servers have no persistent watches. A record has at most 1 000 000 bytes: a request of
1 MiB makes the server drop the connection. A session whose owned records have paths of more than 2 MB altogether
makes the server unable to restart when it ends (ZOOKEEPER-4306), so this backend opens a further session at half of
that. The records of a killed process vanish with its session: after the session time-out and up to two of the
server's ticks. Clients in Java cannot list a bucket whose names add up to more than 1 MiB, about 4 000 of them.
Parents of records are container nodes unless the layout says otherwise: the server removes them when they are
empty. A comparison with a known revision sees what was added and removed, and what changed while it was watched."""


def _check(target: Target) -> None:
    for segment in target.path.strip("/").split("/") if target.path.strip("/") else ():
        if segment in {"", ".", "..", "zookeeper"} or not segment.isprintable():
            raise InvalidURL(f"the root {target.path!r} cannot be a ZooKeeper path: {segment!r} is not allowed in it")
    if target.text("acl") == "creator" and not target.username:
        raise InvalidURL("acl=creator needs credentials: write zookeeper://user:password@host")


def _load() -> type[object]:
    from sofa_registry_adapters.backends.zookeeper.store import ZooKeeperStore

    return ZooKeeperStore


BACKEND = BackendType(
    schemes=("zookeeper", "zk"),
    summary="Apache ZooKeeper 3.6 and later",
    grammar="zookeeper://[user:password@]host[:2181][,host[:port]…][/root]",
    considerations=CONSIDERATIONS,
    capabilities=CAPABILITIES,
    load=_load,
    options=OPTIONS,
    extra="zookeeper",
    libraries=("kazoo",),
    default_port=2181,
    check=_check,
)
