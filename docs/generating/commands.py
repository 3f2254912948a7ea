"""The reference of the command line."""

from __future__ import annotations

import typing
from collections.abc import Iterator

from sofa_registry_adapters.cli import app as application

from generating.markdown import NOTICE, table


def commands_page() -> str:
    """The reference of the command line, from the program itself."""
    import typer

    program: typing.Any = typer.main.get_command(application.app)
    sections = "".join(_command_section(name, one) for name, one in every_command(program))
    return (
        f"# Command line\n\n{NOTICE}`pip install 'sofa-registry-adapters[cli]'` brings `{application.PROGRAM}`; "
        f"`python -m sofa_registry_adapters.cli` is the same. {program.help}\n\n"
        f"```\n{application.PROGRAM} [--url URL] COMMAND …\n```\n\n{_parameters(program)}"
        "Exit codes: 0 done, 1 trouble with the registry, 2 wrong usage, 130 interrupted. What was asked for goes to "
        "standard output, messages to standard error. `--json` prints the same values for programs.\n\n"
        f"{sections}".rstrip("\n")
        + "\n"
    )


def every_command(group: typing.Any, prefix: str = "") -> Iterator[tuple[str, typing.Any]]:
    """Every command with its full name; those of a group come behind it."""
    for name, command in sorted(group.commands.items()):
        yield prefix + name, command
        if hasattr(command, "commands"):
            yield from every_command(command, f"{prefix}{name} ")


def _command_section(name: str, command: typing.Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = "".join(
        f" {'' if one.required else '['}{one.metavar or one.name.upper()}{'…' if one.nargs == -1 else ''}"
        f"{'' if one.required else ']'}"
        for one in arguments
    )
    text = " ".join((command.help or "").split())
    return f"## {name}\n\n{text}\n\n```\n{application.PROGRAM} {name}{usage} [OPTIONS]\n```\n\n{_parameters(command)}"


def _parameters(command: typing.Any) -> str:
    rows = []
    for one in command.params:
        if "--help" in one.opts:
            continue
        option = one.param_type_name == "option"
        shown = ", ".join(one.opts) if option else one.metavar or one.name.upper()
        value = one.metavar if option and one.metavar and not one.is_flag else ""
        default = (
            "" if one.default is None or one.is_flag or callable(one.default) else str(one.default).removesuffix(".0")
        )
        rows.append((f"`{' '.join(filter(None, (shown, value)))}`", default, " ".join((one.help or "").split())))
    return f"{table(('', 'default', 'meaning'), rows)}\n" if rows else ""
