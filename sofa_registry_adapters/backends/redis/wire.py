"""What is in the server and on the channels, as values. Whatever is malformed is refused, never guessed.

A record is ``<owner>␟<revision>␟<value>`` (␟ is byte 31), the owner ``-`` for a permanent one. A message is a
line ``1 <epoch> <nonce> <changes>``, then for each change a line ``<counter> p|d <bytes> <bytes>`` followed by
the record's name and the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import msgspec

from sofa_registry_adapters.backends.redis.keys import Path, decode
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.store import Record, Stored

SEPARATOR = b"\x1f"
"""Between owner, revision and value, none of which but the last has it."""
_NOBODY = b"-"
RECORDS_AT_ONCE = 1000
"""Records that are made in one step of the event loop: about two milliseconds."""


class Malformed(Exception):
    """These bytes are none of ours."""


class Change(NamedTuple):
    """One change of a bucket: the record as it is kept, or None where it is gone."""

    counter: int
    name: bytes
    raw: bytes | None
    nonce: str


class Message(NamedTuple):
    """What a channel tells."""

    epoch: str
    changes: Sequence[Change]


class Position(msgspec.Struct):
    """Where a watch stands in the history of a bucket.

    ``fresh`` while messages from before it may still arrive. ``home`` is the history that the server is part of
    (`Connector.home`): in another one the same numbers may mean other changes.
    """

    epoch: str
    counter: int
    nonce: str
    fresh: bool = True
    home: str = ""

    @property
    def revision(self) -> Revision:
        """The position as a revision."""
        return revision_at(self.epoch, self.counter, self.home)


def revision_at(epoch: str, counter: int, home: str) -> Revision:
    """What the server calls epoch and counter, as a revision: the epoch is another one in another history."""
    return Revision(f"{epoch}@{home}" if home and epoch else epoch, counter)


class State(NamedTuple):
    """The answer of the script ``look``."""

    leased: bool
    held: int
    foreign: int
    revision: Revision
    records: int
    dead: frozenset[bytes]


class Reading(NamedTuple):
    """A bucket as it was at one moment."""

    position: Position
    records: Sequence[Stored]


def stored(path: Path, name: bytes, raw: bytes, me: str) -> Stored:
    """A record as the owner ``me`` sees it. One that somebody else wrote by hand counts as permanent."""
    parts = raw.split(SEPARATOR, 2)
    if len(parts) != 3:
        return Stored(Record(path, decode(name), raw, owned=False), "0", "none")
    owner, revision, value = parts
    if owner == _NOBODY:
        return Stored(Record(path, decode(name), value, owned=False), decode(revision), "none")
    record = Record(path, decode(name), value)
    return Stored(record, decode(revision), "mine" if owner == me.encode() else "other")


def owner_of(raw: bytes) -> bytes | None:
    """The owner in a record; None for a permanent one and for one that somebody else wrote by hand."""
    owner, *rest = raw.split(SEPARATOR, 2)
    return owner if len(rest) == 2 and owner != _NOBODY else None


def parse_message(data: bytes) -> Message:
    """Read a message. Raises `Malformed`."""
    try:
        end = data.index(b"\n")
        version, epoch, nonce, count = data[:end].split(b" ")
        if version != b"1":
            raise Malformed(f"version {version!r}")
        return Message(epoch.decode(), tuple(_changes(data, end + 1, int(count), nonce.decode())))
    except ValueError as error:
        raise Malformed(str(error)) from None


def _changes(data: bytes, start: int, count: int, nonce: str) -> Iterator[Change]:
    for _ in range(count):
        end = data.index(b"\n", start)
        counter, operation, name_length, raw_length = data[start:end].split(b" ")
        middle = end + 1 + int(name_length)
        start = middle + int(raw_length)
        if operation not in (b"p", b"d") or not end < middle <= start <= len(data):
            raise Malformed("a change does not fit")
        raw = data[middle:start] if operation == b"p" else None
        yield Change(int(counter), data[end + 1 : middle], raw, nonce)
    if start != len(data):
        raise Malformed("more bytes than changes")


def parse_log(entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> Sequence[Change]:
    """Read the answer of the script ``changes``. Raises `Malformed`."""
    changes = []
    for entry, fields in entries:
        try:
            _, operation, _, name, _, raw, _, nonce = fields
            change = Change(int(entry.partition(b"-")[0]), name, raw if operation == b"p" else None, nonce.decode())
        except ValueError as error:
            raise Malformed(str(error)) from None
        changes.append(change)
    return changes


def parse_state(answer: Sequence[object], home: str) -> State:
    """Read the answer of the script ``look``."""
    *numbers, dead = answer
    leased, held, foreign, epoch, counter, records = map(_text, numbers)
    assert isinstance(dead, list)  # noqa: S101  the script says so
    revision = revision_at(epoch, int(counter), home)
    return State(leased == "1", int(held), int(foreign), revision, int(records), frozenset(dead))


async def parse_reading(
    place: tuple[Path, str], found: Sequence[bytes | None], flat: Sequence[bytes], dead: Collection[bytes], me: str
) -> Reading:
    """The fields epoch, rev and nonce of the state, and names and records but for those of dead owners.

    ``place`` is the bucket, and the history that was read.
    """
    path, home = place
    epoch, counter, nonce = (_text(field or b"") for field in found)
    gone = {owner for owner in dead if owner != me.encode()}
    records: list[Stored] = []
    items = iter(flat)
    for number, (name, raw) in enumerate(zip(items, items, strict=True), 1):
        if not (gone and raw.partition(SEPARATOR)[0] in gone):
            records.append(stored(path, name, raw, me))
        if number % RECORDS_AT_ONCE == 0:
            # Others get their turn on the event loop.
            await asyncio.sleep(0)
    return Reading(Position(epoch, int(counter or 0), nonce, home=home), tuple(records))


def _text(raw: object) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)
