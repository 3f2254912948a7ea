"""Writing records: many in one transaction, each with a condition of its own, so that one refusal costs one record."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from sofa_registry_adapters.backends.etcd import messages
from sofa_registry_adapters.backends.etcd.link import Link
from sofa_registry_adapters.backends.etcd.messages import Message, rpc
from sofa_registry_adapters.errors import Conflict, Denied, RegistryError, Unavailable, ValueTooLarge
from sofa_registry_adapters.spi.store import RecordKey

TXN = messages.call("KV", "Txn")
OPERATIONS = 120
"""In one transaction, below the server's --max-txn-ops of 128, of which those inside each take one or two."""
BYTES = 1_000_000
AT_ONCE = 8
"""Transactions that are on their way together."""
ATTEMPTS = 4
"""Times that a record is written under another condition because it changed meanwhile."""
_TOO_MANY = "too many operations"


class Task(ABC):
    """One record. ``answer`` is the revision of what was written, an error, or None where there is nothing to say."""

    def __init__(self, key: RecordKey, raw: bytes, size: int = 0) -> None:
        self.key = key
        self.raw = raw
        self.size: int = size + 3 * len(raw) + 64
        self.done: bool = False
        self.answer: int | RegistryError | None = None

    @abstractmethod
    def request(self) -> Message:
        """The transaction for this record."""

    @abstractmethod
    def heard(self, answer: Message, revision: int) -> None:
        """What came of it; ``revision`` is that of what was written."""

    def finish(self, answer: int | RegistryError | None) -> None:
        """It is done."""
        self.done, self.answer = True, answer


class Put(Task):
    """Write a record that is absent, or of the same kind and ours. ``expected`` is what is believed to be there."""

    def __init__(self, key: RecordKey, raw: bytes, value: bytes, lease: int, *, held: bool = False) -> None:
        super().__init__(key, raw, len(value))
        self._value = value
        self._lease = lease
        self._held = held

    def request(self) -> Message:
        # A key that is absent has the lease 0, too.
        condition = absent(self.raw) if self._lease and not self._held else leased(self.raw, self._lease)
        return rpc.TxnRequest(
            compare=[condition], success=[put(self.raw, self._value, self._lease)], failure=[look(self.raw)]
        )

    def heard(self, answer: Message, revision: int) -> None:
        if answer.succeeded:
            self.finish(revision)
            return
        found = answer.responses[0].response_range.kvs
        if not found:
            self._held = False
        elif found[0].lease == self._lease and self._lease:
            self._held = True
        else:
            self.finish(Conflict(_held_by(self.key, found[0].lease)))


class Delete(Task):
    """Delete a record that is ours or nobody's."""

    def __init__(self, key: RecordKey, raw: bytes, lease: int) -> None:
        super().__init__(key, raw)
        self._lease = lease

    def request(self) -> Message:
        permanent = rpc.TxnRequest(compare=[leased(self.raw, 0)], success=[delete(self.raw)])
        if not self._lease:
            return permanent
        return rpc.TxnRequest(
            compare=[leased(self.raw, self._lease)],
            success=[delete(self.raw)],
            failure=[rpc.RequestOp(request_txn=permanent)],
        )

    def heard(self, answer: Message, revision: int) -> None:
        self.finish(None)


class ComparedPut(Task):
    """Write a record that is at a revision, or absent, whoever owns it."""

    def __init__(self, key: RecordKey, raw: bytes, value: bytes, lease: int, expected: str | None) -> None:
        super().__init__(key, raw, len(value))
        self._value = value
        self._lease = lease
        self._expected = expected

    def request(self) -> Message:
        return rpc.TxnRequest(
            compare=[expected_at(self.raw, self._expected)],
            success=[put(self.raw, self._value, self._lease)],
            failure=[look(self.raw)],
        )

    def heard(self, answer: Message, revision: int) -> None:
        self.finish(revision if answer.succeeded else _moved(self.key, answer, self._expected))


class ComparedDelete(Task):
    """Delete a record that is at a revision, whoever owns it."""

    def __init__(self, key: RecordKey, raw: bytes, expected: str) -> None:
        super().__init__(key, raw)
        self._expected = expected

    def request(self) -> Message:
        return rpc.TxnRequest(
            compare=[expected_at(self.raw, self._expected)], success=[delete(self.raw)], failure=[look(self.raw)]
        )

    def heard(self, answer: Message, revision: int) -> None:
        self.finish(None if answer.succeeded else _moved(self.key, answer, self._expected))


