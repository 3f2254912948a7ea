"""Writing records: many in one transaction, under the condition that each is what it is believed to be.

A transaction that finds one of them changed writes nothing and says what is there: then it is known which ones are
refused, and the rest is written under new conditions. All is done by operations at the top, of which every server checks
whether the user may do them: etcd 3.4 does not look at those inside of others.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from sofa_registry_adapters.backends.etcd.link import Link
from sofa_registry_adapters.backends.etcd.messages import Message, rpc
from sofa_registry_adapters.backends.etcd.reading import OPERATIONS, TOO_MANY, TXN
from sofa_registry_adapters.errors import Conflict, Denied, RegistryError, Unavailable, ValueTooLarge
from sofa_registry_adapters.spi.store import RecordKey

SIZES = (OPERATIONS, OPERATIONS, 32, 4, 1, 1)
"""Operations in one transaction, attempt by attempt, so that a record that keeps changing harms itself only.

A transaction that a server with a narrower limit refuses is halved.
"""
BYTES = 1_000_000
AT_ONCE = 8
"""Transactions that are on their way together."""

Part = Mapping[str, object]
"""A part of a request, by its fields: the request makes messages of all of them at once, in a third of the time."""


class Task(ABC):
    """One record. ``answer`` is the revision of what was written, an error, or None where there is nothing to say."""

    def __init__(self, key: RecordKey, raw: bytes, size: int = 0) -> None:
        self.key = key
        self.raw = raw
        self.size: int = size + 3 * len(raw) + 64
        self.done: bool = False
        self.answer: int | RegistryError | None = None

    @abstractmethod
    def condition(self) -> Part:
        """What is believed to be there."""

    @abstractmethod
    def operation(self) -> Part:
        """What to do then."""

    @abstractmethod
    def written(self, revision: int) -> None:
        """It was done."""

    @abstractmethod
    def found(self, there: Message | None) -> None:
        """Nothing was done, and this is there: believe that, or refuse."""

    def finish(self, answer: int | RegistryError | None) -> None:
        """It is over."""
        self.done, self.answer = True, answer

    @property
    def place(self) -> str:
        """The record, for messages."""
        return f"the record {self.key.name!r} in {'/'.join(self.key.bucket)}"


class Put(Task):
    """Write a record that is absent, or of the same kind and ours; ``held`` is that it is believed to be ours."""

    def __init__(self, key: RecordKey, raw: bytes, value: bytes, lease: int, *, held: bool = False) -> None:
        super().__init__(key, raw, len(value))
        self._value = value
        self._lease = lease
        self._held = held

    def condition(self) -> Part:
        # A key that is absent has the lease 0, too.
        return absent(self.raw) if self._lease and not self._held else leased(self.raw, self._lease)

    def operation(self) -> Part:
        return put(self.raw, self._value, self._lease)

    def written(self, revision: int) -> None:
        self.finish(revision)

    def found(self, there: Message | None) -> None:
        if there is not None and there.lease != self._lease:
            whose = f"belongs to the lease {there.lease:x}" if there.lease else "is permanent"
            self.finish(Conflict(f"{self.place} {whose}"))
        self._held = there is not None


class Delete(Task):
    """Delete a record that is ours or nobody's; ``held`` is that it is believed to be ours."""

    def __init__(self, key: RecordKey, raw: bytes, lease: int, *, held: bool) -> None:
        super().__init__(key, raw)
        self._lease = lease
        self._held = held

    def condition(self) -> Part:
        return leased(self.raw, self._lease if self._held else 0)

    def operation(self) -> Part:
        return delete(self.raw)

    def written(self, revision: int) -> None:
        self.finish(None)

    def found(self, there: Message | None) -> None:
        self._held = there is not None and there.lease != 0
        if there is None or there.lease not in {0, self._lease}:
            self.finish(None)


class ComparedPut(Task):
    """Write a record that is at a revision, or absent, whoever owns it."""

    def __init__(self, key: RecordKey, raw: bytes, value: bytes, lease: int, expected: str | None) -> None:
        super().__init__(key, raw, len(value))
        self._value = value
        self._lease = lease
        self._expected = expected

    def condition(self) -> Part:
        return expected_at(self.raw, self._expected)

    def operation(self) -> Part:
        return put(self.raw, self._value, self._lease)

    def written(self, revision: int) -> None:
        self.finish(revision)

    def found(self, there: Message | None) -> None:
        self.finish(_moved(self.place, there, self._expected))


