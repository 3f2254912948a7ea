"""The commands, their options, and how an error becomes one sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import sofa_registry_adapters
from sofa_registry_adapters.cli import plugins, publishing, reading, watching
from sofa_registry_adapters.cli.config import commands as configuring
from sofa_registry_adapters.cli.demo import story
from sofa_registry_adapters.cli.options import (
    DONE,
    INTERRUPTED,
    TROUBLE,
    USAGE,
    Json,
    JsonLines,
    Service,
    Timeout,
    Url,
    UsageError,
    seconds,
    where,
    whole,
)
from sofa_registry_adapters.cli.screen import end_output, note
from sofa_registry_adapters.errors import (
    AlreadyPublished,
    BackendDefect,
    InvalidArgument,
    MissingDependency,
    PluginError,
    RegistryError,
    Unavailable,
)
from sofa_registry_adapters.settings import redacted, unknown

PROGRAM = "sofa-registry"
TRACEBACK_VARIABLE = "SOFA_REGISTRY_TRACEBACK"

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_USAGE = (InvalidArgument, AlreadyPublished, MissingDependency, PluginError)
_URL = re.compile(r"\w+://[^\s']+")


class Commands(TyperGroup):
    """Commands that, mistyped, are answered with the nearest one. Those of plug-ins are looked for on a miss only."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.commands:
            found, others = plugins.command_of(name, self.commands)
            if found is None:
                known = [*self.commands, *others]
                raise UsageError(unknown("there is no command", name, known) + plugins.problems(), ctx)
            return name, found, args[1:]
        return super().resolve_command(ctx, args)


app: typer.Typer = typer.Typer(
    name=PROGRAM,
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Publish, find and watch services on a registry; keep configuration in it.",
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  typer's callback
    if wanted:
        print(f"{PROGRAM} {sofa_registry_adapters.__version__}")  # noqa: T201  the answer
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    url: Url = None,
    version: Annotated[  # noqa: ARG001  its callback does the work
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version, metavar="")
    ] = False,
) -> None:
    """Publish, find and watch services on a registry; keep configuration in it."""
    context.obj = url
    if context.invoked_subcommand is None:
        if text := context.get_help():
            print(text)  # noqa: T201  the answer
        raise typer.Exit(USAGE)


app.add_typer(configuring.app, name="config")


