"""Which node of a cluster has which bucket, and commands for many of them at once."""

from __future__ import annotations

import asyncio
import bisect
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Connection
from redis.crc import key_slot

from sofa_registry_adapters.backends.redis.asking import ask_most, gravest
from sofa_registry_adapters.backends.redis.commands import Commands, ServerCommands
from sofa_registry_adapters.backends.redis.connecting import CONNECT_SECONDS, Connector, Link, named, part
from sofa_registry_adapters.backends.redis.failures import Moved, translating
from sofa_registry_adapters.backends.redis.masters import home_of_master
from sofa_registry_adapters.backends.redis.scripting import Argument, Command, Script
from sofa_registry_adapters.errors import Closed, RegistryError, Unavailable
from sofa_registry_adapters.spi.options import Address, Target

WITHOUT_KEY = frozenset(("PING", "INFO", "TIME"))
SCRIPTED = frozenset(("EVAL", "EVALSHA"))


class Plan(NamedTuple):
    """Who has which slots, as one node says; that with the highest ``epoch`` is the newest. The ranges are sorted."""

    epoch: int
    starts: Sequence[int]
    ends: Sequence[int]
    masters: Sequence[Address]

    def master(self, slot: int) -> Address:
        """Who has a slot. Raises `Unavailable` if nobody has."""
        at = bisect.bisect(self.starts, slot) - 1
        if at < 0 or slot > self.ends[at]:
            raise Unavailable(f"no master of the redis cluster has the slot {slot}")
        return self.masters[at]


class NodeConnector(Connector):
    """Connects to one node, as long as it is a master."""

    def __init__(self, target: Target, address: Address) -> None:
        super().__init__(target)
        self.where = named(address)
        self._address = address

    async def connect(self) -> Link:
        async with asyncio.timeout(self.call_timeout):
            connection = await self.open(self._address)
            try:
                self.home = await home_of_master(connection, self.where)
            except BaseException:
                await part(connection)
                raise
        return Link(connection, self.home)


