"""What the verbs give back: a registration, a listener's place, a watch; blocking and async."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from sofa_registry_adapters.errors import Closed, InvalidArgument
from sofa_registry_adapters.face import TIMEOUT, await_call, check_timeout, given_fields
from sofa_registry_adapters.model.config import ConfigChange, ConfigKey
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange

if TYPE_CHECKING:
    from sofa_registry_adapters.engine.mailbox import Pending
    from sofa_registry_adapters.engine.publication import Publication, RegistrationState
    from sofa_registry_adapters.engine.session import Session

C = TypeVar("C")


def _check_process(pid: int) -> None:
    if pid != os.getpid():
        raise Closed("the watch belongs to the process before the fork: watch again here")


class _Published:
    """What both kinds of registration can tell without I/O."""

    def __init__(self, session: Session[Any], publication: Publication) -> None:
        self._session = session
        self._publication = publication

    @property
    def service(self) -> ServiceKey:
        """The service."""
        return self._publication.service

    @property
    def instances(self) -> tuple[Instance, ...]:
        """What is wanted in the registry now."""
        return self._publication.instances

    @property
    def state(self) -> RegistrationState:
        """``pending`` (not yet there), ``live``, ``lost`` (being published again), ``conflict``, ``withdrawn``."""
        return self._publication.state

    @property
    def last_error(self) -> Exception | None:
        """Why it is not live; None when it is."""
        return self._publication.last_error

    def __repr__(self) -> str:
        names = ", ".join(sorted(self._publication.ids)[:3])
        return f"<{type(self).__name__} {self.service} [{names}] {self.state}>"

    def _own(self) -> Session[Any]:
        if self._session.pid != os.getpid():
            raise Closed(
                f"the registration of {self.service} belongs to the process before the fork: publish again here"
            )
        return self._session

    def _changes(self, **fields: object) -> dict[str, object]:
        given = given_fields(**fields)
        if not given:
            raise InvalidArgument("update needs at least one field: weight, enabled, zone, protocol or metadata")
        if self.state == "withdrawn":
            raise Closed(f"the registration of {self.service} was withdrawn: publish it again")
        return given


class Registration(_Published):
    """What was published; it stays so until `unpublish` or the Registry's end."""

    def wait_live(self, timeout: float = TIMEOUT) -> None:
        """Until it is in the registry. Raises what the registry said instead, or `DeadlineExceeded`."""
        bound, session = check_timeout(timeout), self._own()
        session.run(session.engine.wait_live(self._publication, bound), bound)

    def update(
        self,
        *,
        weight: int | None = None,
        enabled: bool | None = None,
        zone: str | None = None,
        protocol: str | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Change fields of all its instances. After a time-out they stay wanted and are written later."""
        bound, session = check_timeout(timeout), self._own()
        given = self._changes(weight=weight, enabled=enabled, zone=zone, protocol=protocol, metadata=metadata)
        session.run(session.engine.update(self._publication, given, bound), bound)

    def unpublish(self, timeout: float = TIMEOUT) -> None:
        """Withdraw; gone when this returns. After a time-out it is withdrawn once the registry answers."""
        bound, session = check_timeout(timeout), self._own()
        session.run(session.engine.withdraw(self._publication, bound), bound)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session.pid == os.getpid() and self.state != "withdrawn":
            self.unpublish()


class AsyncRegistration(_Published):
    """See `Registration`."""

    async def wait_live(self, timeout: float = TIMEOUT) -> None:
        """See `Registration.wait_live`."""
        bound, session = check_timeout(timeout), self._own()
        await await_call(session.call(session.engine.wait_live(self._publication, bound)))

    async def update(
        self,
        *,
        weight: int | None = None,
        enabled: bool | None = None,
        zone: str | None = None,
        protocol: str | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """See `Registration.update`."""
        bound, session = check_timeout(timeout), self._own()
        given = self._changes(weight=weight, enabled=enabled, zone=zone, protocol=protocol, metadata=metadata)
        await await_call(session.call(session.engine.update(self._publication, given, bound)))

    async def unpublish(self, timeout: float = TIMEOUT) -> None:
        """See `Registration.unpublish`."""
        bound, session = check_timeout(timeout), self._own()
        await await_call(session.call(session.engine.withdraw(self._publication, bound)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session.pid == os.getpid() and self.state != "withdrawn":
            await self.unpublish()


class _Place:
    """A listener's place; `close` ends it, also from inside the listener."""

    def __init__(self, mailbox: Pending[Any]) -> None:
        self._mailbox = mailbox
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._mailbox.about}{' closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether the listener is called no more."""
        return self._mailbox.closed

    def close(self) -> None:
        """The listener is not called again; a call under way comes to its end. Idempotent, never blocks."""
        if self._pid == os.getpid():
            self._mailbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _AsyncPlace(_Place):
    """As `_Place`, with `async with` besides."""

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Subscription(_Place):
    """A listener's place at a service; `close` ends it, also from inside the listener."""

    @property
    def service(self) -> ServiceKey:
        """The service."""
        service: ServiceKey = self._mailbox.about
        return service


class AsyncSubscription(_AsyncPlace, Subscription):
    """See `Subscription`."""


class ConfigSubscription(_Place):
    """A listener's place at a configuration key; `close` ends it, also from inside the listener."""

    @property
    def key(self) -> ConfigKey:
        """The key, with its group."""
        key: ConfigKey = self._mailbox.about
        return key


class AsyncConfigSubscription(_AsyncPlace, ConfigSubscription):
    """See `ConfigSubscription`."""


class FieldSubscription(_Place):
    """A callback's place at a field of a bound model; `close` ends it, also from inside the callback."""

    @property
    def field(self) -> str:
        """The field, as it was named."""
        field: str = self._mailbox.about
        return field


class AsyncFieldSubscription(_AsyncPlace, FieldSubscription):
    """See `FieldSubscription`."""


class BlockingLoop(Generic[C]):
    """A blocking iterator of changes."""

    def __init__(self, mailbox: Pending[C]) -> None:
        from sofa_registry_adapters.engine.mailbox import BlockingInbox

        self._inbox = BlockingInbox(mailbox)
        self._pid = os.getpid()

    def next(self, timeout: float | None = None) -> C | None:
        """The next change; None once it is closed. Raises `DeadlineExceeded` after ``timeout`` seconds."""
        _check_process(self._pid)
        return self._inbox.next(None if timeout is None else check_timeout(timeout))

    def __iter__(self) -> Iterator[C]:
        try:
            while (change := self.next()) is not None:
                yield change
        finally:
            self.close()

    def close(self) -> None:
        """End the loop. Any thread; idempotent; never blocks."""
        if self._pid == os.getpid():
            self._inbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncLoop(Generic[C]):
    """An asynchronous iterator of changes."""

    def __init__(self, mailbox: Pending[C]) -> None:
        import asyncio

        from sofa_registry_adapters.engine.mailbox import AsyncInbox

        self._inbox = AsyncInbox(mailbox, asyncio.get_running_loop())
        self._pid = os.getpid()

    async def next(self, timeout: float | None = None) -> C | None:
        """The next change; None once it is closed. Raises `DeadlineExceeded` after ``timeout`` seconds."""
        _check_process(self._pid)
        return await self._inbox.next(None if timeout is None else check_timeout(timeout))

    async def __aiter__(self) -> AsyncIterator[C]:
        try:
            while (change := await self.next()) is not None:
                yield change
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """End the loop. Idempotent."""
        if self._pid == os.getpid():
            self._inbox.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Watch(BlockingLoop[InstancesChange]):
    """A blocking iterator of changes, the latest state each time. Leaving the loop closes it."""


class AsyncWatch(AsyncLoop[InstancesChange]):
    """See `Watch`."""


class ConfigWatch(BlockingLoop[ConfigChange]):
    """A blocking iterator of the changes of a value, the latest one each time. Leaving the loop closes it."""


class AsyncConfigWatch(AsyncLoop[ConfigChange]):
    """See `ConfigWatch`."""
