"""Write the parts of the documentation that are declared in the code: `python docs/generate.py [--check]`.

With ``--check`` nothing is written; the exit code says whether everything is fresh.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sofa_registry_adapters import advertise, errors, settings
from sofa_registry_adapters import named as naming
from sofa_registry_adapters.cli import app as application
from sofa_registry_adapters.cli import reference
from sofa_registry_adapters.model import events
from sofa_registry_adapters.spi import hooks
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
OPTIONS = DOCS / "reference" / "options.md"
ERRORS = DOCS / "reference" / "errors.md"
URLS = DOCS / "reference" / "url.md"
HOOKS = DOCS / "reference" / "hooks.md"
EVENTS = DOCS / "reference" / "events.md"
COMMANDS = DOCS / "reference" / "cli.md"
GUARANTEES = DOCS / "explanation" / "guarantees.md"
OUTAGES = DOCS / "reference" / "guarantees.md"
PERFORMANCE = DOCS / "reference" / "performance.md"
SOAK = DOCS / "how-to" / "soak.md"
KILLERS = DOCS / "reference" / "killers.md"
SCALE = DOCS / "explanation" / "scale.md"
SECURITY = DOCS / "explanation" / "security.md"
EXAMPLE = DOCS / "examples" / "hello.py"
PLUGIN = DOCS / "examples" / "alarm.py"
NOTICE = "<!-- Written by docs/generate.py: change the code, then run it. -->\n\n"
URL_EXAMPLES = (
    "memory://orders",
    "local://",
    "local:///var/lib/sofa/registry.db",
    "redis://user:p%40ss@registry.example/1?lease=5s&namespace=shop",
    "rediss://[2001:db8::7]:6380?ca=/etc/ssl/registry.pem",
    "redis+sentinel://user:p%40ss@sentinel1.example,sentinel2.example,sentinel3.example/main",
    "redis+cluster://redis1.example:7000,redis2.example:7000/shop",
    "etcd://user:p%40ss@etcd1.example,etcd2.example,etcd3.example/sofa",
    "zookeeper://zk1.example,zk2.example,zk3.example:2182/sofa",
)


def prose(text: str) -> str:
    """Text as Markdown shows it, outside code."""
    return text if text.startswith("`") else text.replace("*", r"\*").replace("<", "&lt;")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    escaped = ([prose(cell).replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in escaped)


def ours() -> list[BackendType]:
    """The backends that come with the library, whatever plug-ins are installed here."""
    return [one for one in reference.backends() if reference.is_ours(one)]


def schemes(backend: BackendType) -> str:
    """The backend as a heading names it."""
    return ", ".join(f"`{scheme}://`" for scheme in backend.schemes)


def capability_table() -> str:
    """The backends and what they can do."""
    titles = ("", *(schemes(one) for one in ours()))
    rows = [reference.backend_row(one) for one in ours()]
    return table(titles, zip(reference.BACKEND_TITLES[1:], *(row[1:] for row in rows), strict=True))


def between(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the markers of ``name`` replaced."""
    head, opening, rest = text.partition(f"<!-- generated: {name} -->\n")
    _, closing, tail = rest.partition("<!-- end -->")
    if not opening or not closing:
        raise SystemExit(f"a page has no markers for {name!r}")
    return f"{head}{opening}{content}{closing}{tail}"


def readme() -> str:
    """The README with its example and its table."""
    text = between(README.read_text(encoding="utf-8"), "backends", capability_table())
    return between(text, "example", f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```\n")


def options_page() -> str:
    """The reference of all options."""
    shared = table(reference.OPTION_TITLES, (named(reference.option_row(one)) for one in settings.SHARED_OPTIONS))
    return (
        f"# Options and capabilities\n\n{NOTICE}"
        "An option stands in the URL (`redis://127.0.0.1:6379?lease=5s`), in a table of options in "
        "[`sofa-registry.toml`](file.md), or in `Registry(options={…})`. The same option with two values is an error, and so is "
        "an unknown one.\n\n"
        "Seconds take a unit: `250ms`, `5s`, `2m`, `1h`; without one they are seconds. Bytes take `k` and `M` (1024 and "
        "1024²). A flag is yes, no, true, false, on, off, 1 or 0.\n\n"
        f"## Of every backend\n\n{shared}\n{''.join(_backend_section(one) for one in ours())}"
        f"## What the capabilities mean\n\n{capability_meanings()}\n## Who can do what\n\n{capability_matrix()}"
    )


def named(row: Sequence[str]) -> tuple[str, ...]:
    """A row whose first cell is code."""
    return (f"`{row[0]}`", *row[1:])


