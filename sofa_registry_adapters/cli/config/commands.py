"""What `sofa-registry config` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sofa_registry_adapters.cli.config import comparing, editing, values, watching
from sofa_registry_adapters.cli.options import USAGE, ConfigUrl, Json, JsonLines, Timeout, UsageError, where, whole
from sofa_registry_adapters.model.config import DEFAULT_GROUP
from sofa_registry_adapters.settings import unknown


class Commands(TyperGroup):
    """Commands that, mistyped, are answered with the nearest one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.commands:
            raise UsageError(unknown("there is no command config", name, list(self.commands)), ctx)
        return super().resolve_command(ctx, args)


app: typer.Typer = typer.Typer(
    cls=Commands,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Read, write and watch configuration values.",
)


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Read, write and watch configuration values."""
    if context.invoked_subcommand is None:
        if text := context.get_help():
            print(text)  # noqa: T201  the answer
        raise typer.Exit(USAGE)


Key = Annotated[str, typer.Argument(help="the key of a value", metavar="KEY")]
Group = Annotated[str, typer.Option(help="The group of the key.", metavar="GROUP")]
Expect = Annotated[
    str | None,
    typer.Option(help="Only if the present value has this revision.", metavar="REVISION", show_default=False),
]
Type = Annotated[
    str | None,
    typer.Option(
        "--type",
        help="yaml, json, toml, properties, …; without it as the key ends. json and toml are checked.",
        metavar="TYPE",
        show_default=False,
    ),
]


@app.command()
def get(
    context: typer.Context,
    key: Key,
    *,
    group: Group = DEFAULT_GROUP,
    output: Annotated[
        Path | None, typer.Option(help="Write the value into this file, readable for you only.", metavar="FILE")
    ] = None,
    url: ConfigUrl = None,
    timeout: Timeout = 5.0,
    as_json: Json = False,
) -> None:
    """The present value, byte for byte; with --json also what is known about it."""
    with values.place(where(url, context), key, group, timeout) as at:
        values.get(at, output, as_json=as_json)


@app.command(name="set")
def set_value(
    context: typer.Context,
    key: Key,
    content: Annotated[
        str | None,
        typer.Argument(help="the value; without it standard input, asked for unseen on a terminal", metavar="VALUE"),
    ] = None,
    *,
    group: Group = DEFAULT_GROUP,
    file: Annotated[Path | None, typer.Option(help="Publish what is in this file.", metavar="FILE")] = None,
    content_type: Type = None,
    expect: Expect = None,
    create: Annotated[bool, typer.Option("--create", help="Only if there is no value yet.", metavar="")] = False,
    url: ConfigUrl = None,
    timeout: Timeout = 5.0,
    as_json: Json = False,
) -> None:
    """Publish a value; prints its revision, and never the value."""
    wish = values.Wish(content, file, content_type, expect, create)
    with values.place(where(url, context), key, group, timeout) as at:
        values.set_value(at, wish, as_json=as_json)


@app.command()
def edit(
    context: typer.Context,
    key: Key,
    *,
    group: Group = DEFAULT_GROUP,
    content_type: Type = None,
    url: ConfigUrl = None,
    timeout: Timeout = 5.0,
) -> None:
    """Open the value in $VISUAL or $EDITOR, and publish it if nobody else has changed it meanwhile."""
    with values.place(where(url, context), key, group, timeout) as at:
        editing.edit(at, content_type)


@app.command()
def rm(
    context: typer.Context,
    key: Key,
    *,
    group: Group = DEFAULT_GROUP,
    expect: Expect = None,
    url: ConfigUrl = None,
    timeout: Timeout = 5.0,
) -> None:
    """Remove the value; its history stays."""
    with values.place(where(url, context), key, group, timeout) as at:
        values.remove(at, expect)


@app.command()
def ls(
    context: typer.Context,
    *,
    group: Group = DEFAULT_GROUP,
    url: ConfigUrl = None,
    timeout: Timeout = 5.0,
    as_json: Json = False,
) -> None:
    """The keys of a group that have a value."""
    values.keys(where(url, context), group, timeout, as_json=as_json)


@app.command()
def watch(
    context: typer.Context,
    key: Key,
    *,
    group: Group = DEFAULT_GROUP,
    content: Annotated[bool, typer.Option("--content", help="Print the value, too.", metavar="")] = False,
    url: ConfigUrl = None,
    timeout: Timeout = 5.0,
    as_json: JsonLines = False,
) -> None:
    """One line for each change of the value, until Ctrl-C."""
    with values.place(where(url, context), key, group, timeout) as at:
        watching.watch(at, content=content, as_json=as_json)


@app.command()
def history(
    context: typer.Context,
    key: Key,
    *,
    group: Group = DEFAULT_GROUP,
    limit: Annotated[int, typer.Option(help="So many at most.", metavar="NUMBER", parser=whole)] = 20,
    url: ConfigUrl = None,
    timeout: Timeout = 5.0,
    as_json: Json = False,
) -> None:
    """The last values of a key, the newest first: revision, time, author, type and size."""
    with values.place(where(url, context), key, group, timeout) as at:
        values.history(at, limit, as_json=as_json)


@app.command()
def rollback(
    context: typer.Context,
    key: Key,
    revision: Annotated[
        str | None,
        typer.Argument(help="of the history; without it the value before the present one", metavar="REVISION"),
    ] = None,
    *,
    group: Group = DEFAULT_GROUP,
    expect: Expect = None,
    url: ConfigUrl = None,
    timeout: Timeout = 5.0,
    as_json: Json = False,
) -> None:
    """Publish an earlier value again; prints its new revision."""
    with values.place(where(url, context), key, group, timeout) as at:
        values.rollback(at, revision, expect, as_json=as_json)


@app.command()
def diff(
    context: typer.Context,
    key: Key,
    old: Annotated[
        str | None, typer.Argument(help="a revision of the history; without it the one before", metavar="OLD")
    ] = None,
    new: Annotated[str | None, typer.Argument(help="a revision; without it the present one", metavar="NEW")] = None,
    *,
    group: Group = DEFAULT_GROUP,
    file: Annotated[Path | None, typer.Option(help="Compare the present value with this file.", metavar="FILE")] = None,
    url: ConfigUrl = None,
    timeout: Timeout = 5.0,
) -> None:
    """What differs between two values of a key, or between the present one and a file."""
    with values.place(where(url, context), key, group, timeout) as at:
        comparing.diff(at, old, new, file)
