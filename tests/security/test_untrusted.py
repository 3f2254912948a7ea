"""What others write is data: no code of ours could run it. And the security page names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "yaml", "dill", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
SOURCES = [path for path in (ROOT / "sofa_registry_adapters").rglob("*.py") if "testing" not in path.parts]


def calls_of_code(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.partition(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FORBIDDEN_MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(node.func.id)
    return found


def test_nothing_runs_what_it_reads() -> None:
    assert len(SOURCES) > 100
    found = {path.name: calls for path in SOURCES if (calls := calls_of_code(ast.parse(path.read_text("utf-8"))))}
    assert found == {"yaml_text.py": ["yaml"]}


def test_yaml_is_read_by_the_safe_loader_only() -> None:
    (path,) = (one for one in SOURCES if one.name == "yaml_text.py")
    tree = ast.parse(path.read_text("utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert used & {"SafeLoader", "CSafeLoader"}
    assert not used & {"Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader", "unsafe_load"}


@pytest.mark.parametrize("code", ("import pickle", "from yaml import load", "eval(x)", "exec(x)"))
def test_the_search_finds(code: str) -> None:
    assert calls_of_code(ast.parse(code))


def test_the_security_page_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 20
    for path, test in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{path} has no {test}"
