"""Writes in transactions, several under way at a time; a transaction that fails is resolved."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from sofa_registry_adapters.backends.zookeeper import wire
from sofa_registry_adapters.backends.zookeeper.faults import explained
from sofa_registry_adapters.backends.zookeeper.paths import Tree
from sofa_registry_adapters.backends.zookeeper.reading import Reader
from sofa_registry_adapters.backends.zookeeper.session import Session
from sofa_registry_adapters.backends.zookeeper.tasks import Put, Task
from sofa_registry_adapters.errors import RegistryError, Unavailable

OPERATIONS = 500
"""In one transaction."""
BYTES = 512 * 1024
"""In one request; the server drops the connection at twice as many."""
ROUNDS = 6
"""Looks at a record that changes every time before it can be written."""

_MOVED = frozenset((wire.NO_NODE, wire.NODE_EXISTS, wire.BAD_VERSION))

Steps = list[tuple[Task, tuple[wire.Operation, ...]]]


def batches(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Tasks in order, as many as fit into one transaction, none twice for one record."""
    batch: list[Task] = []
    keys: set[str] = set()
    size = 0
    for task in tasks:
        full = len(batch) >= OPERATIONS or size + task.size > BYTES
        if batch and (full or task.path in keys or task.session is not batch[0].session):
            yield batch
            batch, size = [], 0
            keys.clear()
        batch.append(task)
        keys.add(task.path)
        size += task.size
    if batch:
        yield batch


class Writer:
    """Brings tasks to their answers."""

    def __init__(self, tree: Tree, reader: Reader, acl: bytes, server: str) -> None:
        self._tree = tree
        self._reader = reader
        self._acl = acl
        self._server = server
        self._standing: set[str] = set()
        """Parents that were there a moment ago: a hint, they may have vanished."""

    def forget_parents(self) -> None:
        """The server may have lost everything."""
        self._standing.clear()

    async def run(self, tasks: Sequence[Task]) -> None:
        """Answer every task. Raises `RegistryError` only if none has another answer than that."""
        if not tasks:
            return
        await self._make_parents(tasks)
        async with asyncio.TaskGroup() as group:
            for batch in batches(tasks):
                group.create_task(self._guarded(batch))
                # It is serialized and sent before the next one is cut.
                await asyncio.sleep(0)
        if all(isinstance(task.answer, Unavailable) for task in tasks) and tasks[0].answer is not None:
            raise Unavailable(str(tasks[0].answer))

    async def _guarded(self, batch: Sequence[Task]) -> None:
        try:
            await self._run(batch)
        except RegistryError as error:
            for task in batch:
                if not task.answered:
                    task.refuse(error)

    async def _run(self, batch: Sequence[Task]) -> None:
        steps: Steps = []
        if not batch[0].looks_first:
            steps = [(task, task.first()) for task in batch]
        for attempt in range(ROUNDS):
            if attempt or not steps:
                steps = await self._look(batch)
            if not steps:
                return
            session = steps[0][0].session
            answer = await session.call(wire.Transaction([each for _, operations in steps for each in operations]))
            if answer.failure is None:
                _applied(steps, answer)
                return
            if not await self._recovered(steps, answer, attempt):
                return
        for task, _ in steps:
            task.refuse(Unavailable(f"{self._server}: {task.path}: it changes faster than it can be written"))

    async def _look(self, batch: Sequence[Task]) -> Steps:
        waiting = {task.path: task for task in batch if not task.answered}
        steps: Steps = []
        async for _, nodes in self._reader.nodes(batch[0].session, list(waiting)):
            for path, reply in nodes:
                task = waiting[path]
                try:
                    if reply.code == wire.NO_AUTH:
                        raise explained(reply.code, self._server, path)
                    operations = task.given(reply.stat, reply.data)
                except RegistryError as error:
                    task.refuse(error)
                else:
                    if operations:
                        steps.append((task, operations))
        return steps

    async def _recovered(self, steps: Steps, answer: wire.Answer, attempt: int) -> bool:
        """Whether the same tasks are worth another round."""
        place = answer.failure or 0
        code = answer.replies[place].code
        if code == wire.NO_NODE:
            tasks = [task for task, _ in steps]
            self._standing.difference_update(self._tree.root)
            for task in tasks:
                self._standing.difference_update(self._tree.parents(task.key.bucket))
            denied = await self._make_parents(tasks)
            code = wire.NO_AUTH if denied and attempt else code
        if code in _MOVED:
            return True
        if len(steps) == 1:
            task = steps[0][0]
            task.refuse(explained(code, self._server, task.path))
        else:
            # One record is refused for good, and the others went with it.
            await asyncio.gather(*(self._guarded([task]) for task, _ in steps))
        return False

    async def _make_parents(self, tasks: Iterable[Task]) -> bool:
        """Make the parents of what is put; whether one of them was denied."""
        wanted: dict[str, tuple[Session, wire.Operation]] = {}
        buckets: dict[tuple[str, ...], Put] = {}
        for task in tasks:
            if isinstance(task, Put):
                buckets.setdefault(task.key.bucket, task)
        for bucket, put in buckets.items():
            for path in self._tree.root:
                if path not in self._standing:
                    wanted.setdefault(path, (put.session, wire.create(path, None, self._acl, ephemeral=False)))
            for path in self._tree.parents(bucket):
                if path not in self._standing:
                    wanted.setdefault(path, (put.session, self._parent(path, container=put.record.container)))
        sent = {path: session.send(wire.Transaction([each])) for path, (session, each) in wanted.items()}
        codes = {path: (await answer).replies[0].code for path, answer in sent.items()}
        self._standing.update(path for path, code in codes.items() if code in {wire.OK, wire.NODE_EXISTS})
        return wire.NO_AUTH in codes.values()

    def _parent(self, path: str, *, container: bool) -> wire.Operation:
        if container:
            return wire.create_container(path, self._acl)
        return wire.create(path, None, self._acl, ephemeral=False)


def _applied(steps: Steps, answer: wire.Answer) -> None:
    place = 0
    for task, operations in steps:
        place += len(operations)
        task.done(answer.replies[place - 1], answer.zxid)
