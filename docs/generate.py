"""Write the parts of the documentation that are declared in the code: `python docs/generate.py [--check]`.

With ``--check`` nothing is written; the exit code says whether everything is fresh.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from sofa_registry_adapters import errors
from sofa_registry_adapters.cli import reference
from sofa_registry_adapters.settings import SHARED_OPTIONS
from sofa_registry_adapters.spi.options import BackendType, Capabilities

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
OPTIONS = ROOT / "docs" / "reference" / "options.md"
ERRORS = ROOT / "docs" / "reference" / "errors.md"
EXAMPLE = ROOT / "docs" / "examples" / "hello.py"
NOTICE = "<!-- Written by docs/generate.py: change the code, then run it. -->\n\n"


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


def capability_table() -> str:
    """The backends and what they can do."""
    titles = ("", *(", ".join(f"`{scheme}://`" for scheme in one.schemes) for one in ours()))
    rows = [reference.backend_row(one) for one in ours()]
    return table(titles, zip(reference.BACKEND_TITLES[1:], *(row[1:] for row in rows), strict=True))


def between(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the markers of ``name`` replaced."""
    head, opening, rest = text.partition(f"<!-- generated: {name} -->\n")
    _, closing, tail = rest.partition("<!-- end -->")
    if not opening or not closing:
        raise SystemExit(f"README.md has no markers for {name!r}")
    return f"{head}{opening}{content}{closing}{tail}"


def readme() -> str:
    """The README with its example and its table."""
    text = between(README.read_text(encoding="utf-8"), "backends", capability_table())
    return between(text, "example", f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```\n")


def options_page() -> str:
    """The reference of all options."""
    shared = table(reference.OPTION_TITLES, (reference.option_row(one) for one in SHARED_OPTIONS))
    return (
        f"# Options\n\n{NOTICE}"
        "An option stands in the URL (`redis://127.0.0.1:6379?lease=5s`), in the section `[registry.options]` of "
        "`sofa-registry.toml`, or in `Registry(options={…})`. The same option with two values is an error, and so is "
        "an unknown one.\n\n"
        "Seconds take a unit: `250ms`, `5s`, `2m`, `1h`; without one they are seconds. Bytes take `k` and `M` (1024 and "
        "1024²). A flag is yes, no, true, false, on, off, 1 or 0.\n\n"
        f"## Of every backend\n\n{shared}\n{''.join(_backend_section(one) for one in ours())}"
        f"## What the capabilities mean\n\n{inspect.cleandoc(Capabilities.__doc__ or '')}\n"
    )


def _backend_section(backend: BackendType) -> str:
    options = table(reference.OPTION_TITLES, reference.own_options(backend))
    capabilities = table(("capability", "value"), reference.capability_rows(backend))
    summary = prose(backend.summary[:1].upper() + backend.summary[1:])
    considerations = prose(" ".join(backend.considerations.split()))
    install = f"Install: `pip install 'sofa-registry-adapters[{backend.extra}]'`\n\n" if backend.extra else ""
    return (
        f"## {', '.join(f'{scheme}://' for scheme in backend.schemes)}\n\n{summary}.\n\n"
        f"```\n{backend.grammar}\n```\n\n{install}{considerations}\n\n{options}\n{capabilities}\n"
    )


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


def pages() -> dict[Path, str]:
    """Every generated file and what it should say."""
    return {README: readme(), OPTIONS: options_page(), ERRORS: errors_page()}


def main(arguments: Sequence[str]) -> int:
    """Write, or check; the exit code."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is stale' if '--check' in arguments else 'written'}")
        if "--check" not in arguments:
            path.write_text(pages()[path], encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
