"""The command `watch`: a live table on a terminal, one line a change elsewhere."""

from __future__ import annotations

import contextlib
from collections import deque

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from sofa_registry_adapters.cli.reading import nearest
from sofa_registry_adapters.cli.screen import (
    INSTANCE_TITLES,
    change_json,
    clock,
    console,
    instance_row,
    interactive,
    note,
    printable,
    say,
    say_json,
    standing,
    table,
)
from sofa_registry_adapters.errors import DeadlineExceeded
from sofa_registry_adapters.handles import Watch
from sofa_registry_adapters.model.views import InstancesChange
from sofa_registry_adapters.registry import Registry

_KEPT = 8
_REDRAW = 1.0
"""Seconds between two drawings when nothing changes: the age of a stale view goes on."""
_NAMED = 5
_AROUND = 8
"""Lines of the screen that are neither an instance nor a change."""


def watch(service: str, url: str | None, timeout: float, *, as_json: bool) -> None:
    """Print what changes until interrupted."""
    with (
        Registry(url) as registry,
        registry.watch(service, timeout=timeout) as changes,
        contextlib.suppress(KeyboardInterrupt),
    ):
        if as_json:
            for change in changes:
                say_json(change_json(change))
        elif interactive():
            _draw(changes, str(registry.target))
        else:
            _lines(changes, registry, timeout)


def _lines(changes: Watch, registry: Registry, timeout: float) -> None:
    first = True
    for change in changes:
        say(f"{clock()}  {change.service}  {summary(change)}")
        if first and not change.instances:
            hint = nearest(registry, change.service, timeout)
            note(f"{change.service} has no instances yet, waiting{hint}")
        first = False


def _draw(changes: Watch, where: str) -> None:
    history: deque[str] = deque(maxlen=_KEPT)
    latest: InstancesChange | None = None
    with Live(console=console(), auto_refresh=False, vertical_overflow="ellipsis") as screen:
        while True:
            try:
                change = changes.next(timeout=_REDRAW)
            except DeadlineExceeded:
                pass
            else:
                if change is None:
                    return
                latest = change
                history.append(f"{clock()[11:23]}  {summary(change)}")
            if latest is not None:
                most = max(3, screen.console.height - len(history) - _AROUND)
                screen.update(picture(latest, where, history, most), refresh=True)


def picture(change: InstancesChange, where: str, history: deque[str], most: int) -> RenderableType:
    """The whole screen: ``most`` instances as they are now, and the latest changes."""
    view = change.instances
    rows = [instance_row(one) for one in sorted(view, key=lambda one: one.instance_id)[:most]]
    title = f"{printable(str(view.service))} on {where}: {_count(len(view))}"
    parts: list[RenderableType] = [Text(title, style="bold")]
    if special := standing(view):
        parts.append(Text(special, style="yellow"))
    if view:
        parts.append(table(INSTANCE_TITLES, rows))
    if len(view) > len(rows):
        parts.append(Text(f"and {len(view) - len(rows)} more"))
    parts.append(Text("\n".join(("", *map(printable, history))), style="dim"))
    parts.append(Text("Ctrl-C ends", style="dim"))
    return Group(*parts)


def summary(change: InstancesChange) -> str:
    """A change in one line: + added, - removed, ~ updated."""
    words = [_count(len(change.instances))]
    for mark, group in (("+", change.added), ("-", change.removed), ("~", change.updated)):
        words += [f"{mark}{one.instance_id}" for one in group[:_NAMED]]
        if len(group) > _NAMED:
            words.append(f"{mark}{len(group) - _NAMED} more")
    if change.stale:
        words.append("stale")
    if change.instances.protected:
        words.append("protected")
    return "  ".join(words)


def _count(number: int) -> str:
    return f"{number} instance" if number == 1 else f"{number} instances"
