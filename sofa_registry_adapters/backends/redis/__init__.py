"""Redis and what speaks its protocol: records in hashes, changes by publish and subscribe, leases by the server's clock.

::

    redis://[user:password@]host[:port][/database][?option=value&…]
    rediss://…      the same over TLS, the server's certificate and name always verified

A master with replicas that Sentinels watch is `redis+sentinel://` (`sentinel.py`).

All that belongs to one bucket has one hash tag, ``<prefix>:{<namespace>/<path>}:<part>``. Every write is one
script: it applies the change, gives it the bucket's next number, logs it, and publishes it with that number.
A watch that misses a number, or hears of another epoch, catches up from the log or reads anew.
"""

from __future__ import annotations

from collections.abc import Callable

from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target, tls_options

__all__ = [
    "BACKEND",
    "CAPABILITIES",
    "OPTIONS",
    "check_prefix",
    "check_shared",
    "database",
    "database_number",
]

CAPABILITIES = Capabilities(detects_loss_within=2.0, notices_death_within=2.5, max_value_bytes=1_000_000)


def database(target: Target) -> int:
    """The number of the database that the URL's path names. Raises `InvalidURL`."""
    return database_number(target, target.path.removeprefix("/"), "redis://host:port/0")


def database_number(target: Target, text: str, example: str) -> int:
    """A database by its number, the first one without. Raises `InvalidURL`."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise InvalidURL(f"the path of {target} is no database number: write {example}")
    return int(text)


def _check(target: Target) -> None:
    database(target)
    if len(target.addresses) > 1:
        raise InvalidURL(
            f"{target} names several servers: this backend speaks to one Redis server. "
            "Sentinels are redis+sentinel://host,host,host/NAME-OF-THE-MASTER"
        )
    check_shared(target)


def check_shared(target: Target) -> None:
    """Check what the URLs of all kinds of Redis have in common. Raises `InvalidURL`."""
    if target.text("password_file") and target.password:
        raise InvalidURL(f"{target} has a password and the option password_file: keep one")
    check_prefix(target.text("prefix"))


def check_prefix(prefix: str) -> None:
    """Check what the names of all keys begin with. Raises `InvalidURL`."""
    if not prefix or not prefix.isprintable() or set(prefix) & set("{} "):
        raise InvalidURL(f"the option prefix is text without spaces and braces, not {prefix!r}")


def _load() -> Callable[..., object]:
    from sofa_registry_adapters.backends.redis.store import RedisStore

    return RedisStore


OPTIONS = (
    Option(
        name="prefix",
        kind="text",
        default="sofa",
        meaning="what the names of all keys and channels begin with",
    ),
    Option(
        name="lease",
        kind="seconds",
        default=10.0,
        least=1,
        most=3600,
        meaning="how long records outlive the last sign of life of their owner",
    ),
    Option(
        name="log_length",
        kind="whole",
        default=20_000,
        least=100,
        most=10_000_000,
        meaning="changes of a service that the server keeps, for watches that missed some",
    ),
    Option(
        name="password_file",
        kind="path",
        default="",
        meaning="file with the password, read at each connect, instead of one in the URL",
    ),
    *tls_options(),
)
BACKEND = BackendType(
    schemes=("redis", "rediss"),
    summary="Redis 5 or newer, Valkey and servers that speak their protocol; one server",
    grammar="redis://[user:password@]host[:port][/database][?option=value&…]",
    considerations=(
        "Leases go by the server's clock. Use maxmemory-policy noeviction: an evicted key is a lost registration "
        "until its owner notices. A publisher that is killed is dropped by whoever next touches or watches its "
        "services, with a lease at most and two seconds later; someone with the right to write has to be there. Loss of a "
        "record is noticed within two calls of renew. A fail-over may lose the newest writes: owners write them "
        "again and watches read anew. Scripts are sent again when the server forgot them. A user of the server "
        "needs, with the default prefix: ~sofa:* &sofa:* -@all +ping +select +subscribe +psubscribe "
        "+unsubscribe +punsubscribe +publish +eval +evalsha +time +hget +hset +hdel +hlen +hmget +hgetall "
        "+hincrby +zadd +zrem +zscore +zrangebyscore +zrangebylex +zlexcount +zremrangebylex +xadd +xrange "
        "+exists +hexists +expire +persist +del. A layout that watches whole trees needs allchannels instead of &sofa:*."
    ),
    capabilities=CAPABILITIES,
    load=_load,
    options=OPTIONS,
    extra="redis",
    libraries=("redis",),
    default_port=6379,
    tls=("rediss",),
    check=_check,
)