def _moved(key: RecordKey, answer: Message, expected: str | None) -> Conflict:
    found = answer.responses[0].response_range.kvs
    stands = f"at {found[0].mod_revision}" if found else "absent"
    wanted = "absent" if expected is None else f"at {expected}"
    return Conflict(f"the record {key.name!r} in {'/'.join(key.bucket)} is {stands}, not {wanted}")


def expected_at(raw: bytes, expected: str | None) -> Message:
    """The condition that a key is at a revision, or absent; one that no key meets for what is no revision."""
    if expected is None:
        return absent(raw)
    plain = expected.isascii() and expected.isdigit() and len(expected) < 19 and int(expected) > 0
    return at(raw, int(expected) if plain else -1)


def absent(raw: bytes) -> Message:
    """The condition that there is no such key."""
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.CREATE, key=raw, create_revision=0)


def leased(raw: bytes, lease: int) -> Message:
    """The condition that a key belongs to this lease."""
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.LEASE, key=raw, lease=lease)


def at(raw: bytes, revision: int) -> Message:
    """The condition that a key was last written at this revision."""
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.MOD, key=raw, mod_revision=revision)


def put(raw: bytes, value: bytes, lease: int) -> Message:
    """The operation that writes a key."""
    return rpc.RequestOp(request_put=rpc.PutRequest(key=raw, value=value, lease=lease))


def delete(raw: bytes) -> Message:
    """The operation that deletes a key."""
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=raw))


def look(raw: bytes) -> Message:
    """The operation that says what a key is, but for its value."""
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=raw, keys_only=True))


def _held_by(key: RecordKey, lease: int) -> str:
    whose = f"belongs to the lease {lease:x}" if lease else "is permanent"
    return f"the record {key.name!r} in {'/'.join(key.bucket)} {whose}"


async def run(link: Link, tasks: Sequence[Task]) -> None:
    """Do all of them, in order. Raises `RegistryError` if nothing is known of what became of them."""
    for _ in range(ATTEMPTS):
        for wave in _waves(_transactions([task for task in tasks if not task.done])):
            await _together(link, wave)
    for task in tasks:
        if not task.done:
            task.finish(Unavailable(f"the record {task.key.name!r} in {'/'.join(task.key.bucket)} keeps changing"))


def _transactions(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    some: list[Task] = []
    size = 0
    for task in tasks:
        if some and (len(some) >= OPERATIONS or size + task.size > BYTES):
            yield some
            some, size = [], 0
        some.append(task)
        size += task.size
    if some:
        yield some


def _waves(transactions: Iterator[list[Task]]) -> Iterator[list[list[Task]]]:
    """Neighbours that may be applied in any order: those of one and the same bucket."""
    wave: list[list[Task]] = []
    buckets: set[tuple[str, ...]] = set()
    for tasks in transactions:
        more = {task.key.bucket for task in tasks}
        if wave and (len(wave) >= AT_ONCE or len(buckets | more) > 1):
            yield wave
            wave, buckets = [], set()
        wave.append(tasks)
        buckets |= more
    if wave:
        yield wave


async def _together(link: Link, wave: Sequence[Sequence[Task]]) -> None:
    outcomes = await asyncio.gather(*(_send(link, tasks) for tasks in wave), return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


async def _send(link: Link, tasks: Sequence[Task]) -> None:
    parts = [rpc.RequestOp(request_txn=task.request()) for task in tasks]
    try:
        answer = await link.ask(TXN, rpc.TxnRequest(success=parts))
    except RegistryError as error:
        if isinstance(error, Unavailable):
            raise
        await _refused(link, tasks, error)
        return
    for task, response in zip(tasks, answer.responses, strict=True):
        task.heard(response.response_txn, answer.header.revision)


async def _refused(link: Link, tasks: Sequence[Task], error: RegistryError) -> None:
    """A transaction is refused as a whole: find out for which of its records."""
    separable = isinstance(error, Denied | ValueTooLarge) or _TOO_MANY in str(error)
    if len(tasks) == 1 or not separable:
        for task in tasks:
            task.finish(error)
        return
    half = len(tasks) // 2
    await _send(link, tasks[:half])
    await _send(link, tasks[half:])