@app.command()
def backends(
    backend: Annotated[
        str | None, typer.Argument(help="A URL scheme: everything about that backend.", metavar="BACKEND")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """What registries there are, what each can do, and its options."""
    reading.backends(backend, as_json=as_json)


@app.command(name="plugins")
def list_plugins(*, as_json: Json = False) -> None:
    """What plug-ins are installed, what each adds, and why one is not used."""
    plugins.plugins(as_json=as_json)


@app.command()
def services(context: typer.Context, *, url: Url = None, timeout: Timeout = 5.0, as_json: Json = False) -> None:
    """The services that have an instance."""
    reading.services(where(url, context), timeout, as_json=as_json)


@app.command()
def lookup(
    context: typer.Context, service: Service, *, url: Url = None, timeout: Timeout = 5.0, as_json: Json = False
) -> None:
    """The instances of a service now."""
    reading.lookup(service, where(url, context), timeout, as_json=as_json)


@app.command()
def watch(
    context: typer.Context, service: Service, *, url: Url = None, timeout: Timeout = 5.0, as_json: JsonLines = False
) -> None:
    """The instances of a service as they change, until Ctrl-C."""
    watching.watch(service, where(url, context), timeout, as_json=as_json)


@app.command()
def publish(
    context: typer.Context,
    service: Service,
    addresses: Annotated[
        list[str] | None, typer.Argument(help="host:port, one or several; an IPv6 host in brackets", metavar="ADDRESS")
    ] = None,
    *,
    port: Annotated[
        int | None,
        typer.Option(help="Publish this port of this machine, instead of an address.", metavar="PORT", parser=whole),
    ] = None,
    weight: Annotated[
        int | None, typer.Option(help="0 to 1000000; without it 100, which is nominal.", metavar="WEIGHT", parser=whole)
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Where it runs.", metavar="ZONE")] = None,
    protocol: Annotated[str | None, typer.Option(help="What it speaks.", metavar="PROTOCOL")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="More about it; may be given several times.", metavar="KEY=VALUE")
    ] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Ask consumers to send nothing.", metavar="")] = False,
    url: Url = None,
    timeout: Timeout = 5.0,
) -> None:
    """Publish instances; they stay until Ctrl-C or SIGTERM, then they are withdrawn."""
    wish = publishing.Wish(service, addresses or (), port, weight, zone, protocol, metadata or (), disabled)
    publishing.publish(wish, where(url, context), timeout)


@app.command()
def demo(
    context: typer.Context,
    *,
    url: Url = None,
    lease: Annotated[
        float | None,
        typer.Option(
            help="How long the registry waits for a killed provider; without it short.",
            metavar="SECONDS",
            parser=seconds,
        ),
    ] = None,
    timeout: Timeout = 5.0,
) -> None:
    """See it work: real processes publish and watch, one is killed; on local:// or any registry."""
    raise typer.Exit(story.demo(where(url, context), timeout, lease))


@app.command()
def doctor(
    context: typer.Context,
    *,
    service: Annotated[
        list[str] | None,
        typer.Option(help="Look at this service only; may be given several times.", metavar="SERVICE"),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Connect to the address of each instance, too.", metavar="")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Remove what is provably dead, after showing it.", metavar="")
    ] = False,
    record: Annotated[
        list[str] | None,
        typer.Option(
            help="With --fix: a record without an owner, to be removed if nothing listens where it points to.",
            metavar="SERVICE/RECORD",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --fix: do not ask.", metavar="")] = False,
    url: Url = None,
    timeout: Timeout = 5.0,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a registry, in the order in which it has to be put right."""
    from sofa_registry_adapters.cli.doctor import command
    from sofa_registry_adapters.cli.doctor.examination import Wish

    wish = Wish(where(url, context), probe=probe, timeout=timeout)
    fixing = command.Fixing(fix, yes, record or ())
    raise typer.Exit(command.doctor(wish, service or (), fixing, as_json=as_json))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; the exit code."""
    # What the library logs, the commands say in their own words.
    if not logging.root.handlers:
        logging.root.addHandler(logging.NullHandler())
    with _ending_by_signal():
        try:
            return _invoke(arguments)
        except BrokenPipeError:
            # Whoever read has enough.
            end_output()
            return DONE


def _invoke(arguments: Sequence[str]) -> int:
    try:
        _accept_any_text()
        code = _called(arguments)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except RegistryError as error:
        if isinstance(error, BackendDefect) and os.environ.get(TRACEBACK_VARIABLE):
            raise
        # The configuration may be elsewhere, where the doctor does not look.
        lost = isinstance(error, Unavailable) and "config" not in arguments
        note(f"{error}{'; sofa-registry doctor finds out why' if lost else ''}")
        return USAGE if isinstance(error, _USAGE) else TROUBLE
    except BrokenPipeError:
        raise
    except UsageError as error:
        note(_sentence(error))
        return USAGE
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            note(f"the answer cannot be written: {error.strerror}")
            end_output()
        else:
            note(
                f"a defect of this program: {type(error).__name__}: {error}. "
                f"Please report it; with {TRACEBACK_VARIABLE}=1 it says where it happened"
            )
        return TROUBLE
    return code


def _called(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context(PROGRAM, list(arguments)) as context:
            command.invoke(context)
    except (typer.Exit, SystemExit) as end:
        return _code(end)
    return DONE


def _code(end: typer.Exit | SystemExit) -> int:
    code = end.exit_code if isinstance(end, typer.Exit) else end.code
    return code if isinstance(code, int) else TROUBLE if code else DONE


def _sentence(error: Any) -> str:
    """A usage error in one sentence, with the nearest option and where the help is; without secrets."""
    context = error.ctx
    path = context.command_path if context is not None else PROGRAM
    option = getattr(error, "option_name", None)
    if option is not None and type(error).__name__ == "NoSuchOption":
        known = [name for one in context.command.params for name in one.opts if name.startswith("-")]
        message = unknown(f"{path} has no option", option, known)
    elif path.endswith("config set") and "extra argument" in error.format_message():
        # What stands there is the rest of a value, which may be a secret.
        message = "there is more behind the value: put one with spaces into quotes"
    else:
        message = " ".join(error.format_message().split())
    message = _URL.sub(lambda found: redacted(found[0]), message).removesuffix(".")
    return f"{message[:1].lower()}{message[1:]}. See {path} --help"


def _accept_any_text() -> None:
    """A character that the terminal's encoding lacks is shown as an escape, and is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _ending_by_signal() -> Iterator[None]:
    """SIGTERM and the terminal's end are like Ctrl-C: what is published is withdrawn."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
