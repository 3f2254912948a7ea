"""The two faces: `Registry` blocks and works in any thread, `AsyncRegistry` works on any event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sofa_registry_adapters import advertise
from sofa_registry_adapters.advertise import Advertised
from sofa_registry_adapters.errors import DeadlineExceeded
from sofa_registry_adapters.face import (
    TIMEOUT,
    Address,
    AsyncFace,
    BlockingFace,
    Face,
    await_call,
    check_timeout,
    given_fields,
    host_to_publish,
    instances_to_publish,
    listen,
    listen_async,
)
from sofa_registry_adapters.handles import (
    AsyncRegistration,
    AsyncSubscription,
    AsyncWatch,
    Registration,
    Subscription,
    Watch,
)
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange, ServiceView

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sofa_registry_adapters.engine.core import Engine
    from sofa_registry_adapters.engine.session import Session

Name = str | ServiceKey


class _RegistryFace(Face["Engine"]):
    """What both faces of a registry share."""

    def _prepare(self) -> Callable[[], Engine]:
        from sofa_registry_adapters.engine.core import registry_engine

        return registry_engine(self._backend, self._layout, self._target, self._clock, self.events)

    def _glance(self, service: Name) -> ServiceView | None:
        """The view of a watched service that somebody has read since it changed last. As fast as can be: calls may come for each request."""
        try:
            settled: ServiceView | None = self._seen[service].settled
        except (KeyError, TypeError):  # nobody has looked yet; or it is no name, and refused where it is parsed
            return None
        return settled

    def _look(self, service: Name, session: Session[Engine]) -> ServiceView | None:
        """The view of a watched service. The next time `_glance` may have it."""
        source = session.engine.source(ServiceKey.parse(service))
        if source is None:
            self._seen.pop(service, None)
            return None
        self._seen[service] = source
        return source.view()

    def _advertised(self) -> Future[advertise.Advertised]:
        """Found on a thread of its own: name resolution may hang."""
        from sofa_registry_adapters.engine.reactor import DaemonExecutor

        return DaemonExecutor(1).submit(advertise.advertise_address, self._target)


class Registry(_RegistryFace, BlockingFace["Engine"]):
    """A service registry, blocking; every verb may be called from any thread.

    Every verb returns or raises within its ``timeout`` (seconds). The first verb, ``with`` or `open`
    connects; ``with`` does not fail when the registry is down, the verbs do. What is published stays
    published until it is withdrawn, the Registry is closed or the process ends, whatever happens to
    the registry meanwhile.
    """

    def publish(
        self,
        service: Name,
        instances: Address | Iterable[Address] | None = None,
        *,
        port: int | None = None,
        instance_id: str | None = None,
        protocol: str | None = None,
        weight: int | None = None,
        enabled: bool | None = None,
        zone: str | None = None,
        metadata: Mapping[str, str] | None = None,
        required: bool = True,
        timeout: float = TIMEOUT,
    ) -> Registration:
        """Publish one address (``host:port`` or an `Instance`) or several, as one registration.

        With ``port`` beside it ``instances`` is a host; with ``port`` alone the address of this machine
        that routes to the registry is used. If
        ``required``, it is in the registry when this returns, and nothing is left behind when it raises;
        otherwise it returns at once and keeps trying.
        """
        key, bound = ServiceKey.parse(service), check_timeout(timeout)
        fields = given_fields(
            instance_id=instance_id,
            protocol=protocol,
            weight=weight,
            enabled=enabled,
            zone=zone,
            metadata=metadata,
        )
        host = host_to_publish(key, instances, port)
        if not host and host is not None:
            host = self.advertise_address(timeout=bound).host
        checked = instances_to_publish(key, instances, host, port, fields, target=self._target)
        session = self._opened()
        work = session.engine.publish(key, checked, bound, required=required)
        return Registration(session, session.run(work, bound, session.engine.abandon))

    def lookup(self, service: Name, *, timeout: float = TIMEOUT) -> ServiceView:
        """The instances now: of a watched service at once and without I/O, otherwise by one read.

        Without the registry it is the last known good from the disk, stale; if there is none, raises `Unavailable`.
        """
        if (glance := self._glance(service)) is not None:
            return glance
        key, bound = ServiceKey.parse(service), check_timeout(timeout)
        session = self._opened()
        view = self._look(service, session)
        return view if view is not None else session.run(session.engine.lookup(key, bound), bound)

    def subscribe(
        self,
        service: Name,
        listener: Callable[[InstancesChange], object],
        *,
        required: bool = True,
        timeout: float = TIMEOUT,
    ) -> Subscription:
        """Call ``listener`` with the current instances in this thread, before this returns, then with each change.

        Later calls come on a thread of ours, one at a time, the latest state only. With nothing known within
        ``timeout`` raises `Unavailable`; unless ``required``: then the first call comes later.
        """
        from sofa_registry_adapters.engine.mailbox import check_listener

        checked = check_listener(listener, asynchronous=False)
        session, mailbox = self._attach(service, required=required, timeout=timeout)
        listen(session, mailbox, checked)
        return Subscription(mailbox)

    def watch(self, service: Name, *, required: bool = True, timeout: float = TIMEOUT) -> Watch:
        """An iterator of changes, the current instances first; ``close()`` from any thread ends the loop."""
        _, mailbox = self._attach(service, required=required, timeout=timeout)
        return Watch(mailbox)

    def services(self, *, timeout: float = TIMEOUT) -> Sequence[ServiceKey]:
        """The services that have an instance, sorted."""
        bound, session = check_timeout(timeout), self._opened()
        return session.run(session.engine.services(bound), bound)

    def advertise_address(self, *, timeout: float = TIMEOUT) -> Advertised:
        """The address of this machine that routes to the registry, and why it was chosen.

        ``publish(service, port=…)`` uses it. Raises `UnroutableAddress`, `DeadlineExceeded`.
        """
        bound = check_timeout(timeout)
        try:
            return self._advertised().result(bound)
        except TimeoutError:
            raise DeadlineExceeded(f"no address found within {bound:g} s: name resolution does not answer") from None

    def _attach(self, service: Name, *, required: bool, timeout: float) -> Any:
        key, bound = ServiceKey.parse(service), check_timeout(timeout)
        session = self._opened()
        work = session.engine.attach(key, bound, required=required)
        return session, session.run(work, bound, lambda mailbox: mailbox.close())


class AsyncRegistry(_RegistryFace, AsyncFace["Engine"]):
    """`Registry` with coroutines, for any asyncio event loop; the engine runs on a thread of its own.

    An application that blocks its loop stays registered. Listeners may be plain or async functions
    and run on the loop of whoever subscribed.
    """

    async def publish(
        self,
        service: Name,
        instances: Address | Iterable[Address] | None = None,
        *,
        port: int | None = None,
        instance_id: str | None = None,
        protocol: str | None = None,
        weight: int | None = None,
        enabled: bool | None = None,
        zone: str | None = None,
        metadata: Mapping[str, str] | None = None,
        required: bool = True,
        timeout: float = TIMEOUT,
    ) -> AsyncRegistration:
        """See `Registry.publish`. A cancelled call leaves nothing behind."""
        key, bound = ServiceKey.parse(service), check_timeout(timeout)
        fields = given_fields(
            instance_id=instance_id,
            protocol=protocol,
            weight=weight,
            enabled=enabled,
            zone=zone,
            metadata=metadata,
        )
        host = host_to_publish(key, instances, port)
        if not host and host is not None:
            host = (await self.advertise_address(timeout=bound)).host
        checked = instances_to_publish(key, instances, host, port, fields, target=self._target)
        session = self._opened()
        work = session.engine.publish(key, checked, bound, required=required)
        return AsyncRegistration(session, await await_call(session.call(work, session.engine.abandon)))

    async def lookup(self, service: Name, *, timeout: float = TIMEOUT) -> ServiceView:
        """See `Registry.lookup`."""
        if (glance := self._glance(service)) is not None:
            return glance
        key, bound = ServiceKey.parse(service), check_timeout(timeout)
        session = self._opened()
        view = self._look(service, session)
        return view if view is not None else await await_call(session.call(session.engine.lookup(key, bound)))

    async def subscribe(
        self,
        service: Name,
        listener: Callable[[InstancesChange], object],
        *,
        required: bool = True,
        timeout: float = TIMEOUT,
    ) -> AsyncSubscription:
        """See `Registry.subscribe`; the first call is awaited before this returns."""
        from sofa_registry_adapters.engine.mailbox import check_listener

        checked = check_listener(listener, asynchronous=True)
        session, mailbox = await self._attach(service, required=required, timeout=timeout)
        await listen_async(session, mailbox, checked)
        return AsyncSubscription(mailbox)

    async def watch(self, service: Name, *, required: bool = True, timeout: float = TIMEOUT) -> AsyncWatch:
        """See `Registry.watch`: ``async for change in await registry.watch(service)``."""
        _, mailbox = await self._attach(service, required=required, timeout=timeout)
        return AsyncWatch(mailbox)

    async def services(self, *, timeout: float = TIMEOUT) -> Sequence[ServiceKey]:
        """See `Registry.services`."""
        bound, session = check_timeout(timeout), self._opened()
        return await await_call(session.call(session.engine.services(bound)))

    async def advertise_address(self, *, timeout: float = TIMEOUT) -> Advertised:
        """See `Registry.advertise_address`."""
        import asyncio

        bound = check_timeout(timeout)
        try:
            async with asyncio.timeout(bound):
                return await asyncio.wrap_future(self._advertised())
        except TimeoutError:
            raise DeadlineExceeded(f"no address found within {bound:g} s: name resolution does not answer") from None

    async def _attach(self, service: Name, *, required: bool, timeout: float) -> Any:
        key, bound = ServiceKey.parse(service), check_timeout(timeout)
        session = self._opened()
        work = session.engine.attach(key, bound, required=required)
        return session, await await_call(session.call(work, lambda mailbox: mailbox.close()))
