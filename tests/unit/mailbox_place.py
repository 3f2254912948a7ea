"""A place whose view changes, and the failures of its listeners."""

from __future__ import annotations

from sofa_registry_adapters import Instance, ServiceKey
from sofa_registry_adapters.engine.mailbox import Mailbox
from sofa_registry_adapters.model.views import Delta, Source

SERVICE = ServiceKey("a")


def one(name: str, weight: int = 100) -> Instance:
    return Instance(host="h", port=1, instance_id=name, weight=weight)


class Place:
    """A source with one mailbox, changed as the mirror changes it."""

    def __init__(self, *ids: str, known: bool = True) -> None:
        self.source = Source(SERVICE)
        self.source.instances = {name: one(name) for name in ids}
        self.forgotten = 0
        self.mailbox = Mailbox(self.source, self._forget, known=known)

    def _forget(self, mailbox: Mailbox) -> None:
        assert mailbox is self.mailbox
        self.forgotten += 1

    def change(self, name: str, weight: int | None = 100, *, flags: bool = False, nudge: bool = True) -> None:
        with self.source.locked():
            self.source.retire()
            delta = Delta()
            after = None if weight is None else one(name, weight)
            delta.add(name, self.source.instances.pop(name, None), after)
            if after is not None:
                self.source.instances[name] = after
            self.mailbox.put_locked(delta, flags=flags)
        if nudge:
            self.mailbox.nudge()

    def flag(self, *, stale: bool) -> None:
        with self.source.locked():
            self.source.retire()
            self.source.stale = stale
            self.mailbox.put_locked(Delta(), flags=True)
        self.mailbox.nudge()