def _backend_section(backend: BackendType) -> str:
    options = table(reference.OPTION_TITLES, (named(row) for row in reference.own_options(backend)))
    summary = prose(backend.summary[:1].upper() + backend.summary[1:])
    considerations = prose(" ".join(backend.considerations.split()))
    install = f"Install: `pip install 'sofa-registry-adapters[{backend.extra}]'`\n\n" if backend.extra else ""
    return (
        f"## {', '.join(f'{scheme}://' for scheme in backend.schemes)}\n\n{summary}.\n\n"
        f"```\n{backend.grammar}\n```\n\n{install}{considerations}\n\n{options}\n"
    )


def capability_meanings() -> str:
    """What each capability says, from the docstring of `Capabilities`."""
    text = " ".join(inspect.cleandoc(Capabilities.__doc__ or "").partition("\n\n")[2].split())
    entries = re.split(r"(?=``\w+``: )", text)
    return "".join(f"- {entry.strip()}\n" for entry in entries if entry.strip())


def capability_matrix() -> str:
    """Every declared capability of every backend."""
    columns = [dict(reference.capability_rows(one)) for one in ours()]
    rows = ((f"`{name}`", *(column[name] for column in columns)) for name in columns[0])
    return table(("capability", *(schemes(one) for one in ours())), rows)


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


def url_page() -> str:
    """The reference of the URL, the file and the variables."""
    head, _, grammar = (settings.__doc__ or "").partition("::\n")
    form, _, rules = inspect.cleandoc(grammar).strip().partition("\n\n")
    forms = "".join(f"{form.strip()}\n" for one in ours() for form in one.grammar.split(" | "))
    ports = ", ".join(f"{schemes(one)} {one.default_port}" for one in ours() if one.default_port)
    return (
        f"# URL and environment\n\n{NOTICE}{head.strip()}\n\n```\n{form.strip()}\n```\n\n{rules}\n\n"
        "What stands before `@` is cut at the first `:`. Write `/` as `%2F`, `?` as `%3F`, `@` as `%40` and `:` as `%3A` in "
        "a user name or a password. An IPv6 host has brackets. Options: [the tables](options.md).\n\n"
        f"## Forms\n\n```\n{forms}```\n\nWithout a port: {ports}.\n\n"
        f"## Examples, as they are read\n\n```\n{''.join(_url_examples())}```\n\n"
        "## Where the URL comes from\n\nThe first of these that there is:\n\n"
        f"1. the argument: `Registry(url)`, or `--url`\n2. the variable `{naming.URL_VARIABLE}`\n"
        f"3. `[registry.default]` in the file `{naming.FILE_NAME}`\n4. `{naming.DEFAULT_URL}`\n\n"
        f"Text without `://` is a name, whose URL is in [the file](file.md) or in a variable of its own: "
        '`Registry("orders")`, or `--url orders`. For a `ConfigCenter` it is the same with `[config.default]` and '
        f"`{naming.CONFIG_URL_VARIABLE}`; one that is not named anywhere is where the registry is.\n\n"
        f"## Variables\n\n{table(('variable', 'meaning'), _variables())}"
    )


def _url_examples() -> Iterator[str]:
    for url in URL_EXAMPLES:
        target = settings.parse_target(url, reference.backend_named(url))
        given = [pair.partition("=")[0] for pair in url.partition("?")[2].split("&") if pair]
        parts = {
            "servers": ", ".join(f"{one.host} port {one.port}" for one in target.addresses),
            "path": target.path,
            "user": target.username,
            "password": target.password,
            "options": ", ".join(f"{name} {reference.value_text(target.options[name])}" for name in given),
            "in messages": str(target) if str(target) != url else "",
        }
        lines = (f"    {name:<12} {value}\n" for name, value in parts.items() if value)
        yield f"{url}\n{''.join(lines)}"