class ClusterConnector(Connector):
    """Knows the nodes. What it connects to is one master or another: for messages all are equal."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.where = f"the cluster at {', '.join(map(named, target.addresses))}"
        self._plan: Plan | None = None
        self._learning = asyncio.Lock()

    async def connect(self) -> Link:
        address = random.choice((await self.plan()).masters)  # noqa: S311  spreads the load
        try:
            async with asyncio.timeout(self.call_timeout):
                return Link(await self.open(address), "")
        except BaseException:
            self.forget()
            raise

    def to_node(self, address: Address) -> NodeConnector:
        """Connects to this node only."""
        return NodeConnector(self._target, address)

    def forget(self) -> None:
        """What is known is out of date: ask again when it is needed."""
        self._plan = None

    async def plan(self) -> Plan:
        """Who has what. Raises `Unavailable`."""
        async with self._learning:
            if self._plan is None:
                self._plan = await self._learn()
            return self._plan

    async def _learn(self) -> Plan:
        questions = [self._ask(address) for address in self._target.addresses]
        found, troubles = await ask_most(questions, min(CONNECT_SECONDS, self.call_timeout / 2))
        if not found:
            raise gravest(troubles, f"the nodes in the URL ({', '.join(map(named, self._target.addresses))})")
        newest = max(found, key=lambda one: one.epoch)
        if not newest.masters:
            raise Unavailable(f"{self.where} has no slots yet")
        return newest

    async def _ask(self, address: Address) -> Plan:
        with translating(named(address)):
            connection = await self.open(address)
            try:
                return await _plan_of(connection, address)
            finally:
                await part(connection)


async def _plan_of(connection: Connection, address: Address) -> Plan:
    await connection.send_command("CLUSTER", "INFO")
    said: bytes = await connection.read_response()
    told = dict(line.partition(":")[::2] for line in said.decode().splitlines())
    await connection.send_command("CLUSTER", "SLOTS")
    ranges: list[tuple[int, int, Address]] = []
    for first, last, (host, port, *_), *_ in await connection.read_response():
        # A node that does not know its own address is where it was asked.
        ranges.append((int(first), int(last), Address(host.decode() if host else address.host, int(port))))
    ranges.sort(key=lambda one: one[0])
    starts, ends, masters = zip(*ranges, strict=True) if ranges else ((), (), ())
    return Plan(int(told.get("cluster_current_epoch", 0)), starts, ends, masters)


class ClusterCommands(Commands):
    """Runs each command on the master that has its key, those of one master in one go, and those of several at once.

    A master that cannot be reached costs only what it has: the rest is answered.
    """

    def __init__(self, connector: ClusterConnector, scripts: Mapping[str, Script]) -> None:
        self._connector = connector
        self._scripts = scripts
        self._nodes: dict[Address, ServerCommands] = {}
        self._homes: dict[int, str] = {}
        self._cuts_of_parted = 0
        self._closed = False

    @property
    def cuts(self) -> int:
        return self._cuts_of_parted + sum(node.cuts for node in self._nodes.values())

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        answers = await self._exchange(commands)
        moved = [at for at, answer in enumerate(answers) if isinstance(answer, Moved)]
        if moved:
            # Not carried out there: it may be sent to whoever has the slot by now.
            again = await self._exchange([commands[at] for at in moved])
            for at, answer in zip(moved, again, strict=True):
                answers[at] = answer
        if all(isinstance(answer, Unavailable) for answer in answers):
            raise answers[0]
        return answers

    async def run_between(self, frame: Command, commands: Sequence[Command]) -> list[Any]:
        return [*await self.run((frame,)), *await self.run(commands), *await self.run((frame,))]

    def home_of(self, key: bytes) -> str:
        return self._homes.get(key_slot(key), "")

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        with translating(self._connector.where):
            async with asyncio.timeout(self._connector.call_timeout):
                plan = await self._connector.plan()
        if self._closed:
            raise Closed("the store was closed")
        await self._part(self._nodes.keys() - set(plan.masters))
        answers: list[Any] = [None] * len(commands)
        parts: dict[Address, list[int]] = {}
        for at, command in enumerate(commands):
            try:
                parts.setdefault(self._master(plan, command), []).append(at)
            except Unavailable as error:
                answers[at] = error
        try:
            await asyncio.gather(*(self._exchange_with(node, commands, at, answers) for node, at in parts.items()))
        except BaseException:
            # Given up by the caller: whoever was waited for may have been replaced.
            self._connector.forget()
            raise
        if any(isinstance(answer, Unavailable) for answer in answers):
            self._connector.forget()
        return answers

    def _master(self, plan: Plan, command: Command) -> Address:
        key = key_of(command)
        return plan.master(key_slot(key)) if key is not None else plan.masters[0]

    async def _exchange_with(
        self, address: Address, commands: Sequence[Command], places: Sequence[int], answers: list[Any]
    ) -> None:
        if address not in self._nodes:
            self._nodes[address] = ServerCommands(self._connector.to_node(address), self._scripts)
        node = self._nodes[address]
        found: Sequence[Any]
        try:
            found = await node.exchange([commands[at] for at in places])
        except Closed:
            gone = Unavailable(f"redis at {named(address)} is no master of the cluster any more")
            found = [gone] * len(places)
        except RegistryError as error:
            found = [error] * len(places)
        for at, answer in zip(places, found, strict=True):
            answers[at] = answer
            if (key := key_of(commands[at])) is not None and not isinstance(answer, RegistryError):
                self._homes[key_slot(key)] = node.home_of(key)

    async def close(self) -> None:
        self._closed = True
        await self._part(tuple(self._nodes))

    async def _part(self, addresses: Collection[Address]) -> None:
        leaving = [self._nodes.pop(address) for address in addresses]
        if leaving:
            # Another master has by now what these had.
            self._cuts_of_parted += 1 + sum(node.cuts for node in leaving)
            await asyncio.gather(*(node.close() for node in leaving))


def key_of(command: Command) -> bytes | None:
    """The key by which a command finds its node; None if any will do."""
    if command[0] in WITHOUT_KEY:
        return None
    key: Argument = command[3] if command[0] in SCRIPTED else command[1]
    assert isinstance(key, bytes)  # noqa: S101  names of keys are made so
    return key
