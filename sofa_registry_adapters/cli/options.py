"""What several commands take: their options, and how what was typed is read."""

from __future__ import annotations

from typing import Annotated, cast

import typer

DONE, TROUBLE, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""

UsageError: type[Exception] = cast("type[Exception]", typer.BadParameter.__bases__[0])
"""What typer raises for a wrong command line; where it comes from depends on typer's version."""

Url = Annotated[
    str | None,
    typer.Option(
        help="Where the registry is, or its name in sofa-registry.toml. Without it SOFA_REGISTRY_URL, then that file, "
        "then local://.",
        metavar="URL",
        show_default=False,
    ),
]


def whole(text: str) -> int:
    """A whole number that the user typed."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number") from None


def seconds(text: str) -> float:
    """A time that the user typed. Whether it is in range, the library says."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number of seconds") from None


Timeout = Annotated[
    float,
    typer.Option(help="Seconds that the registry may take to answer.", metavar="SECONDS", parser=seconds),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", metavar="")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one line of JSON for each change.", metavar="")]
ConfigUrl = Annotated[
    str | None,
    typer.Option(
        help="Where the config center is. Without it SOFA_CONFIG_URL, then sofa-registry.toml, then where the registry is.",
        metavar="URL",
        show_default=False,
    ),
]
Service = Annotated[str, typer.Argument(help="name, name:version or name:version:group", metavar="SERVICE")]


def where(url: str | None, context: typer.Context) -> str | None:
    """The URL of the command, or the one in front of it."""
    found: str | None = context.obj if url is None else url
    return found
