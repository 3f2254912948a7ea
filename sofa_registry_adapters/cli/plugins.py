"""Plug-ins on the command line: the command that lists them, and the commands that they bring."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import typer

from sofa_registry_adapters.cli.screen import console, note, say_json, table
from sofa_registry_adapters.engine.plugins import GROUP, Plugin, Plugins
from sofa_registry_adapters.errors import PluginError
from sofa_registry_adapters.named import find_settings

TITLES = ("plug-in", "version", "origin", "adds", "not used because")


def plugins(*, as_json: bool) -> None:
    """Print every plug-in, those that cannot be used included."""
    found = _found()
    if as_json:
        say_json([msgspec.to_builtins(one) for one in found])
    elif found:
        console().print(table(TITLES, (_row(one) for one in found)))
    else:
        note(f"no plug-ins are installed: none has an entry point of the group {GROUP}")


def _found() -> list[Plugin]:
    """The installed ones; of those that are named in the file a missing one is told, too."""
    known = Plugins().known()
    names = {one.name for one in known}
    missing = [name for name in find_settings().plugins if name not in names]
    return [*known, *(Plugin(name, origin="sofa-registry.toml", problem="it is not installed") for name in missing)]


def _row(plugin: Plugin) -> tuple[str, ...]:
    return plugin.name, plugin.version, plugin.origin, ", ".join(plugin.adds), plugin.problem


def command_of(name: str, taken: Iterable[str]) -> tuple[Any, list[str]]:
    """The command that a plug-in brings under that name, None if none does; and the names of all of them."""
    found = Plugins().commands(taken)
    return (_built(name, found[name]) if name in found else None), list(found)


def problems() -> str:
    """Which plug-ins are not used and why, as the end of a sentence; empty if all are."""
    return "".join(f"; the plug-in {one.name} is not used: {one.problem}" for one in Plugins().known() if one.problem)


def _built(name: str, function: Callable[..., object]) -> Any:
    holder = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    holder.command(name)(function)
    try:
        return typer.main.get_command(holder)
    except Exception as error:
        raise PluginError(f"the plug-in's command {name!r} is no function for typer: {error}") from error
