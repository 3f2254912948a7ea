"""The commands that only read: `services`, `lookup`, `backends`."""

from __future__ import annotations

import contextlib
import difflib
from textwrap import fill

import msgspec

from sofa_registry_adapters.cli import reference
from sofa_registry_adapters.cli.screen import (
    INSTANCE_TITLES,
    console,
    instance_row,
    note,
    say,
    say_json,
    service_json,
    standing,
    table,
    view_json,
)
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.settings import table_of
from sofa_registry_adapters.spi.options import BackendType


def services(url: str | None, timeout: float, *, as_json: bool) -> None:
    """Print the services that have an instance."""
    with Registry(url) as registry:
        found = registry.services(timeout=timeout)
        if as_json:
            say_json([service_json(one) for one in found])
            return
        for one in found:
            say(str(one))
        if not found:
            note(f"no services on {registry.target}")


def lookup(service: str, url: str | None, timeout: float, *, as_json: bool) -> None:
    """Print the instances of a service now."""
    with Registry(url) as registry:
        view = registry.lookup(service, timeout=timeout)
        if as_json:
            say_json(view_json(view))
            return
        if view:
            console().print(table(INSTANCE_TITLES, (instance_row(one) for one in view)))
        else:
            note(f"no instances of {view.service} on {registry.target}{nearest(registry, view.service, timeout)}")
        if special := standing(view):
            note(special)


def nearest(registry: Registry, service: ServiceKey, timeout: float) -> str:
    """A hint at a service with a name like this one; empty if there is none."""
    known: list[str] = []
    with contextlib.suppress(RegistryError):
        known = [str(one) for one in registry.services(timeout=timeout)]
    near = difflib.get_close_matches(str(service), [one for one in known if one != str(service)], n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def backends(name: str | None, *, as_json: bool) -> None:
    """Print all backends, or everything about one."""
    chosen = reference.backends() if name is None else [reference.backend_named(name)]
    if as_json:
        say_json([backend_json(one) for one in chosen] if name is None else backend_json(chosen[0]))
    elif name is None:
        _overview(chosen)
    else:
        _one(chosen[0])


def _overview(chosen: list[BackendType]) -> None:
    console().print(table(("backend", reference.BACKEND_TITLES[1]), (reference.backend_row(one)[:2] for one in chosen)))
    say()
    # Turned on its side: there are fewer backends than properties, and a terminal is narrow.
    columns = [(one.schemes[0], *reference.backend_row(one)[2:]) for one in chosen]
    rows = list(zip(("", *reference.BACKEND_TITLES[2:]), *columns, strict=True))
    console().print(table(rows[0], rows[1:]))
    say()
    for one in chosen:
        if command := reference.install_command(one):
            say(f"{one.schemes[0]}:// is not installed: {command}")
    say("Options of one of them: sofa-registry backends redis")


def _one(backend: BackendType) -> None:
    say(f"{', '.join(f'{scheme}://' for scheme in backend.schemes)}  {backend.summary}")
    say(f"URL: {backend.grammar}")
    if command := reference.install_command(backend):
        say(f"Not installed: {command}")
    say()
    out = console()
    paragraph = " ".join(backend.considerations.split())
    for line in fill(paragraph, min(out.width, 100), break_on_hyphens=False, break_long_words=False).splitlines():
        say(line)
    say()
    out.print(table(("capability", "value"), reference.capability_rows(backend)))
    say()
    out.print(table(reference.OPTION_TITLES, reference.all_options(backend)))


def backend_json(backend: BackendType) -> dict[str, object]:
    """A backend for a machine."""
    return {
        "schemes": backend.schemes,
        "summary": backend.summary,
        "url": backend.grammar,
        "extra": backend.extra,
        "installed": not reference.install_command(backend),
        "considerations": " ".join(backend.considerations.split()),
        "capabilities": msgspec.to_builtins(backend.capabilities),
        "options": [
            {**msgspec.to_builtins(option), "unit": reference.UNITS.get(option.kind, "")}
            for option in table_of(backend).values()
        ],
    }
