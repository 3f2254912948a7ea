"""When too many instances vanish at once, they are kept a while: a fault is never an empty list.

The rule. At once pass: instances that said they are leaving, disabled ones, and losses that leave at
least one instance and take less than half within a second. Held back: the loss of the last one, and of half
and more of three and more; any loss in the first list of a store that begins anew, after a restart without
its data or behind another server: it may not know everybody yet. A hold ends when they return, or after
``hold`` seconds with a read that confirms the loss.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice

from sofa_registry_adapters.model.instance import Instance

WINDOW = 1.0
"""Seconds in which losses count together."""


class Protection:
    """The instances of one service that are kept although the registry no longer lists them."""

    def __init__(self, hold: float) -> None:
        self.hold = hold
        self.held: dict[str, Instance] = {}
        self.since: float = 0.0
        self._losses: list[tuple[float, int]] = []

    def sort(
        self, gone: Collection[str], visible: Mapping[str, Instance], now: float, *, anew: bool = False
    ) -> tuple[list[str], list[str]]:
        """Which of the unmarked losses ``gone`` pass, and which are to be kept from now on. ``anew``: the store began anew."""
        counted = [name for name in gone if name in visible and name not in self.held and visible[name].enabled]
        silent = [name for name in gone if name in visible and name not in self.held and not visible[name].enabled]
        if not counted:
            return silent, []
        if self.hold and (self._alarming(visible, len(counted), now) or anew):
            # A later loss waits its own time, and the earlier ones with it.
            self.since = now
            self.held.update((name, visible[name]) for name in counted)
            return silent, counted
        return [*silent, *counted], []

    def _alarming(self, visible: Mapping[str, Instance], lost: int, now: float) -> bool:
        self._losses = [one for one in self._losses if one[0] > now - WINDOW]
        recent = sum(count for _, count in self._losses)
        self._losses.append((now, lost))
        # With so many there is no alarm, however many more there are: a loss does not cost more in a larger service.
        enough = max(3, recent + 2 * lost + 1)
        enabled = (name for name, one in visible.items() if one.enabled and name not in self.held)
        present = sum(1 for _ in islice(enabled, enough))
        base = present + recent
        return present == lost or (base >= 3 and (recent + lost) * 2 >= base)

    def returned(self, name: str) -> None:
        """The registry lists the instance again, or it left on purpose."""
        self.held.pop(name, None)

    def due(self, now: float) -> float | None:
        """Seconds until the loss may be confirmed; None if nothing is held."""
        return max(0.0, self.since + self.hold - now) if self.held else None
