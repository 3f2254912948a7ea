"""What the user sees: tables, JSON and messages, with foreign text made harmless."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.model.views import InstancesChange, ServiceView

_UNLIMITED = 10_000
_CREDENTIALS = re.compile(r"(://(?!\[user:password@\])[^\s:@/]*):\S*@")
"""What may be a password, but for the grammar of a backend."""

Row = Sequence[str]


class Output(Console):
    """A console that leaves it to the program what a reader means who has enough."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Standard output. Into a pipe nothing is cut or wrapped."""
    return Output(
        file=sys.stdout,
        width=None if sys.stdout.isatty() else _UNLIMITED,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=not sys.stdout.isatty(),
    )


def interactive() -> bool:
    """Whether somebody looks at a terminal that can draw."""
    return sys.stdout.isatty() and not console().is_dumb_terminal


def printable(text: str) -> str:
    """Text without the characters that could steer a terminal; they are shown as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def table(titles: Row, rows: Iterable[Row], *, title: str = "") -> Table:
    """A table of plain text. Columns that are empty in every row are left out."""
    cells = [[Text(printable(cell), overflow="fold") for cell in row] for row in rows]
    used = [any(row[column].plain for row in cells) or not column for column in range(len(titles))]
    drawn = Table(
        title=Text(title) if title else None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for heading, shown in zip(titles, used, strict=True):
        if shown:
            drawn.add_column(Text(heading), overflow="fold")
    for row in cells:
        drawn.add_row(*(cell for cell, shown in zip(row, used, strict=True) if shown))
    return drawn


def say(line: str = "") -> None:
    """One line on standard output, at once."""
    print(printable(line), flush=True)  # noqa: T201  the command's answer


def say_json(value: object) -> None:
    """One line of JSON on standard output, at once."""
    print(msgspec.json.encode(value).decode(), flush=True)  # noqa: T201  the command's answer


def note(message: str) -> None:
    """A sentence on standard error, without a password that the user may have typed into the wrong place."""
    line = " ".join(_CREDENTIALS.sub(r"\1:***@", message).split())
    # Where nobody reads it, the exit code still says how it went.
    with contextlib.suppress(OSError):
        print(f"sofa-registry: {printable(line)}", file=sys.stderr, flush=True)  # noqa: T201  a message to the user


def end_output() -> None:
    """Nobody reads on, or there is no room: what is still in the buffer must not complain when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def clock() -> str:
    """The time now, as people and machines read it."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def moment(seconds: float) -> str:
    """A time of the Unix epoch as people read it; empty for 0, and the number where no calendar has it."""
    if not seconds:
        return ""
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s"


INSTANCE_TITLES = ("address", "id", "weight", "zone", "protocol", "state", "started", "metadata")


def instance_row(instance: Instance) -> Row:
    """The cells under `INSTANCE_TITLES`."""
    return (
        instance.address,
        instance.instance_id if instance.instance_id != instance.address else "",
        str(instance.weight),
        instance.zone,
        instance.protocol,
        "" if instance.enabled else "disabled",
        moment(instance.started / 1000),
        ", ".join(f"{key}={value}" for key, value in sorted(instance.metadata.items())),
    )


def standing(view: ServiceView) -> str:
    """What is special about a view, in words; empty if nothing is."""
    words = []
    if view.stale:
        words.append(f"stale: the registry cannot be asked, this was so {view.age:.0f} s ago")
    if view.protected:
        words.append("protected: instances are kept that vanished all at once")
    return "; ".join(words)


def service_json(service: ServiceKey) -> dict[str, str]:
    """A service for a machine."""
    return {
        "service": str(service),
        "name": service.name,
        "version": service.version,
        "group": service.group,
    }


def instance_json(instance: Instance) -> dict[str, object]:
    """An instance for a machine: every field, whether set or not."""
    fields = {name: getattr(instance, name) for name in instance.__struct_fields__ if name != "extra"}
    return {"address": instance.address, **fields, "extra": dict(instance.extra)}


def view_json(view: ServiceView) -> dict[str, object]:
    """A view for a machine."""
    return {
        "service": str(view.service),
        "stale": view.stale,
        "age": round(view.age, 3),
        "protected": view.protected,
        "revision": {"epoch": view.revision.epoch, "counter": view.revision.counter},
        "instances": [instance_json(one) for one in view],
    }


def change_json(change: InstancesChange) -> dict[str, object]:
    """A change for a machine: when, what, and the whole view after it."""
    return {
        "time": clock(),
        "added": [one.instance_id for one in change.added],
        "removed": [one.instance_id for one in change.removed],
        "updated": [one.instance_id for one in change.updated],
        **view_json(change.instances),
    }
