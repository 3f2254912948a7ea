"""The page about writing a backend is written around a file, and is that file."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import tokenize
from pathlib import Path

import pytest

from sofa_registry_adapters import Registry

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "write-a-backend.md"
PROJECT = ROOT / "contrib" / "sofa-registry-file"


def pieces(title: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf'^```\w+ title="{re.escape(title)}"\n(.*?)\n```$', text, re.MULTILINE | re.DOTALL)


def squeezed(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("name", ("pyproject.toml", "sofa_registry_file.py", "tests/test_file_store.py"))
def test_the_pieces_of_a_file_are_the_file(name: str) -> None:
    source = (PROJECT / name).read_text(encoding="utf-8")
    found = pieces(name)
    assert found
    assert [piece for piece in found if piece not in source] == []
    assert squeezed("\n".join(found)) == squeezed(source), "all of it, in its order"


def test_every_python_block_of_the_page_is_of_a_file() -> None:
    starts = re.findall(r"^```python(.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {start.strip() for start in starts} == {
        'title="sofa_registry_file.py"',
        'title="tests/test_file_store.py"',
    }


def test_the_store_has_a_hundred_lines() -> None:
    """Lines of code, imports included; without docstrings, comments and empty lines."""
    source = (PROJECT / "sofa_registry_file.py").read_text(encoding="utf-8")
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.string.strip() and token.type != tokenize.COMMENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node) is not None:  # type: ignore[arg-type]
            text = node.body[0]  # type: ignore[attr-defined]
            lines -= set(range(text.lineno, text.end_lineno + 1))
    assert 50 < len(lines) <= 100


def test_the_store_imports_from_public_rooms_only() -> None:
    source = (PROJECT / "sofa_registry_file.py").read_text(encoding="utf-8")
    rooms = set(re.findall(r"^from sofa_registry_adapters\.?(\w*)", source, re.MULTILINE))
    assert rooms == {"errors", "model", "spi"}


def test_the_store_takes_a_namespace_of_any_length(tmp_path: Path) -> None:
    specification = importlib.util.spec_from_file_location("sofa_registry_file", PROJECT / "sofa_registry_file.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    class Plugin:
        sofa_registry_backends = staticmethod(module.sofa_registry_backends)

    long = "Zürich/" * 100
    with (
        Registry(f"file://{tmp_path}", options={"namespace": long, "snapshot": "off"}, plugins=[Plugin()]) as registry,
        Registry(f"file://{tmp_path}", options={"namespace": f"{long}b"}, plugins=[Plugin()]) as stranger,
    ):
        registry.publish("a", "h:1")
        assert len(registry.lookup("a")) == 1
        assert len(stranger.lookup("a")) == 0
