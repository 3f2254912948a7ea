"""Write the parts of the documentation that are declared in the code: `python docs/generate.py [--check]`.

With ``--check`` nothing is written; the exit code says whether everything is fresh.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# The package lies beside this file, and tests load the file by its path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from generating import backends, classes, commands, results, urls
from generating.markdown import DOCS, ROOT, between

README = ROOT / "README.md"
EXAMPLE = DOCS / "examples" / "hello.py"
GUARANTEES = DOCS / "explanation" / "guarantees.md"


def readme() -> str:
    """The README with its example and its table."""
    text = between(README.read_text(encoding="utf-8"), "backends", backends.capability_table())
    return between(text, "example", f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```\n")


def guarantees_page() -> str:
    """The page about guarantees with its table of bounds."""
    return between(GUARANTEES.read_text(encoding="utf-8"), "bounds", backends.bounds_table())


def pages() -> dict[Path, str]:
    """Every generated file and what it should say."""
    reference, explanation = DOCS / "reference", DOCS / "explanation"
    return {
        README: readme(),
        reference / "options.md": backends.options_page(),
        reference / "errors.md": classes.errors_page(),
        reference / "url.md": urls.url_page(),
        reference / "hooks.md": classes.hooks_page(),
        reference / "events.md": classes.events_page(),
        reference / "cli.md": commands.commands_page(),
        GUARANTEES: guarantees_page(),
        reference / "guarantees.md": results.outage_page("matrix"),
        reference / "performance.md": results.performance_page(),
        reference / "killers.md": results.outage_page("killers"),
        explanation / "scale.md": results.scale_page(explanation / "scale.md"),
        explanation / "security.md": results.security_page(explanation / "security.md"),
        DOCS / "how-to" / "soak.md": results.soak_page(DOCS / "how-to" / "soak.md"),
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