class ComparedDelete(Task):
    """Delete a record that is at a revision, whoever owns it."""

    def __init__(self, key: RecordKey, raw: bytes, expected: str) -> None:
        super().__init__(key, raw)
        self._expected = expected

    def condition(self) -> Part:
        return expected_at(self.raw, self._expected)

    def operation(self) -> Part:
        return delete(self.raw)

    def written(self, revision: int) -> None:
        self.finish(None)

    def found(self, there: Message | None) -> None:
        self.finish(_moved(self.place, there, self._expected))


def _moved(place: str, there: Message | None, expected: str | None) -> Conflict:
    stands = f"at {there.mod_revision}" if there is not None else "absent"
    wanted = "absent" if expected is None else f"at {expected}"
    return Conflict(f"{place} is {stands}, not {wanted}")


def expected_at(raw: bytes, expected: str | None) -> Part:
    """The condition that a key is at a revision, or absent; one that no key meets for what is no revision."""
    if expected is None:
        return absent(raw)
    plain = expected.isascii() and expected.isdigit() and len(expected) < 19 and int(expected) > 0
    return at(raw, int(expected) if plain else -1)


def absent(raw: bytes) -> Part:
    """The condition that there is no such key."""
    return {"result": rpc.Compare.EQUAL, "target": rpc.Compare.CREATE, "key": raw, "create_revision": 0}


def leased(raw: bytes, lease: int) -> Part:
    """The condition that a key belongs to this lease."""
    return {"result": rpc.Compare.EQUAL, "target": rpc.Compare.LEASE, "key": raw, "lease": lease}


def at(raw: bytes, revision: int) -> Part:
    """The condition that a key was last written at this revision."""
    return {"result": rpc.Compare.EQUAL, "target": rpc.Compare.MOD, "key": raw, "mod_revision": revision}


def put(raw: bytes, value: bytes, lease: int) -> Part:
    """The operation that writes a key."""
    return {"request_put": {"key": raw, "value": value, "lease": lease}}


def delete(raw: bytes) -> Part:
    """The operation that deletes a key."""
    return {"request_delete_range": {"key": raw}}


def look(raw: bytes) -> Part:
    """The operation that says what a key is, but for its value."""
    return {"request_range": {"key": raw, "keys_only": True}}


async def run(link: Link, tasks: Sequence[Task]) -> None:
    """Do all of them, in order. Raises `RegistryError` if nothing is known of what became of them."""
    for wave in _waves(_transactions(tasks, SIZES[0])):
        outcomes = await asyncio.gather(*(_complete(link, some) for some in wave), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome


async def _complete(link: Link, tasks: Sequence[Task]) -> None:
    for size in SIZES:
        for some in _transactions([task for task in tasks if not task.done], size):
            await _send(link, some)
    for task in tasks:
        if not task.done:
            task.finish(Unavailable(f"{task.place} keeps changing"))


def _transactions(tasks: Sequence[Task], most: int) -> Iterator[list[Task]]:
    some: list[Task] = []
    size = 0
    for task in tasks:
        if some and (len(some) >= most or size + task.size > BYTES):
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


async def _send(link: Link, tasks: Sequence[Task]) -> None:
    request = rpc.TxnRequest(
        compare=[task.condition() for task in tasks],
        success=[task.operation() for task in tasks],
        failure=[look(task.raw) for task in tasks],
    )
    try:
        answer = await link.ask(TXN, request)
    except RegistryError as error:
        if isinstance(error, Unavailable):
            raise
        await _refused(link, tasks, error)
        return
    for task, response in zip(tasks, answer.responses, strict=True):
        if answer.succeeded:
            task.written(answer.header.revision)
        else:
            there = response.response_range.kvs
            task.found(there[0] if there else None)


async def _refused(link: Link, tasks: Sequence[Task], error: RegistryError) -> None:
    """A transaction is refused as a whole: find out for which of its records."""
    separable = isinstance(error, Denied | ValueTooLarge) or TOO_MANY in str(error)
    if len(tasks) == 1 or not separable:
        for task in tasks:
            task.finish(error)
        return
    half = len(tasks) // 2
    await _send(link, tasks[:half])
    await _send(link, tasks[half:])
