"""How long things may take, from what the product declares and from the options of the run. All in seconds."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.settings import parse_target, scheme_of, table_of
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Value
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.soak.plan import LONGEST

LEASE = 2.0
EXCHANGE = 1.0
"""The option ``call_timeout``."""
BACKOFF = 1.0
"""The longest pause between two attempts to reach a registry."""
CONFLICT = 2.0
"""The longest pause between two attempts to take an id from a publisher that is gone."""
LEASES = ("lease", "session_timeout")


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds.

    ``heal``: until all is as it should be after the last fault. ``silent``: until the records of a publisher are gone that
    went without a word; ``hold``: for how long views show them after that. ``stale``: until a view says that it cannot be trusted.
    """

    lease: float
    heal: float
    silent: float
    hold: float
    stale: float

    @property
    def mourning(self) -> float:
        """From a death until no view shows it, another publisher of the same id included."""
        return self.silent + self.hold + CONFLICT + EXCHANGE


def backend_of(url: str) -> BackendType:
    """The backend of a URL."""
    return Plugins().backend(scheme_of(url))


def run_options(site: Site) -> dict[str, Value]:
    """The options of every Registry of a run, where the URL does not say otherwise."""
    backend = backend_of(site.url)
    table, given = table_of(backend), site.url.partition("?")[2]
    wanted: dict[str, Value] = {
        "call_timeout": EXCHANGE,
        "leaving": 0.1,
        "snapshot": "off",
        "protection_hold": _hold(site),
    }
    for name in LEASES:
        if name in table:
            wanted[name] = max(LEASE, table[name].least or 0.0)
    return {**{name: value for name, value in wanted.items() if f"{name}=" not in given}, **site.options}


def _hold(site: Site) -> float:
    """Longer than an outage and the recovery from it: whoever is alive is back before it ends."""
    capabilities = backend_of(site.url).capabilities
    return LONGEST + site.outage + _recovery(capabilities)


def _recovery(capabilities: Capabilities) -> float:
    return capabilities.detects_loss_within + BACKOFF + EXCHANGE + capabilities.visible_within


def bounds_of(site: Site, options: Mapping[str, Value], slack: float) -> Bounds:
    """The bounds of a run."""
    backend = backend_of(site.url)
    capabilities, target = backend.capabilities, parse_target(site.url, backend, options)
    name = next((one for one in LEASES if one in table_of(backend)), "")
    lease = target.number(name) if name else 0.0
    poll = 0.0 if capabilities.push else target.number("poll")
    silence = lease * 1.15 + capabilities.notices_death_within
    return Bounds(
        lease=lease,
        heal=_recovery(capabilities) + lease + poll + slack,
        silent=max(silence, capabilities.notices_silence_within) + 1.0 + poll,
        hold=target.number("protection_hold"),
        stale=max(lease, EXCHANGE) + 2 * EXCHANGE + BACKOFF + slack,
    )
