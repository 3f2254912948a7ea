"""The references that are the docstrings of classes and functions: errors, hooks, events."""

from __future__ import annotations

import inspect
import re
import typing

from sofa_registry_adapters import errors
from sofa_registry_adapters.model import events
from sofa_registry_adapters.spi import hooks

from generating.markdown import DOCS, NOTICE, table

PLUGIN = DOCS / "examples" / "alarm.py"


def errors_page() -> str:
    """The reference of all errors."""
    head, _, tree = (errors.__doc__ or "").partition("::\n")
    classes = [
        (f"`{name}`", inspect.cleandoc(found.__doc__ or "").partition("\n\n")[0].replace("\n", " "))
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, errors.RegistryError)
    ]
    return (
        f"# Errors\n\n{NOTICE}{head.strip()}\n\nImport them from `sofa_registry_adapters.errors`.\n\n"
        f"```\n{inspect.cleandoc(tree).strip()}\n```\n\n{table(('error', 'meaning'), classes)}\n"
        "The command line ends with 2 for an `InvalidArgument`, `AlreadyPublished`, `MissingDependency` or `PluginError`, "
        "and with 1 for every other error of the tree.\n"
    )


def hooks_page() -> str:
    """The reference of the extension points."""
    doc = inspect.cleandoc(hooks.__doc__ or "").replace("``", "`")
    sections = "".join(
        f"## {name}\n\n```\n{name}() -> {inspect.signature(function).return_annotation}\n```\n\n"
        f"{inspect.cleandoc(function.__doc__ or '')}\n\n"
        for name, function in hook_functions()
    )
    return (
        f"# Hooks\n\n{NOTICE}{doc}\n\n{sections}"
        f"## A plug-in, whole\n\nA module with a listener, in `alarm.py`:\n\n"
        f"```python\n{PLUGIN.read_text(encoding='utf-8')}```\n\n"
        "By hand it is used as `Registry(plugins=[alarm])`. Installed, its distribution says\n\n"
        f'```toml\n[project.entry-points.{hooks.PROJECT}]\nalarm = "alarm"\n```\n\n'
        'and the application names it, with `plugins = ["alarm"]` in `sofa-registry.toml` or `Registry(plugins=["alarm"])`.\n'
    )


def hook_functions() -> list[tuple[str, typing.Any]]:
    """The extension points, in the order of the module."""
    return [(name, found) for name, found in vars(hooks).items() if hasattr(found, f"{hooks.PROJECT}_spec")]


def events_page() -> str:
    """The reference of the events."""
    return (
        f"# Events\n\n{NOTICE}{inspect.cleandoc(events.__doc__ or '')} Import them from `sofa_registry_adapters.events`.\n\n"
        "```python\nfrom sofa_registry_adapters import Registry\n"
        "from sofa_registry_adapters.events import Event, RegistrationLost\n\n"
        'with Registry("memory://") as registry:\n'
        "    registry.events.on(RegistrationLost, lambda lost: print(lost.service, lost.reason))\n"
        "    everything = registry.events.on(Event, print)\n    everything.close()\n```\n\n"
        "A listener gets the events of its class and of the classes below it, one at a time and in order. Up to 1 000 wait "
        "for a slow one; then the oldest are dropped and counted in `dropped` of what `on` returned. On a `Registry` it "
        "runs on a thread of ours, on an `AsyncRegistry` on the event loop that called `on`, where it may be async.\n\n"
        f"{''.join(_event_section(one) for one in event_classes())}"
    ).rstrip("\n") + "\n"


def event_classes() -> list[type[events.Event]]:
    """Every event, in the order of the module."""
    return [one for one in vars(events).values() if inspect.isclass(one) and issubclass(one, events.Event)]


def _event_section(event: type[events.Event]) -> str:
    fields = typing.get_type_hints(event)
    rows = [(f"`{name}`", f"`{_type_text(fields[name])}`") for name in event.__struct_fields__]
    text = inspect.cleandoc(event.__doc__ or "").replace("``", "`")
    return f"## {event.__name__}\n\n{text}\n\n" + (f"{table(('field', 'type'), rows)}\n" if rows else "")


def _type_text(annotation: object) -> str:
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", inspect.formatannotation(annotation))
