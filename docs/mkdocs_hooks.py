"""What mkdocs calls while it builds the site: the changelog is gathered, and nothing may come from elsewhere."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FRAGMENTS = ROOT / "docs" / "changelog.d"
RELEASED = ROOT / "CHANGELOG.md"
KINDS = {"added": "Added", "changed": "Changed", "fixed": "Fixed", "removed": "Removed"}
MARK = "<!-- releases -->"
WIDE = 80
"""Characters of a drawing beside which the table of contents has no room."""

_ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>|<link\b[^>]*>", re.IGNORECASE
)
_LOADED = re.compile(r"rel=[\"']?(?:stylesheet|preload|preconnect|icon|manifest|modulepreload)\b", re.IGNORECASE)
_REMOTE = re.compile(r"href=[\"']?(?:https?:)?//", re.IGNORECASE)
_IMPORTED = re.compile(r"(?:@import\s+(?:url\()?|url\()[\"']?(?:https?:)?//[^)\s]+", re.IGNORECASE)

logger = logging.getLogger("mkdocs.hooks.ours")


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Put the changes into the page of the changelog; give a wide drawing the room that it needs."""
    if any("──" in line and len(line) > WIDE for line in markdown.splitlines()):
        page.meta["hide"] = ["toc"]
    if page.file.src_uri != "changelog.md":
        return markdown
    released = RELEASED.read_text(encoding="utf-8").partition("<!-- towncrier release notes start -->")[2]
    return markdown.replace(MARK, coming() + released)


def coming() -> str:
    """The fragments of changes that no release has yet."""
    sections = []
    for kind, title in KINDS.items():
        texts = [one.read_text(encoding="utf-8").strip() for one in sorted(FRAGMENTS.glob(f"*.{kind}.*md"))]
        if texts:
            sections.append(f"### {title}\n\n" + "".join(f"- {text}\n" for text in texts))
    return "## Not released yet\n\n" + "\n".join(sections) if sections else ""


def on_post_build(*, config: Any, **_: object) -> None:
    """Warn, which fails a strict build, about everything that a page would load from another host."""
    for found in foreign(Path(config["site_dir"])):
        logger.warning("%s", found)


def foreign(site: Path) -> Iterator[str]:
    """What the pages and style sheets of the built site load from elsewhere."""
    for page in sorted(site.rglob("*.html")):
        for element in _ELSEWHERE.findall(page.read_text(encoding="utf-8")):
            if not element.lower().startswith("<link") or (_LOADED.search(element) and _REMOTE.search(element)):
                yield f"{page.relative_to(site)} loads from elsewhere: {element}"
    for sheet in sorted(site.rglob("*.css")):
        for address in _IMPORTED.findall(sheet.read_text(encoding="utf-8")):
            yield f"{sheet.relative_to(site)} loads from elsewhere: {address}"
