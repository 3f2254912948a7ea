"""What is to be done to one record: the operations for what is there, or why it is refused. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from sofa_registry_adapters.backends.zookeeper import wire
from sofa_registry_adapters.backends.zookeeper.ledger import Ledger
from sofa_registry_adapters.backends.zookeeper.session import Session
from sofa_registry_adapters.backends.zookeeper.wire import Operation, Reply, Stat
from sofa_registry_adapters.errors import Conflict, RegistryError, Unavailable
from sofa_registry_adapters.spi.store import Record, RecordKey

OPERATION_BYTES = 100
"""More than an operation has besides its path and data."""


class Owners:
    """Whose a node is: ``live`` are our sessions by id, ``former`` ids of sessions that were replaced."""

    def __init__(self) -> None:
        self.live: dict[int, Session] = {}
        self.former: dict[int, None] = {}

    def ours(self, owner: int) -> bool:
        """Whether it belongs to this store, now or from before it lost a session."""
        return owner in self.live or owner in self.former


class Task(ABC):
    """One record. ``answer`` is set once: the revision, an error, or None where there is nothing to say."""

    looks_first = False
    """Whether what is there has to be read before anything can be tried."""

    def __init__(self, key: RecordKey, path: str, session: Session, size: int = 0) -> None:
        self.key = key
        self.path = path
        self.session = session
        self.size: int = 2 * len(path.encode()) + size + OPERATION_BYTES
        self.answered: bool = False
        self.answer: str | RegistryError | None = None

    @abstractmethod
    def first(self) -> tuple[Operation, ...]:
        """What to try without looking."""

    @abstractmethod
    def given(self, node: Stat | None, data: bytes | None) -> tuple[Operation, ...]:
        """What to do, given what is there; nothing if it is done. Raises `RegistryError`."""

    @abstractmethod
    def done(self, reply: Reply, zxid: int) -> None:
        """The operations were applied as the change ``zxid``; the last one's reply."""

    def refuse(self, error: RegistryError) -> None:
        """It was not applied, or nobody knows."""
        self.finish(error)

    def finish(self, answer: str | RegistryError | None) -> None:
        """Set the answer."""
        self.answered, self.answer = True, answer


class Put(Task):
    """Write a record, whatever its version."""

    def __init__(self, record: Record, path: str, session: Session, context: Context) -> None:
        super().__init__(record.key, path, session, len(record.value))
        self.record = record
        self._context = context

    def _create(self) -> tuple[Operation, ...]:
        record = self.record
        return (wire.create(self.path, record.value, self._context.acl, ephemeral=record.owned),)

    def first(self) -> tuple[Operation, ...]:
        holding = self._context.ledger.get(self.key)
        if holding is not None and holding.stat is not None and self.record.owned:
            return (wire.set_data(self.path, self.record.value, holding.stat.version),)
        return self._create()

    def given(self, node: Stat | None, data: bytes | None) -> tuple[Operation, ...]:
        if node is None:
            return self._create()
        owners = self._context.owners
        if node.owner and not owners.ours(node.owner):
            self._context.dropped(self.key)
            raise self._context.conflict(self.path, node)
        if self.record.owned and not node.owner:
            raise Conflict(f"{self._context.server}: {self.path}: a permanent record is there")
        if node.owner in owners.former or bool(node.owner) != self.record.owned:
            return (wire.delete(self.path, node.version), *self._create())
        if data == self.record.value:
            self._stands(node)
            return ()
        return (wire.set_data(self.path, self.record.value, node.version),)

    def done(self, reply: Reply, zxid: int) -> None:
        self._stands(reply.stat or Stat.made(zxid, self.session.id if self.record.owned else 0))

    def _stands(self, stat: Stat) -> None:
        session = self._context.owners.live.get(stat.owner)
        if self.record.owned and session is None:
            self.refuse(self._context.lost(self.path, stat))
            return
        if session is not None:
            self._context.ledger.confirm(self.key, self.path, session, stat)
        else:
            self._context.dropped(self.key)
        self.finish(stat.revision)

    def refuse(self, error: RegistryError) -> None:
        holding = self._context.ledger.get(self.key)
        if holding is not None and holding.stat is None and not isinstance(error, Unavailable):
            self._context.dropped(self.key)
        super().refuse(error)


class Delete(Task):
    """Delete a record that is ours or nobody's."""

    looks_first = True

    def __init__(self, key: RecordKey, path: str, session: Session, context: Context) -> None:
        super().__init__(key, path, session)
        self._context = context

    def first(self) -> tuple[Operation, ...]:
        return ()

    def given(self, node: Stat | None, data: bytes | None) -> tuple[Operation, ...]:
        if node is None or (node.owner and not self._context.owners.ours(node.owner)):
            self.done(wire.DONE, 0)
            return ()
        # ZooKeeper has no condition on the owner: another's record that replaces ours right now, at the same version,
        # would go too.
        return (wire.delete(self.path, node.version),)

    def done(self, reply: Reply, zxid: int) -> None:
        self._context.dropped(self.key)
        self.finish(None)


class ComparedPut(Put):
    """Write a record that is at a revision."""

    looks_first = True

    def __init__(self, record: Record, path: str, session: Session, context: Context, expected: str | None) -> None:
        super().__init__(record, path, session, context)
        self._expected = expected

    def given(self, node: Stat | None, data: bytes | None) -> tuple[Operation, ...]:
        self._context.compare(self.path, node, self._expected)
        if node is None:
            return self._create()
        if self.record.owned != bool(node.owner) or (node.owner and node.owner not in self._context.owners.live):
            return (wire.delete(self.path, node.version), *self._create())
        return (wire.set_data(self.path, self.record.value, node.version),)


class ComparedDelete(Delete):
    """Delete a record that is at a revision, whoever owns it."""

    def __init__(self, key: RecordKey, path: str, session: Session, context: Context, expected: str) -> None:
        super().__init__(key, path, session, context)
        self._expected = expected

    def given(self, node: Stat | None, data: bytes | None) -> tuple[Operation, ...]:
        self._context.compare(self.path, node, self._expected)
        return () if node is None else (wire.delete(self.path, node.version),)


class Context:
    """What tasks need to know."""

    def __init__(self, acl: bytes, server: str, ledger: Ledger, dropped: Callable[[RecordKey], None]) -> None:
        self.acl = acl
        self.server = server
        self.ledger = ledger
        self.owners: Owners = Owners()
        self.dropped = dropped

    def conflict(self, path: str, node: Stat) -> Conflict:
        """Somebody else's."""
        return Conflict(f"{self.server}: {path}: it belongs to the session {node.owner:#x}")

    def lost(self, path: str, node: Stat) -> RegistryError:
        """The session has just ended, or the node was replaced at the same version a moment before the write."""
        if node.owner in self.owners.former:
            return Unavailable(f"{self.server}: {path}: the session ended")
        return self.conflict(path, node)

    def compare(self, path: str, node: Stat | None, expected: str | None) -> None:
        """Raise `Conflict` if the node is not at the revision."""
        found = None if node is None else node.revision
        if found != expected:
            stands = "absent" if found is None else f"at {found}"
            wanted = "absent" if expected is None else f"at {expected}"
            raise Conflict(f"{self.server}: {path}: it is {stands}, not {wanted}")
