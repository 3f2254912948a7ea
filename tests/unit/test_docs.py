"""The documentation says what the code says: names, tables, links and every example."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import msgspec
import pytest
import typer

import sofa_registry_adapters
from sofa_registry_adapters import Registry, errors, events
from sofa_registry_adapters.cli import app as application
from sofa_registry_adapters.cli import reference
from sofa_registry_adapters.settings import table_of
from sofa_registry_adapters.spi import hooks
from sofa_registry_adapters.spi.options import BackendType, Capabilities

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md")) + sorted(page for page in DOCS.glob("*/*.md") if page.parent.name != "changelog.d")
OTHERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
WRITTEN_AROUND_A_FILE = {"write-a-backend.md"}
"""Pages whose blocks are pieces of a file that has tests of its own."""
END_OF_BLOCK = "-- the end of a block --"
OURS = [one for one in reference.backends() if reference.is_ours(one)]


class Block(NamedTuple):
    """A fenced block: its language, its file name if it has one, its text, and what it prints if the page says so."""

    language: str
    title: str
    text: str
    output: str | None


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```([\w-]*)([^\n]*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    after = [*found[1:], ("", "", "")]
    return [
        Block(
            language,
            "".join(re.findall(r'title="([^"]*)"', rest)),
            text,
            following[2] if following[0] == "output" else None,
        )
        for (language, rest, text), following in zip(found, after, strict=True)
        if language != "output"
    ]


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A user's, at home in ``folder``, who has configured nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SOFA_", "XDG_"))}
    return {**kept, "HOME": str(folder), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def run(script: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script)],
        env=environment(script.parent),
        capture_output=True,
        text=True,
        timeout=45,
        check=False,
        cwd=script.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def slug(heading: str) -> str:
    """The anchor of a heading, as the site makes it."""
    plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[-\s]+", "-", plain)


def prose_of(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)}


def links(page: Path) -> Iterator[str]:
    for target in re.findall(r"(?<!!)\]\(([^)\s]+)\)", prose_of(page)):
        if not target.startswith(("https://", "http://", "mailto:")):
            yield target


# What is declared is documented.


def test_generated_pages_are_fresh() -> None:
    generated: dict[Path, str] = load("generate").pages()
    stale = [
        str(path.relative_to(ROOT)) for path, text in generated.items() if path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run python docs/generate.py"


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    page = text_of("reference/api.md")
    names = set(sofa_registry_adapters.__all__) - {"__version__"}
    assert [name for name in sorted(names) if f"::: sofa_registry_adapters.{name}\n" not in page] == []
    assert "sofa_registry_adapters.__version__" in page


def test_every_module_that_plug_ins_see_is_on_their_page() -> None:
    page = text_of("reference/spi.md")
    modules = {"store", "layout", "registry", "config", "options", "clock"}
    assert [name for name in sorted(modules) if f"::: sofa_registry_adapters.spi.{name}\n" not in page] == []


@pytest.mark.parametrize("name", [name for name, one in vars(hooks).items() if hasattr(one, f"{hooks.PROJECT}_spec")])
def test_every_hook_is_documented(name: str) -> None:
    page = text_of("reference/hooks.md")
    assert f"\n## {name}\n" in page
    assert inspect.cleandoc(getattr(hooks, name).__doc__) in page


@pytest.mark.parametrize("name", events.__all__)
def test_every_event_is_documented_with_its_fields(name: str) -> None:
    _, found, section = text_of("reference/events.md").partition(f"\n## {name}\n")
    assert found
    section = section.partition("\n## ")[0]
    assert [one for one in getattr(events, name).__struct_fields__ if f"| `{one}` |" not in section] == []


@pytest.mark.parametrize(
    "error",
    [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.RegistryError)],
)
def test_every_error_is_documented(error: type[errors.RegistryError]) -> None:
    page = text_of("reference/errors.md")
    assert f"| `{error.__name__}` |" in page
    assert re.search(rf"^[│ ├└─]*{error.__name__}\b", page, re.MULTILINE), "it is missing in the tree"


@pytest.mark.parametrize("backend", OURS, ids=[one.schemes[0] for one in OURS])
def test_every_option_is_documented(backend: BackendType) -> None:
    page = text_of("reference/options.md")
    heading = ", ".join(f"{scheme}://" for scheme in backend.schemes)
    shared = page.partition("\n## Of every backend\n")[2].partition("\n## ")[0]
    own = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    for name, option in table_of(backend).items():
        section = own if option in backend.options or name in backend.defaults else shared
        assert f"| `{name}` |" in section, name
        assert option.meaning.replace("*", r"\*") in section, name


@pytest.mark.parametrize("name", msgspec.structs.fields(Capabilities), ids=lambda one: str(one.name))
def test_every_capability_is_explained_and_in_the_matrix(name: msgspec.structs.FieldInfo) -> None:
    _, _, page = text_of("reference/options.md").partition("\n## What the capabilities mean\n")
    meanings, found, matrix = page.partition("\n## Who can do what\n")
    assert found
    assert f"`{name.name}`" in meanings
    assert f"| `{name.name}` |" in matrix


def test_every_command_is_documented_with_its_options() -> None:
    page = text_of("reference/cli.md")
    for name, command in load("generate").commands.every_command(typer.main.get_command(application.app)):
        _, found, section = page.partition(f"\n## {name}\n")
        assert found, name
        section = section.partition("\n## ")[0]
        known = [
            option for one in command.params for option in one.opts if option.startswith("--") and option != "--help"
        ]
        assert [option for option in known if f"`{option}" not in section] == [], name


def test_every_variable_is_documented() -> None:
    page = text_of("reference/url.md")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "sofa_registry_adapters").rglob("*.py"))
    variables = set(re.findall(r'"(SOFA_REGISTRY_[A-Z]+)"', code))
    assert variables
    assert [name for name in sorted(variables) if f"| `{name}` |" not in page] == []


# Links and navigation.


@pytest.mark.parametrize("page", (*PAGES, *OTHERS), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    named = set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))
    assert named == {str(page.relative_to(DOCS)) for page in PAGES}


def test_the_changelog_shows_what_is_coming() -> None:
    coming: str = load("mkdocs_hooks").coming()
    fragments = list((DOCS / "changelog.d").glob("*.md"))
    assert all(path.read_text(encoding="utf-8").strip() in coming for path in fragments)


def test_what_a_page_loads_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        '<script src="https://cdn.example/x.js"></script><link rel="stylesheet" href="//fonts.example/x.css">'
    )
    (tmp_path / "good.html").write_text(
        '<a href="https://other.example">x</a><script src="x.js"></script><link rel="canonical" href="https://own.example">'
    )
    (tmp_path / "bad.css").write_text("@import url(https://fonts.example/y.css);")
    found = list(load("mkdocs_hooks").foreign(tmp_path))
    assert [line.partition(" ")[0] for line in found] == ["bad.html", "bad.html", "bad.css"]


# Every example runs.


RUNNABLE = [page for page in PAGES if page.name not in WRITTEN_AROUND_A_FILE and "```python" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_examples_of_a_page_run_in_order_and_print_what_it_says(page: Path, tmp_path: Path) -> None:
    parts = [block for block in blocks(page) if block.language == "python" and not block.title]
    script = tmp_path / "page.py"
    script.write_text("".join(f"{block.text}\nprint({END_OF_BLOCK!r})\n" for block in parts), encoding="utf-8")
    printed = run(script).split(f"{END_OF_BLOCK}\n")[:-1]
    for block, text in zip(parts, printed, strict=True):
        assert block.output is None or text == block.output


PROGRAMS = [(page, block) for page in RUNNABLE for block in blocks(page) if block.language == "python" and block.title]


@pytest.mark.parametrize(("page", "block"), PROGRAMS, ids=[f"{page.stem}-{block.title}" for page, block in PROGRAMS])
def test_the_programs_of_a_page_are_python_and_print_what_it_says(page: Path, block: Block, tmp_path: Path) -> None:
    compile(block.text, f"{page.name}: {block.title}", "exec")
    if block.output is not None:
        (tmp_path / block.title).write_text(block.text, encoding="utf-8")
        assert run(tmp_path / block.title) == block.output


def program(page: str, title: str, folder: Path) -> Path:
    [text] = [block.text for block in blocks(DOCS / page) if block.title == title]
    (folder / title).write_text(text, encoding="utf-8")
    return folder / title


class Running:
    """A program of a page, as a process whose lines are read as they come."""

    def __init__(self, script: Path, *arguments: str, **more: str) -> None:
        self._printed = script.with_name(f"{script.stem}-{'-'.join(arguments)}.out")
        with self._printed.open("w") as printed:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *arguments],
                stdout=printed,
                stderr=subprocess.STDOUT,
                cwd=script.parent,
                env=environment(script.parent, **more),
            )

    def until(self, line: str) -> list[str]:
        """Its lines so far, as soon as the last one is ``line``."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            lines = self._printed.read_text().splitlines()
            if lines[-1:] == [line]:
                return lines
            time.sleep(0.02)
        raise AssertionError(f"waited for {line!r}: {self._printed.read_text()}")

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(15)


