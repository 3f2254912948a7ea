"""What a consumer sees: an immutable view of a service, and the change from one view to the next."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import overload

import msgspec

from sofa_registry_adapters.model.guarded import Guarded
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey


class Revision(msgspec.Struct, frozen=True, gc=False):
    """Where a view stands in the registry's history.

    Within an ``epoch`` a service's views have counters that never go down. A store that was wiped or
    restored starts another epoch.
    """

    epoch: str = ""
    counter: int = 0


class Source(Guarded):
    """The newest state of one service. One thread changes it; views are taken from it lazily by any.

    A view that nobody reads costs nothing: only one that is still held when the state moves on is
    copied out before. One that was read is kept until then, for the next who asks.
    """

    def __init__(self, service: ServiceKey, now: Callable[[], float] | None = None) -> None:
        super().__init__()
        self.service = service
        self.instances: dict[str, Instance] = {}
        self.revision: Revision = Revision()
        self.stale = False
        self.protected = False
        self.confirmed: float = 0.0
        self.settled: ServiceView | None = None
        """The newest view, if anybody has read it. Any thread, without the lock."""
        self._now = now
        self._newest: weakref.ref[ServiceView] | None = None
        self._ended = False

    def retire(self) -> None:
        """Under the lock, before a change: let the newest view keep what it shows."""
        view = self._newest() if self._newest is not None else None
        if view is not None:
            view.take(self)
        self._newest = self.settled = None

    def end(self) -> None:
        """Nobody changes it any more: what it shows is no longer the newest."""
        with self.locked():
            self.retire()
            self._ended = True

    def keep_locked(self, view: ServiceView) -> None:
        """Under the lock: the view was read, and is not to be made again."""
        if self._newest is not None and self._newest() is view and not self._ended:
            self.settled = view

    def view(self) -> ServiceView:
        """The newest view. Any thread."""
        with self.locked():
            return self.view_locked()

    def view_locked(self) -> ServiceView:
        """`view` for a caller that holds the lock."""
        view = self._newest() if self._newest is not None else None
        if view is None:
            view = ServiceView(
                self.service,
                self,
                revision=self.revision,
                stale=self.stale,
                protected=self.protected,
                confirmed=self.confirmed,
                now=self._now,
            )
            self._newest = weakref.ref(view)
        return view


class ServiceView(Sequence[Instance]):
    """The instances of one service at one moment: an immutable sequence.

    Instances that are leaving are not in it; disabled ones are, see `available`. ``stale`` says that
    the registry cannot be asked at present and the last known good is served; ``age`` is then the
    seconds since it was last in step, and 0.0 otherwise. ``protected`` says that instances are kept
    although the registry no longer lists them, because too many vanished at once. Reading a view
    does no I/O. The order is stable from view to view and has no meaning.
    """

    __slots__ = (
        "__weakref__",
        "_available",
        "_instances",
        "_now",
        "_source",
        "confirmed",
        "protected",
        "revision",
        "service",
        "stale",
    )

    def __init__(
        self,
        service: ServiceKey,
        instances: Iterable[Instance] | Source = (),
        *,
        revision: Revision = Revision(),  # noqa: B008  an immutable value
        stale: bool = False,
        protected: bool = False,
        confirmed: float = 0.0,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.service: ServiceKey = service
        self.revision: Revision = revision
        self.stale: bool = stale
        self.protected: bool = protected
        self.confirmed: float = confirmed
        self._now = now
        self._available: tuple[Instance, ...] | None = None
        self._source = instances if isinstance(instances, Source) else None
        self._instances = () if isinstance(instances, Source) else tuple(instances)

    def settle(self) -> tuple[Instance, ...]:
        """The instances as a tuple, taken from the source when first asked for."""
        source = self._source
        if source is not None:
            with source.locked():
                self.take(source)
                source.keep_locked(self)
        return self._instances

    def take(self, source: Source) -> None:
        """`settle` for a caller that holds the source's lock."""
        if self._source is not None:
            self._instances = tuple(source.instances.values())
            self._source = None

    @property
    def age(self) -> float:
        """Seconds since the view was last in step with the registry; 0.0 unless stale."""
        if not self.stale or self._now is None:
            return 0.0
        return max(0.0, self._now() - self.confirmed)

    @property
    def available(self) -> tuple[Instance, ...]:
        """The instances that want traffic: enabled, with a weight above 0."""
        if self._available is None:
            self._available = tuple(one for one in self.settle() if one.enabled and one.weight > 0)
        return self._available

    @overload
    def __getitem__(self, index: int) -> Instance: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Instance]: ...
    def __getitem__(self, index: int | slice) -> Instance | Sequence[Instance]:
        return self.settle()[index]

    def __len__(self) -> int:
        return len(self.settle())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ServiceView):
            return NotImplemented
        return self.service == other.service and frozenset(self.settle()) == frozenset(other.settle())

    def __hash__(self) -> int:
        return hash((self.service, frozenset(self.settle())))

    def __repr__(self) -> str:
        shown = self.settle()
        names = ", ".join(one.instance_id for one in shown[:3]) + (", …" if len(shown) > 3 else "")
        flags = "".join(f" {flag}" for flag in ("stale", "protected") if getattr(self, flag))
        return f"<ServiceView {self.service} {len(shown)} instances [{names}]{flags}>"


class InstancesChange(msgspec.Struct, frozen=True):
    """One step of a subscription: the view after it, and how it differs from the one before.

    Steps that a slow listener missed are folded together: ``added``, ``removed`` and ``updated`` are
    always relative to the last change this listener got. On a first change all are ``added``.
    """

    instances: ServiceView
    added: tuple[Instance, ...] = ()
    removed: tuple[Instance, ...] = ()
    updated: tuple[Instance, ...] = ()

    @property
    def service(self) -> ServiceKey:
        """The service that changed."""
        return self.instances.service

    @property
    def stale(self) -> bool:
        """Whether the view is the last known good, served without the registry."""
        return self.instances.stale


class Delta:
    """Changes by id, from what was before the first to what is after the last; folding is O(changes)."""

    __slots__ = ("_steps",)

    def __init__(self, added: Iterable[Instance] = ()) -> None:
        self._steps: dict[str, tuple[Instance | None, Instance | None]] = {
            one.instance_id: (None, one) for one in added
        }

    def add(self, name: str, before: Instance | None, after: Instance | None) -> None:
        """Note that ``name`` went from ``before`` to ``after``; None means that it was not there."""
        if name in self._steps:
            before = self._steps[name][0]
        self._steps[name] = before, after

    def fold(self, later: Delta) -> None:
        """Put ``later`` behind this delta."""
        for name, (before, after) in later._steps.items():
            self.add(name, before, after)

    def __bool__(self) -> bool:
        return any(before != after for before, after in self._steps.values())

    def change(self, view: ServiceView) -> InstancesChange:
        """The delta as the change that led to ``view``."""
        added, removed, updated = [], [], []
        for before, after in self._steps.values():
            if before is None and after is not None:
                added.append(after)
            elif before is not None and after is None:
                removed.append(before)
            elif before is not None and after is not None and before != after:
                updated.append(after)
        return InstancesChange(view, tuple(added), tuple(removed), tuple(updated))
