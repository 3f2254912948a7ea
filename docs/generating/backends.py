"""What the backends declare: their options, what they can do, and in how many seconds."""

from __future__ import annotations

import inspect
import re

from sofa_registry_adapters import settings
from sofa_registry_adapters.cli import reference
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option

from generating.markdown import NOTICE, named, prose, table


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