def test_the_tutorials_processes_see_each_other_and_a_kill(tmp_path: Path) -> None:
    provider, consumer = (program("tutorial.md", name, tmp_path) for name in ("provider.py", "consumer.py"))
    running = [Running(consumer)]
    try:
        running[0].until("[]")
        running.append(Running(provider, "12200"))
        running[1].until("published")
        running[0].until("['127.0.0.1:12200']")
        running.append(Running(provider, "12201"))
        seen = running[0].until("['127.0.0.1:12200', '127.0.0.1:12201']")
        assert "\n".join(["```", *seen, "```", ""]) in text_of("tutorial.md")
        running[2].end(signal.SIGKILL)
        running[0].until("['127.0.0.1:12200']")
        running[1].end(signal.SIGINT)
        running[0].until("[]")
    finally:
        for one in running:
            one.end(signal.SIGKILL)


def test_the_containers_provider_withdraws_at_sigterm(tmp_path: Path) -> None:
    url = f"local://{tmp_path}/registry.db?snapshot=off"
    provider = Running(program("how-to/containers.md", "provider.py", tmp_path), SOFA_REGISTRY_URL=url)
    try:
        provider.until("published")
        with Registry(url) as registry, registry.watch("com.acme.Hello") as watch:
            assert [one.port for one in next(iter(watch)).instances] == [8080]
            assert provider.end(signal.SIGTERM) == 0
        with Registry(url) as registry:
            assert list(registry.lookup("com.acme.Hello")) == []
    finally:
        provider.process.kill()
        provider.process.wait(10)


def test_a_folder_for_snapshots_that_cannot_be_written_is_an_event_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failed: list[events.SnapshotFailed] = []
    with Registry(f"local://{tmp_path}/registry.db?snapshot={tmp_path}/file/below") as registry:
        registry.events.on(events.SnapshotFailed, failed.append)
        registry.publish("com.acme.Hello", "127.0.0.1:1")
        with registry.watch("com.acme.Hello") as watch:
            assert [one.port for one in next(iter(watch)).instances] == [1]
            deadline = time.monotonic() + 10
            while not failed:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert registry.publish("com.acme.Hello", "127.0.0.1:2").state == "live"
