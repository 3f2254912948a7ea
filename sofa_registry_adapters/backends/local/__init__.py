"""Services of one machine in one SQLite file, with no server: the default.

Any number of processes share the file. Each holds a lock that the kernel drops when the process ends,
however it ends, so that its records are removed at once; a process that hangs is noticed by its lease.
"""

from __future__ import annotations

from collections.abc import Callable

from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target

__all__ = ["BACKEND"]

LEASE = Option(
    name="lease",
    kind="seconds",
    default=10.0,
    least=0.5,
    most=3600,
    meaning="how long the records of a process that hangs are kept; a process that ends is noticed at once",
)


def _load() -> Callable[..., object]:
    from sofa_registry_adapters.backends.local.store import LocalStore

    return LocalStore


def _check(target: Target) -> None:
    if target.identified:
        raise InvalidURL("a local:// URL has no user: write an '@' in the path as %40")
    if target.path.endswith("/"):
        raise InvalidURL(f"{target} names a folder: name a file in it, for example {target}registry.db")
    if "\0" in target.path:
        raise InvalidURL("the path of a local:// URL has a NUL character: remove it")


BACKEND = BackendType(
    schemes=("local",),
    summary="one SQLite file shared by the processes of one machine, with no server",
    grammar="local:// | local:///absolute/path.db | local://relative/path.db",
    considerations=(
        "Without a path the file is registry.db in the user's state folder. "
        "The file must be on a local file system: never on NFS or another network mount. "
        "All processes run as the same user. Locks and watched files lie beside it, in <file>.owners, <file>-wal "
        "and <file>-shm: move, restore or delete them together, best with all processes stopped. "
        "A file that is deleted or replaced under running processes is noticed, and they publish into the new one. "
        "A forked child opens its own connection; the parent's are closed for the moment of the fork. "
        "Linux and macOS; not Windows."
    ),
    capabilities=Capabilities(
        persistent=True,
        notices_death_at_once=True,
        detects_loss_within=2.0,
        notices_death_within=1.0,
        max_value_bytes=1_000_000,
    ),
    load=_load,
    options=(LEASE,),
    needs_host=False,
    bare_path=True,
    check=_check,
)
