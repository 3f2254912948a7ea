"""One owner with its connections: what a store does between open and close, on the store's own thread."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from sofa_registry_adapters.backends.local import owners, records, schema
from sofa_registry_adapters.backends.local.database import Database, DiskFull, Replaced
from sofa_registry_adapters.backends.local.place import Place
from sofa_registry_adapters.backends.local.poller import PROBED, Poller, sweep
from sofa_registry_adapters.backends.local.process import Process, here
from sofa_registry_adapters.errors import ForkUnsupported, Refused, RegistryError, Unavailable
from sofa_registry_adapters.model.views import Revision
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.store import Bucket, Record, RecordKey, Stored, StorePatch, StoreSnapshot

T = TypeVar("T")

_LEAVE_WITHIN = 0.7
_GRACE = 0.9
"""Of the third of a lease after which it is renewed: callers are never exactly on time."""


class _Expelled(Exception):
    """This owner was taken for dead: it hung, or somebody removed its row or its lock file."""


class Session:
    """Everything of one open store but its threads. Only `read` and `patch` may be called beside the rest."""

    def __init__(self, place: Place, clock: Clock, lease: float, patience: float, names: records.Names) -> None:
        self._process = process = _process()
        self._place = place
        self._clock = clock
        self._lease = lease
        self._patience = patience
        self._names = names
        self._vigil = owners.Vigil(clock, lease, process)
        self._writer, self._reader = Database(place, patience), Database(place, patience)
        self._looker = Database(place, 0.0)
        self.poller: Poller = Poller(self._looker, names, self._vigil, lambda: self._owner)
        for database in self._databases():
            process.add_database(database)
        self._owner = ""
        self._renewed = 0.0
        self._position = 0
        self._mine: set[RecordKey] = set()
        self._missing: set[RecordKey] = set()
        self.ended: bool = False
        """Whether nobody waits for this session any more."""
        self._replaced: Replaced | None = None
        self._told = False

    def _databases(self) -> tuple[Database, ...]:
        return self._writer, self._reader, self._looker

    @property
    def replaced(self) -> bool:
        """Whether the file was found to be another one, and this session has not gone over to it."""
        return self._replaced is not None

    # Begin and end.

    def open(self) -> None:
        """Find or make the file, remove the dead, and become an owner."""
        try:
            self._place.prepare()
            with owners.opening(self._place.owners, self._process, self._patience):
                self._place.create()
                identity = self._place.identity()
                self._writer.use(identity, "")
                epoch = self._writer.plain(lambda one: schema.prepare(one, self._place.path))
            # A copy that is put back has the epoch of the file it is a copy of, and a lower counter.
            epoch = epoch if identity is None else f"{epoch}-{identity[1]:x}"
            self._reader.use(identity, epoch)
            self._looker.use(identity, epoch)
            self._vigil.folder = self._place.owners
            self._clean()
            self._join()
        except BaseException:
            self.drop()
            raise
        self._process.drop_poller(self._place.path, self.poller)
        self._process.add_poller(self._place.path, self.poller)

    def _clean(self) -> None:
        self._vigil.touch()
        everyone = self._writer.read(records.owners)
        sweep(self._writer, self._vigil, [one for one in everyone if self._vigil.is_dead(one)])
        if self._writer.read(records.orphans):
            self._writer.write(lambda one: records.expel(one, records.orphans(one)))
        known = frozenset(one.id for one in everyone)
        owners.remove_strays(self._place.owners, known, self._process)

    def _join(self) -> None:
        """Become an owner, a new one if this store was one before; records of the former one are gone."""
        former = self._owner
        self._place.prepare_owners()
        owner = owners.claim(self._place.owners, self._process)
        row = (owner, self._process.pid, self._vigil.boot, self._vigil.expiry())

        def join(connection: sqlite3.Connection) -> int:
            records.expel(connection, (former,))
            connection.execute("INSERT INTO owners (id, pid, boot, expires) VALUES (?, ?, ?, ?)", row)
            return records.counter(connection)

        try:
            self._position = self._writer.write(join)
        except BaseException:
            owners.release(self._place.owners, owner, self._process)
            raise
        self._owner = owner
        self._renewed = self._clock.boot()
        owners.release(self._place.owners, former, self._process)
        self._missing |= self._mine
        self._mine.clear()

    def stop_waiting(self) -> None:
        """Let calls that wait for other processes give up."""
        for database in self._databases():
            database.stopped = True

    def leave(self) -> None:
        """Remove own records. Raises if that cannot be done soon; others do it then."""
        self._writer.stopped, self._writer.patience = False, _LEAVE_WITHIN
        if self._owner:
            self._writer.write(lambda one: records.expel(one, (self._owner,)))
            self._process.wake(self._place.path)

    def abandon(self) -> None:
        """End everything without waiting. Never raises; may be called twice."""
        self.ended = True
        self.stop_waiting()
        self.poller.stop(Unavailable("the store was closed"))
        self._process.drop_poller(self._place.path, self.poller)
        self.drop()

    def drop(self) -> None:
        """Give up the lock, and close the connections that are not in use at this moment."""
        owners.release(self._place.owners, self._owner, self._process)
        for database in self._databases():
            database.close()

    # Verbs.

    def renew(self) -> Collection[RecordKey]:
        """`RecordStore.renew`."""
        self._vigil.touch()
        failure = self.poller.failure()
        if isinstance(failure, Replaced):
            self._replaced = failure
        if self._replaced is not None and self._told:
            self.return_to_file()
        elif self._replaced is not None or failure is not None:
            self._told = self._replaced is not None
            raise self._replaced or failure or Unavailable("unreachable")
        with self._noticing():
            self._extend()
            self._bury()
            self._look()
        return frozenset(self._missing)

    def return_to_file(self) -> None:
        """Go on with the file that is there now."""
        self.poller.cut(self._replaced or Unavailable("the file was replaced"))
        self.open()
        self.poller.failure()
        self._replaced, self._told = None, False

    def _extend(self) -> None:
        due = self._clock.boot() - self._renewed >= self._lease / 3 * _GRACE
        if not due:
            if self._writer.read(lambda one: records.owner_of(one, self._owner)) is None:
                self._join()
            return
        expiry = self._vigil.expiry()
        update = "UPDATE owners SET expires = ? WHERE id = ?"
        if self._writer.write(lambda one: one.execute(update, (expiry, self._owner)).rowcount):
            self._renewed = self._clock.boot()
        else:
            self._join()

    def _bury(self) -> None:
        """Remove the dead, for readers that have no watch, and so no poller that does it."""
        others = [one for one in self._writer.read(records.owners) if one.id != self._owner]
        over = [one for one in others if self._vigil.is_over(one)]
        probed = others if len(others) <= PROBED else random.sample(others, PROBED)
        if dead := {one.id: one for one in (*over, *probed) if self._vigil.is_dead(one)}:
            sweep(self._writer, self._vigil, dead.values())
            self._process.wake(self._place.path)

    def _look(self) -> None:
        """Find own records that somebody else removed or took."""

        def look(connection: sqlite3.Connection) -> tuple[int, set[RecordKey]]:
            logged = records.changes(connection, self._names, self._position)
            suspects = self._mine if logged.keys is None else self._mine & logged.keys.keys()
            found = records.find(connection, self._names, suspects, self._owner)
            return logged.counter, suspects - {one.key for one in found if one.owner == "mine"}

        self._position, lost = self._writer.read(look)
        self._mine -= lost
        self._missing |= lost

    def put(self, wanted: Sequence[Record]) -> Mapping[RecordKey, str | RegistryError]:
        """`RecordStore.put`."""
        try:
            return self._change(lambda writer: {record.key: writer.put(record) for record in wanted})
        except DiskFull as error:
            return {record.key: Refused(str(error)) for record in wanted}

    def delete(self, keys: Sequence[RecordKey]) -> Mapping[RecordKey, RegistryError]:
        """`RecordStore.delete`."""
        refused: dict[RecordKey, RegistryError] = {
            key: problem for key in keys if (problem := records.check_key(key)) is not None
        }
        try:
            self._change(lambda writer: writer.delete([key for key in keys if key not in refused]))
        except DiskFull as error:
            return {**{key: Refused(str(error)) for key in keys}, **refused}
        return refused

    def compare_and_put(self, record: Record, expected: str | None) -> str:
        """`ConditionalStore.compare_and_put`."""
        return self._change(lambda writer: writer.compare_and_put(record, expected))

    def compare_and_delete(self, key: RecordKey, expected: str) -> None:
        """`ConditionalStore.compare_and_delete`."""
        self._change(lambda writer: writer.compare_and_delete(key, expected))

    def buckets(self, parent: tuple[str, ...]) -> Sequence[str]:
        """`ListableStore.buckets`."""
        return self._reader.read(lambda one: records.below(one, self._names, parent))

    def read(self, bucket: Bucket, known: Revision | None = None) -> StoreSnapshot | None:
        """`RecordStore.read`."""

        def read(connection: sqlite3.Connection) -> StoreSnapshot | None:
            epoch = self._reader.epoch
            since = known.counter if known is not None and known.epoch == epoch else None
            if since is not None and not records.has_changed(connection, self._names, bucket, since):
                return None
            found = records.read(connection, self._names, bucket, self._owner)
            return StoreSnapshot(Revision(epoch, records.counter(connection)), found)

        return self._reader.read(read)

    def dead(self, keys: Sequence[RecordKey]) -> Sequence[RecordKey]:
        """Records whose owner's process has ended. One that hangs may come back, whatever its lease says."""

        def look(connection: sqlite3.Connection) -> list[tuple[RecordKey, str, owners.Owner | None]]:
            held = ((key, records.holder(connection, self._names, key)) for key in keys)
            return [(key, name, records.owner_of(connection, name)) for key, name in held if name is not None]

        found = self._reader.read(look)
        return [key for key, _, owner in found if owner is None or self._vigil.is_gone(owner)]

    def snapshot(self, bucket: Bucket) -> StoreSnapshot:
        """All of a bucket."""
        snapshot = self.read(bucket)
        return StoreSnapshot(Revision()) if snapshot is None else snapshot

    def patch(self, keys: Sequence[RecordKey], revision: Revision) -> StorePatch:
        """What is at ``keys`` now; at least what was there at ``revision``. Raises if that is of another file."""

        def find(connection: sqlite3.Connection) -> tuple[Stored, ...]:
            if self._reader.epoch != revision.epoch:
                raise Unavailable(f"{self._place.path} is another file now: watch again")
            return records.find(connection, self._names, keys, self._owner)

        changed = self._reader.read(find)
        there = {one.key for one in changed}
        return StorePatch(revision, changed, tuple(key for key in keys if key not in there))

    # Inside.

    def _change(self, work: Callable[[records.Writer], T]) -> T:
        if self._replaced is not None:
            raise self._replaced
        with self._noticing():
            try:
                answer = self._written(work)
            except _Expelled:
                self._join()
                answer = self._written(work)
        self._process.wake(self._place.path)
        return answer

    def _written(self, work: Callable[[records.Writer], T]) -> T:
        def write(connection: sqlite3.Connection) -> tuple[T, records.Writer, int, int]:
            if records.owner_of(connection, self._owner) is None:
                raise _Expelled
            before = records.counter(connection)
            writer = records.Writer(connection, self._names, self._owner, self._vigil.is_dead)
            answer = work(writer)
            records.trim(connection)
            return answer, writer, before, records.counter(connection)

        answer, writer, before, after = self._writer.write(write)
        if self._position == before:
            # Nothing to look at: these changes are our own.
            self._position = after
        self._missing -= writer.settled.keys()
        self._mine -= writer.settled.keys()
        self._mine |= {key for key, mine in writer.settled.items() if mine}
        if self._mine:
            self.poller.attend()
        for owner in writer.dead:
            owners.remove(self._place.owners, owner)
        return answer

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except Replaced as error:
            self._replaced = error
            raise


def _process() -> Process:
    process = here()
    if process.tainted:
        raise ForkUnsupported(
            "this process was forked while SQLite was in use in its parent and could not be closed for the fork: "
            "open local:// before any other thread forks, or start the process with spawn"
        )
    return process
