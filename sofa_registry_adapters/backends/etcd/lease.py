"""The lease that all owned records of a store belong to."""

from __future__ import annotations

import asyncio
import math

from sofa_registry_adapters.backends.etcd import messages
from sofa_registry_adapters.backends.etcd.connecting import Conversation
from sofa_registry_adapters.backends.etcd.failures import again, is_token
from sofa_registry_adapters.backends.etcd.link import Link
from sofa_registry_adapters.backends.etcd.messages import Message, rpc
from sofa_registry_adapters.errors import Denied, RegistryError

GRANT = messages.call("Lease", "LeaseGrant")
KEEP_ALIVE = messages.call("Lease", "LeaseKeepAlive")
REVOKE = messages.call("Lease", "LeaseRevoke")


class Lease:
    """Granted with the first owned record; ``id`` is 0 until then, and again once it was lost."""

    def __init__(self, link: Link, seconds: float) -> None:
        self.id: int = 0
        self._link = link
        self._seconds = math.ceil(seconds)
        self._granting = asyncio.Lock()
        self._conversation: Conversation | None = None
        self._answer: asyncio.Future[int] | None = None

    async def granted(self) -> int:
        """The lease's id. Raises `RegistryError`."""
        async with self._granting:
            if not self.id:
                self.id = (await self._link.ask(GRANT, rpc.LeaseGrantRequest(TTL=self._seconds))).ID
            return self.id

    async def renew(self) -> bool:
        """Keep it alive; False if it is over. Raises `RegistryError`."""
        await self._link.connection()
        token = self._link.token
        try:
            return await self._renew()
        except Denied as error:
            if not is_token(error.__cause__):
                raise
        # Some servers look at the token of each renewal.
        await self._link.authenticate(token)
        return await self._renew()

    async def _renew(self) -> bool:
        if self._conversation is None:
            self._conversation = self._link.converse(KEEP_ALIVE, self._heard, self._ended)
        self._answer = asyncio.get_running_loop().create_future()
        self._conversation.say(rpc.LeaseKeepAliveRequest(ID=self.id))
        return await self._answer > 0

    def _heard(self, response: Message) -> None:
        if self.id == response.ID and self._answer is not None and not self._answer.done():
            self._answer.set_result(response.TTL)

    def _ended(self, reason: RegistryError) -> None:
        self._conversation = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(again(reason))
            self._answer.exception()  # nobody may be waiting

    async def revoke(self, seconds: float) -> None:
        """End it, and with it all records. Raises `RegistryError`."""
        if self.id:
            await self._link.ask(REVOKE, rpc.LeaseRevokeRequest(ID=self.id), seconds)
