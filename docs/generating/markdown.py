"""Markdown as the generated pages use it, and where they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NOTICE = "<!-- Written by docs/generate.py: change the code, then run it. -->\n\n"


def prose(text: str) -> str:
    """Text as Markdown shows it, outside code."""
    return text if text.startswith("`") else text.replace("*", r"\*").replace("<", "&lt;")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    escaped = ([prose(cell).replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in escaped)


def named(row: Sequence[str]) -> tuple[str, ...]:
    """A row whose first cell is code."""
    return (f"`{row[0]}`", *row[1:])


def between(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the markers of ``name`` replaced."""
    head, opening, rest = text.partition(f"<!-- generated: {name} -->\n")
    _, closing, tail = rest.partition("<!-- end -->")
    if not opening or not closing:
        raise SystemExit(f"a page has no markers for {name!r}")
    return f"{head}{opening}{content}{closing}{tail}"
