"""etcd 3.4 and later: records are keys, owned records belong to one lease, one stream of changes for all watches.

::

    etcd://[user:password@]host[:port][,host[:port]…][/prefix][?option=value&…]
    etcds://…       the same over TLS, the server's certificate and name always verified

A record is the key ``/prefix/namespace/bucket…/name``. The messages are those of the package etcd3, the connection is
grpc.aio's; of several servers one is used at a time, the next one when it fails.
"""

from __future__ import annotations

from collections.abc import Callable

from sofa_registry_adapters.backends.grpc_loading import load_grpc
from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target, tls_options

CAPABILITIES = Capabilities(
    persistent=True,
    detects_loss_within=2.0,
    notices_death_within=2.0,
    max_value_bytes=1_500_000,
    survives_fork=False,
)

CONSIDERATIONS = """\
Needs etcd 3.4. A request of more than 1.5 MiB is refused by the server (--max-request-bytes), so a record has at most
1 500 000 bytes. Leases are whole seconds, at least two by the server's default. A killed publisher is dropped when its
lease ends; a new leader gives every lease its full time again. A user of the server needs a role with readwrite on
the prefix (etcdctl role grant-permission NAME readwrite --prefix=true /prefix/), a consumer read. The library reads anew
after a compaction, so any --auto-compaction-retention will do, and some is needed, or the database fills up and refuses
registrations. grpc does not survive a fork: open the Registry in the child, or start it with spawn. Variables for a
proxy (http_proxy) are not followed."""


def segments(target: Target) -> tuple[str, ...]:
    """The prefix of the URL, taken apart."""
    path = target.path.strip("/")
    return tuple(path.split("/")) if path else ()


def _check(target: Target) -> None:
    for segment in segments(target):
        if not segment or not segment.isprintable():
            raise InvalidURL(
                f"the prefix {target.path!r} cannot be used: {segment!r} is not allowed between its slashes"
            )
    if target.password and not target.username:
        raise InvalidURL("etcd has no password without a user: write etcd://user:password@host")
    if target.text("password_file") and target.password:
        raise InvalidURL(f"{target} has a password and the option password_file: keep one")
    if target.text("password_file") and not target.username:
        raise InvalidURL("the option password_file has the password of a user: write etcd://user@host")


def _load() -> Callable[..., object]:
    load_grpc()
    from sofa_registry_adapters.backends.etcd.store import EtcdStore

    return EtcdStore


BACKEND = BackendType(
    schemes=("etcd", "etcds"),
    summary="a cluster of etcd 3.4 and later, or one server of it",
    grammar="etcd://[user:password@]host[:2379][,host[:port]…][/prefix]",
    considerations=CONSIDERATIONS,
    capabilities=CAPABILITIES,
    load=_load,
    options=(
        Option(
            name="lease",
            kind="seconds",
            default=10.0,
            least=1,
            most=86400,
            meaning="how long records outlive the last sign of life of their owner; whole seconds, the server may have "
            "a minimum",
        ),
        Option(
            name="leading_slash",
            kind="flag",
            default=True,
            meaning="whether keys begin with a slash; those of Kitex, Hertz and gRPC naming do not",
        ),
        Option(
            name="password_file",
            kind="path",
            default="",
            meaning="file with the password, read at each authentication, instead of one in the URL",
        ),
        *tls_options("those that come with grpcio"),
    ),
    extra="etcd",
    libraries=("etcd3", "grpc"),
    default_port=2379,
    tls=("etcds",),
    check=_check,
)
