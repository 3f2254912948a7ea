"""Reading buckets: page by page, all of them at one revision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from sofa_registry_adapters.backends.etcd import messages
from sofa_registry_adapters.backends.etcd.failures import says
from sofa_registry_adapters.backends.etcd.keys import Keyspace, Path, Place, Span, below, decode
from sofa_registry_adapters.backends.etcd.link import Link
from sofa_registry_adapters.backends.etcd.messages import Message, rpc
from sofa_registry_adapters.errors import Refused, Unavailable, ValueTooLarge
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.store import Record, Stored

RANGE = messages.call("KV", "Range")
TXN = messages.call("KV", "Txn")
OPERATIONS = 128
"""In one transaction: the server's --max-txn-ops, of which it says otherwise that there are ``TOO_MANY``."""
TOO_MANY = "too many operations"
PAGE = 1000
"""Keys in one answer; less where they have large values."""
AT_ONCE = 500
"""Records that are made in one step of the event loop: about two milliseconds."""


class Witness(NamedTuple):
    """A key as it was written at a revision: who finds it so at that revision speaks with the same history."""

    raw: bytes
    revision: int
    lease: int
    value: int

    @classmethod
    def of(cls, found: Message) -> Witness:
        """What there is to be remembered of a key."""
        return cls(found.key, found.mod_revision, found.lease, hash(found.value))


class Reading(NamedTuple):
    """A bucket at one revision; ``records`` are None where they are known already.

    ``size`` counts the keys of all buckets below as well, of which ``witness`` is the newest.
    """

    revision: Revision
    size: int
    records: Sequence[Stored] | None
    witness: Witness | None


async def read(link: Link, place: Place, lease: int) -> Reading:
    """All records of a bucket, as the owner of the lease sees them. Raises `RegistryError`."""
    records: list[Stored] = []
    first: Message = None
    witness: Witness | None = None
    async for page in _pages(link, place.span):
        first = first or page
        newest = max(page.kvs, key=_written, default=None)
        if newest is not None and (witness is None or witness.revision < newest.mod_revision):
            witness = Witness.of(newest)
        for start in range(0, len(page.kvs), AT_ONCE):
            records += stored_of(place, page.kvs[start : start + AT_ONCE], lease)
            # Others get their turn on the event loop.
            await asyncio.sleep(0)
    return Reading(revision_of(first), first.count, tuple(records), witness)


def _written(found: Message) -> int:
    revision: int = found.mod_revision
    return revision


async def stands(link: Link, place: Place, reading: Reading) -> bool:
    """Whether the store certainly has the history in which the bucket was so. Raises `RegistryError`.

    A store that was wiped may have come to the same revision since, with the same keys even. Then its newest record of that
    time was another one, or written at another revision or under another lease, or there were more or fewer.
    """
    witness, since = reading.witness, reading.revision
    if witness is None:
        return False
    found, newer = (
        rpc.RangeRequest(key=witness.raw, revision=witness.revision),
        _newer_than(place, witness.revision, as_of=since.counter),
    )
    try:
        there, after = await asyncio.gather(link.ask(RANGE, found), link.ask(RANGE, newer))
    except Unavailable as error:
        # It is compacted, or was never reached.
        if says(error.__cause__, "required revision"):
            return False
        raise
    same = [*map(Witness.of, there.kvs)] == [witness] and not after.kvs and after.count == reading.size
    return same and revision_of(after).epoch == since.epoch


def _newer_than(place: Place, revision: int, *, as_of: int = 0) -> Message:
    """The request for one key that was written after a revision, and for how many there are."""
    first, end = place.span
    return rpc.RangeRequest(
        key=first, range_end=end, revision=as_of, min_mod_revision=revision + 1, limit=1, keys_only=True
    )


def stored_of(place: Place, found: Iterable[Message], lease: int) -> list[Stored]:
    """The records that keys and their values are."""
    records = []
    for one in found:
        key = place.key(one.key)
        if key is not None:
            owner = one.lease
            record = Record(key.bucket, key.name, one.value, owned=owner != 0)
            whose = "none" if owner == 0 else "mine" if owner == lease else "other"
            records.append(Stored(record, str(one.mod_revision), whose))  # type: ignore[arg-type]
    return records


def revision_of(answer: Message) -> Revision:
    """Where the store was when it answered."""
    return Revision(f"{answer.header.cluster_id:x}", answer.header.revision)


async def _pages(link: Link, span: Span) -> AsyncIterator[Message]:
    """The answers for a span, all at the revision of the first."""
    limit, at, revision = PAGE, span.first, 0
    while True:
        request = rpc.RangeRequest(key=at, range_end=span.end, limit=limit, revision=revision)
        try:
            page = await link.ask(RANGE, request)
        except ValueTooLarge:
            # More than one message may have; a single record always fits.
            if limit == 1:
                raise
            limit = max(1, limit // 10)
            continue
        yield page
        if not page.more:
            return
        at, revision = page.kvs[-1].key + b"\0", revision or page.header.revision


async def unchanged(link: Link, place: Place, revision: int, count: int) -> bool:
    """Whether the span is what it was at a revision, when it had so many keys: none is newer, and none is gone."""
    answer = await link.ask(RANGE, _newer_than(place, revision))
    # A server that went back knows nothing newer, either.
    return not answer.kvs and answer.count == count and answer.header.revision >= revision


class Seen(NamedTuple):
    """A key as it was at ``revision``: its lease and the revision at which it was written, 0 for a key that is absent."""

    lease: int
    written: int
    revision: int


async def look(link: Link, raws: Sequence[bytes]) -> list[Seen]:
    """What these keys are, many in one request, and all requests at once. Raises `RegistryError`."""
    parts = [raws[start : start + OPERATIONS] for start in range(0, len(raws), OPERATIONS)]
    answers = await asyncio.gather(*(_look(link, part) for part in parts), return_exceptions=True)
    seen: list[Seen] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        seen += answer
    return seen


async def _look(link: Link, raws: Sequence[bytes]) -> list[Seen]:
    ranges = [rpc.RequestOp(request_range=rpc.RangeRequest(key=raw, keys_only=True)) for raw in raws]
    try:
        answer = await link.ask(TXN, rpc.TxnRequest(success=ranges))
    except Refused as error:
        if len(raws) == 1 or TOO_MANY not in str(error):
            raise
        half = len(raws) // 2
        return [*await _look(link, raws[:half]), *await _look(link, raws[half:])]
    found = [next(iter(one.response_range.kvs), None) for one in answer.responses]
    revision = answer.header.revision
    return [Seen(one.lease, one.mod_revision, revision) if one is not None else Seen(0, 0, revision) for one in found]


async def buckets(link: Link, keyspace: Keyspace, parent: Path) -> list[str]:
    """The names of the buckets right below one that have a record at any depth."""
    head = keyspace.of_bucket(parent)
    span, names = below(head), dict[str, None]()
    at = span.first
    while True:
        request = rpc.RangeRequest(key=at, range_end=span.end, limit=PAGE, keys_only=True)
        page = await link.ask(RANGE, request)
        segment = b""
        for one in page.kvs:
            segment, slash, _ = one.key[len(head) :].partition(b"/")
            if slash:
                names[decode(segment)] = None
        if not page.more:
            return list(names)
        # The rest of a bucket says nothing new.
        last = page.kvs[-1].key
        at = below(head + segment + b"/").end if last.startswith(head + segment + b"/") else last + b"\0"