def _variables() -> tuple[tuple[str, str], ...]:
    return (
        (f"`{naming.URL_VARIABLE}`", "where the registry is, or its name, if the program does not say"),
        (f"`{naming.CONFIG_URL_VARIABLE}`", "the same of the configuration center"),
        (
            f"`{naming.variable_of('registry', 'orders')}`, `{naming.variable_of('config', 'orders')}`",
            f"where the one called `orders` is, whatever `{naming.FILE_NAME}` says",
        ),
        (f"`{naming.FILE_VARIABLE}`", f"the file to read instead of `{naming.FILE_NAME}` in the working directory"),
        (f"`{advertise.VARIABLE}`", "the host that `publish(service, port=…)` publishes: for containers and NAT"),
        (f"`{application.TRACEBACK_VARIABLE}`", "set: the command line shows where a defect happened"),
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


def commands_page() -> str:
    """The reference of the command line, from the program itself."""
    import typer

    program: typing.Any = typer.main.get_command(application.app)
    sections = "".join(_command_section(name, one) for name, one in _commands(program))
    return (
        f"# Command line\n\n{NOTICE}`pip install 'sofa-registry-adapters[cli]'` brings `{application.PROGRAM}`; "
        f"`python -m sofa_registry_adapters.cli` is the same. {program.help}\n\n"
        f"```\n{application.PROGRAM} [--url URL] COMMAND …\n```\n\n{_parameters(program)}"
        "Exit codes: 0 done, 1 trouble with the registry, 2 wrong usage, 130 interrupted. What was asked for goes to "
        "standard output, messages to standard error. `--json` prints the same values for programs.\n\n"
        f"{sections}".rstrip("\n")
        + "\n"
    )


def _commands(group: typing.Any, prefix: str = "") -> typing.Iterator[tuple[str, typing.Any]]:
    """Every command with its full name; those of a group come behind it."""
    for name, command in sorted(group.commands.items()):
        yield prefix + name, command
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")


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


def guarantees_page() -> str:
    """The page about guarantees with its table of bounds."""
    return between(GUARANTEES.read_text(encoding="utf-8"), "bounds", bounds_table())


def bounds_table() -> str:
    """In how many seconds, backend by backend, with the options as they are by default."""
    columns = [_bounds(one) for one in ours()]
    return table(
        ("", *(schemes(one) for one in ours())),
        ((name, *(column[name] for column in columns)) for name in columns[0]),
    )


def _bounds(backend: BackendType) -> dict[str, str]:
    can, options = backend.capabilities, settings.table_of(backend)
    term = options.get("lease") or options.get("session_timeout")
    lease = float(str(term.default)) if term is not None else 0.0
    hung = can.notices_silence_within or can.notices_death_within + lease
    killed = can.notices_death_within if can.notices_death_at_once else hung
    return {
        "lease, by default": f"`{term.name}` {lease:g} s" if term is not None else "none",
        "killed publisher gone within": f"{killed:g} s" if can.lease else "never by itself",
        "hung publisher gone within": f"{hung:g} s" if can.lease else "never by itself",
        "lost record noticed within": f"{can.detects_loss_within:g} s",
        "withdrawal marked for": f"{_marked(can, options):g} s" if can.announces_withdrawal else "not at all",
        "hold": f"{_default(options, 'protection_hold')} s",
        "a change is visible within": f"{can.visible_within:g} s" if can.visible_within else "at once",
        "consumers are told": "of each change" if can.push else f"each {_default(options, 'poll')} s",
        "outlives a restart of the server": "yes" if can.persistent else "no",
        "largest record": f"{can.max_value_bytes:,} bytes".replace(",", " "),
    }


def _marked(can: Capabilities, options: dict[str, Option]) -> float:
    return max(float(str(options["leaving"].default)), can.visible_within)


def _default(options: dict[str, Option], name: str) -> str:
    return reference.value_text(options[name].default)


def beside(folder: str, module: str) -> typing.Any:
    """A module that lies beside tests, which are no package."""
    path = str(ROOT / "tests" / folder)
    if path not in sys.path:
        sys.path.insert(0, path)
    return importlib.import_module(module)


def outage_page(package: str) -> str:
    """A page made by a package beside the outage tests, from their results."""
    return str(beside("outage", f"{package}.page").page())


def scale_page() -> str:
    """The page about scale with its tables, from what was measured."""
    text = SCALE.read_text(encoding="utf-8")
    for name, content in beside("scale", "scaling.page").tables().items():
        text = between(text, name, content)
    return text


def security_page() -> str:
    """The page about security with what fuzzing found."""
    return between(SECURITY.read_text(encoding="utf-8"), "fuzz", beside("security", "guided").table())


def soak_page() -> str:
    """The page about the soak with what the long ones showed."""
    return between(SOAK.read_text(encoding="utf-8"), "soaks", beside("outage", "soaking").table())


def performance_page() -> str:
    """What was measured, from the results of the benchmarks."""
    return str(beside("bench", "measuring.page").page())


def pages() -> dict[Path, str]:
    """Every generated file and what it should say."""
    return {
        README: readme(),
        OPTIONS: options_page(),
        ERRORS: errors_page(),
        URLS: url_page(),
        HOOKS: hooks_page(),
        EVENTS: events_page(),
        COMMANDS: commands_page(),
        GUARANTEES: guarantees_page(),
        OUTAGES: outage_page("matrix"),
        PERFORMANCE: performance_page(),
        KILLERS: outage_page("killers"),
        SCALE: scale_page(),
        SECURITY: security_page(),
        SOAK: soak_page(),
    }


def main(arguments: Sequence[str]) -> int:
    """Write, or check; the exit code."""
    wanted = pages()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is stale' if '--check' in arguments else 'written'}")
        if "--check" not in arguments:
            path.write_text(wanted[path], encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
