"""The way to the servers for one open store: one connection at a time, and the token that calls are made with."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

from sofa_registry_adapters.backends.etcd import messages
from sofa_registry_adapters.backends.etcd.connecting import Connection, Connector, Conversation, anchored
from sofa_registry_adapters.backends.etcd.failures import is_token, of_connection, of_member, says, translating
from sofa_registry_adapters.backends.etcd.messages import Call, Message, rpc
from sofa_registry_adapters.backends.etcd.refusals import Refusals
from sofa_registry_adapters.backends.grpc_loading import Anchor
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable

PAUSES = (0.1, 0.2, 0.4, 0.8)
"""Most seconds after so many failed attempts to connect until the next one, for which all wait who need a connection.

However many they are: each follower of a service tries by itself, and a server that was away is found by all of its clients at once.
The engine paces each of them, and knows nothing of the one connection that all of them share; so this pause is here.
"""
AUTHENTICATE = messages.call("Auth", "Authenticate")


class Link:
    """See the module."""

    def __init__(self, connector: Connector) -> None:
        self.token: str = ""
        self.current: Connection | None = None
        self._connector = connector
        self._connecting: asyncio.Task[Connection] | None = None
        self._authenticating = asyncio.Lock()
        self._refusals = Refusals()
        self._conversations: dict[Conversation, Callable[[RegistryError], None]] = {}
        self._parting: set[asyncio.Task[None]] = set()
        self._anchor: Anchor | None = None
        self._failures = 0
        self._pause_ends = 0.0
        self._closed = False

    async def ask(self, call: Call, request: Message, seconds: float = 0.0) -> Message:
        """The answer to one request, within ``seconds``; 0 is the call time-out. Raises `RegistryError`.

        The one thing that is done twice is a request that was refused, and not looked at, because the token is over.
        """
        connection = await self.connection()
        token = self.token
        try:
            return await self._ask(connection, call, request, seconds)
        except RegistryError as error:
            if not is_token(error.__cause__) or not self._connector.identified:
                raise
        await self.authenticate(token)
        return await self._ask(connection, call, request, seconds)

    async def _ask(self, connection: Connection, call: Call, request: Message, seconds: float) -> Message:
        try:
            with translating(connection.where):
                return await connection.ask(call, request, self.token, seconds or self._connector.call_timeout)
        except RegistryError as error:
            # A server that answers is left for another one only, and not for the same again.
            if of_connection(error.__cause__) and not (self._connector.alone and of_member(error.__cause__)):
                self.drop(connection, error)
            raise

    async def connection(self) -> Connection:
        """The connection, made if there is none. Raises `RegistryError`."""
        if self.current is not None:
            return self.current
        if self._closed:
            raise Unavailable("the store was closed")
        if self._connecting is None:
            # One attempt for all who wait; who stops waiting does not end it.
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_look)
        with translating("this URL"):
            return await asyncio.shield(self._connecting)

    async def _connect(self) -> Connection:
        connection, loop = None, asyncio.get_running_loop()
        try:
            await asyncio.sleep(max(0.0, self._pause_ends - loop.time()))
            connection = await self._connector.connect()
            self._anchor = self._anchor or anchored()
            # A token is kept until a server refuses it: checking a password costs a tenth of a second of its processor.
            if not self.token:
                await self._authenticate(connection, "")
        except BaseException as error:
            if isinstance(error, RegistryError):
                self._failures += 1
                pause = PAUSES[min(self._failures, len(PAUSES)) - 1]
                self._pause_ends = loop.time() + pause * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret
            if connection is not None:
                self._aside(connection.close())
            raise
        else:
            self._failures, self.current = 0, connection
            return connection
        finally:
            self._connecting = None

    async def authenticate(self, stale: str) -> None:
        """Get another token than this one, unless somebody else has. Raises `RegistryError`."""
        await self._authenticate(await self.connection(), stale)

    async def _authenticate(self, connection: Connection, stale: str) -> None:
        """Get a token, unless somebody else got one meanwhile. Raises `RegistryError`."""
        if not self._connector.identified:
            return
        async with self._authenticating:
            if self.token != stale:
                return
            login = await self._connector.login()
            self._refusals.check(login)
            request = rpc.AuthenticateRequest(name=login.username, password=login.password)
            try:
                with translating(connection.where):
                    answer = await connection.ask(AUTHENTICATE, request, "", self._connector.call_timeout)
            except RegistryError as error:
                if isinstance(error, Denied):
                    self._refusals.note(login, error)
                if not says(error.__cause__, "authentication is not enabled"):
                    raise
            else:
                self._refusals.forget()
                self.token = answer.token

    def converse(
        self, call: Call, heard: Callable[[Message], None], ended: Callable[[RegistryError], None]
    ) -> Conversation:
        """A stream on the connection that there is; ``ended`` is called when it ends, unless by `leave`.

        If it ends because the server is gone, the connection is given up. Raises `Unavailable` if there is none.
        """
        connection = self.current
        if connection is None:
            raise Unavailable("there is no connection")

        def over(reason: RegistryError) -> None:
            if conversation not in self._conversations:
                return
            self.leave(conversation)
            ended(reason)
            if isinstance(reason, Unavailable):
                self.drop(connection, reason)

        def told(response: Message) -> None:
            # One that was left may hear something until its task is ended.
            if conversation in self._conversations:
                heard(response)

        conversation = Conversation(connection, call, self.token, told, over)
        self._conversations[conversation] = ended
        return conversation

    def leave(self, conversation: Conversation) -> None:
        """End a stream, and nothing else."""
        if self._conversations.pop(conversation, None) is not None:
            self._aside(conversation.close())

    def drop(self, connection: Connection, reason: RegistryError) -> None:
        """Give the connection up; the next call makes another one, to another server if there is one."""
        if connection is not self.current:
            return
        self.current = None
        self._connector.skip()
        conversations = dict(self._conversations)
        for conversation, ended in conversations.items():
            self.leave(conversation)
            ended(reason)
        self._aside(connection.close())

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._parting.add(task)
        task.add_done_callback(self._parting.discard)

    async def close(self) -> None:
        """Disconnect; never raises."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,))
        if self.current is not None:
            self.drop(self.current, Unavailable("the store was closed"))
        with contextlib.suppress(Exception):
            await asyncio.gather(*self._parting)
        anchor, self._anchor = self._anchor, None
        if anchor is not None:
            with contextlib.suppress(Exception):
                await anchor.close()


def _look(task: asyncio.Task[Connection]) -> None:
    # Nobody may be left to do it.
    if not task.cancelled():
        task.exception()
