"""Which server is the master now: what the Sentinels say, and what that server says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Connection

from sofa_registry_adapters.backends.redis.asking import ask_most, gravest
from sofa_registry_adapters.backends.redis.connecting import CONNECT_SECONDS, Connector, Link, named, part
from sofa_registry_adapters.backends.redis.failures import translating
from sofa_registry_adapters.backends.redis.sentinel import database, master_name
from sofa_registry_adapters.errors import Unavailable
from sofa_registry_adapters.spi.logging_in import present_login
from sofa_registry_adapters.spi.options import Address, Target

HOME_LETTERS = 12


class Configuration(NamedTuple):
    """What one Sentinel says of the master; that with the highest ``age`` is the newest: its epoch, and whether one is promoted just now."""

    age: tuple[int, bool]
    address: Address
    down: bool


class MasterConnector(Connector):
    """Connects to the master that the Sentinels name.

    The client library's own discovery asks one Sentinel after the other and believes the first: one that hangs would cost
    its whole time-out at each connect, and one that was cut off would send writes to a server that was replaced.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target, database(target))
        self._name = master_name(target)
        self._sentinels = target.addresses
        self._sentinel_login = _of_sentinels(target)
        self._group = f"the Sentinels at {', '.join(map(named, self._sentinels))}"
        self.where = f"the master {self._name!r} of {self._group}"

    async def connect(self) -> Link:
        async with asyncio.timeout(self.call_timeout):
            address = await self._discover()
            connection = await self.open(address)
            try:
                home = await home_of_master(connection, named(address))
            except BaseException:
                await part(connection)
                raise
        self.home = home
        self.where = f"{named(address)}, the master {self._name!r}"
        return Link(connection, home)

    async def _discover(self) -> Address:
        """Where the master is. Raises `Unavailable` while there is none, `Refused` if there is none of that name."""
        questions = [self._ask(address) for address in self._sentinels]
        found, troubles = await ask_most(questions, min(CONNECT_SECONDS, self.call_timeout / 2))
        if not found:
            raise gravest(troubles, self._group)
        newest = max(found, key=lambda one: (one.age, one.down))
        if newest.down:
            raise Unavailable(f"the master {self._name!r} at {named(newest.address)} is down, say {self._group}")
        return newest.address

    async def _ask(self, address: Address) -> Configuration:
        where = f"the Sentinel {named(address)}"
        with translating(where):
            connection = await self.wiring.connect(address, await present_login(self._sentinel_login))
            try:
                # The second one knows of a promotion first, the first one how old all of that is.
                await connection.send_command("SENTINEL", "MASTER", self._name)
                told = await connection.read_response()
                await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
                place = await connection.read_response()
            finally:
                await part(connection)
        try:
            return configuration(fields(told), place)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise Unavailable(f"{where} does not answer as a Sentinel: {error!r}") from error


def configuration(told: Mapping[str, str], place: Sequence[bytes]) -> Configuration:
    """What a Sentinel said of the master, and where it sends clients. Raises what wrong shapes raise."""
    host, port = (raw.decode() for raw in place)
    promoting = (host, port) != (told["ip"], told["port"])
    down = "o_down" in told["flags"].split(",") and not promoting
    return Configuration((int(told["config-epoch"]), promoting), Address(host, int(port)), down)


def _of_sentinels(target: Target) -> Target:
    """The target with the user and password that the Sentinels ask for, which are not those of the master."""
    options = {**target.options, "password_file": target.text("sentinel_password_file")}
    user = target.text("sentinel_username")
    return msgspec.structs.replace(target, username=user, password="", credentials=None, options=options)


async def home_of_master(connection: Connection, where: str) -> str:
    """The history that a server is part of. Raises `Unavailable` if it is no master."""
    await connection.send_command("INFO", "replication")
    said: bytes = await connection.read_response()
    lines = said.decode("utf-8", "replace").splitlines()
    told = {name: value for name, _, value in (line.partition(":") for line in lines)}
    if told.get("role") != "master":
        raise Unavailable(f"redis at {where} is no master: nobody has taken over yet")
    # Each server that takes over makes one anew, and its replicas take it from there.
    return told.get("master_replid", "")[:HOME_LETTERS]


def fields(flat: Sequence[Any]) -> Mapping[str, str]:
    """Names and values that stand in turn."""
    items = iter(flat)
    return {name.decode(): value.decode("utf-8", "replace") for name, value in zip(items, items, strict=True)}
