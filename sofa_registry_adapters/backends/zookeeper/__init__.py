"""ZooKeeper 3.6 and later: records are nodes, owned records ephemeral nodes, watches persistent and recursive.

::

    zookeeper://[user:password@]host[:port][,host[:port]…][/root][?option=value&…]
    zookeepers://…      the same over TLS, the server's certificate and name always verified

``zk`` and ``zks`` are short for them. A record is the node ``/root/namespace/bucket…/name``. User and password are digest credentials, or
with ``sasl=digest-md5`` an account of the servers.
"""

from __future__ import annotations

from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target, tls_options

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

TLS_SCHEMES = ("zookeepers", "zks")

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
        choices=("", "open", "creator", "readable"),
        meaning="who may read and change what is written: everybody (open), whoever has the same credentials (creator), or these "
        "for changes and everybody for reading (readable); empty: creator where the URL has a user or a certificate, else open",
    ),
    Option(
        name="sasl",
        kind="text",
        default="",
        choices=("", "digest-md5"),
        meaning="how user and password are shown: empty: as digest credentials, which no server checks; digest-md5: by SASL, as an account "
        "that the servers know and check at each connect; needs the extra zookeeper-sasl",
    ),
    Option(
        name="max_session_bytes",
        kind="bytes",
        default=1_000_000,
        least=1_000,
        most=1_500_000,
        meaning="paths of owned records in one session; beyond it a further session is opened",
    ),
    Option(
        name="password_file",
        kind="path",
        default="",
        meaning="file with the password, read at each connect, instead of one in the URL",
    ),
    *tls_options(),
)

CONSIDERATIONS = """\
Needs ZooKeeper 3.6: earlier servers have no persistent watches. A record has at most 1 000 000 bytes: a request of
1 MiB makes the server drop the connection. A session whose owned records have paths of more than 2 MB altogether
makes the server unable to restart when it ends (ZOOKEEPER-4306), so this backend opens a further session at half of
that. The records of a killed process vanish with its session: after the session time-out and up to two of the
server's ticks. Clients in Java cannot list a bucket whose names add up to more than 1 MiB, about 4 000 of them.
Parents of records are container nodes unless the layout says otherwise: the server removes them when they are
empty. A comparison with a known revision sees what was added and removed, and what changed while it was watched.
With user and password, or with a certificate, what is written belongs to them: acl=readable lets everybody read it, and nobody else
change it. A ZooKeeper server checks no digest password when it connects: a wrong one is Denied at the first record that belongs to the right one.
With sasl=digest-md5 it does (DigestLoginModule in its JAAS file, authProvider.sasl): a wrong one is Denied by every verb. The password is not sent; without TLS
whoever listens can try passwords at leisure. Kerberos is not supported.
TLS is on a port of its own (secureClientPort); certificates are read again for each connection."""


def _check(target: Target) -> None:
    for segment in target.path.strip("/").split("/") if target.path.strip("/") else ():
        if segment in {"", ".", "..", "zookeeper"} or not segment.isprintable():
            raise InvalidURL(f"the root {target.path!r} cannot be a ZooKeeper path: {segment!r} is not allowed in it")
    if target.text("acl") in {"creator", "readable"} and not (target.identified or target.text("cert")):
        raise InvalidURL(f"acl={target.text('acl')} needs credentials: write zookeeper://user:password@host")
    if target.text("password_file") and (target.password or not target.username):
        raise InvalidURL(
            "the option password_file has the password of a user: write zookeeper://user@host, without one there"
        )
    if target.text("sasl") and not target.identified:
        raise InvalidURL("the option sasl shows a user and a password: write zookeeper://user:password@host")


def _load() -> type[object]:
    from sofa_registry_adapters.backends.zookeeper.store import ZooKeeperStore

    return ZooKeeperStore


BACKEND = BackendType(
    schemes=("zookeeper", "zk", *TLS_SCHEMES),
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
    tls=TLS_SCHEMES,
)
