"""Plug-ins as a user meets them: installed, by hand, named in the file; broken ones take nobody down."""

from __future__ import annotations

import itertools
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.cli import main
from sofa_registry_adapters.engine import plugins as engine
from sofa_registry_adapters.engine.plugins import Plugin, Plugins
from sofa_registry_adapters.errors import InvalidURL, PluginError, UnknownScheme
from sofa_registry_adapters.events import Published
from sofa_registry_adapters.spi.hooks import SPI_VERSION
from sofa_registry_adapters.testing.faults import eventually

BACKENDS = """
    from sofa_registry_adapters.backends.memory import BACKEND
    from sofa_registry_adapters.spi.hooks import hookimpl
    from msgspec.structs import replace

    @hookimpl
    def sofa_registry_backends():
        return [replace(BACKEND, schemes=({scheme!r},))]
"""
HOOK = """
    from sofa_registry_adapters.spi.hooks import hookimpl

    @hookimpl
    def {name}({arguments}):
        {body}
"""
LISTENER = """
    from sofa_registry_adapters.events import Published
    from sofa_registry_adapters.spi.hooks import hookimpl

    heard = []

    @hookimpl
    def sofa_registry_listeners():
        return [(Published, heard.append)]
"""
COMMANDS = """
    from sofa_registry_adapters.spi.hooks import hookimpl

    def greet(name: str, loud: bool = False) -> None:
        print(f"hello {name}".upper() if loud else f"hello {name}")

    @hookimpl
    def sofa_registry_commands():
        return {"greet": greet}
"""
Install = Callable[..., str]


def hook(name: str, body: str, arguments: str = "") -> str:
    return HOOK.format(name=name, body=body, arguments=arguments)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with a plug-in of this source: a folder, as an installer leaves it, on the path."""
    monkeypatch.chdir(tmp_path)
    for name in [one for one in os.environ if one.startswith("SOFA_REGISTRY_")]:
        monkeypatch.delenv(name)
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    made: list[str] = []
    numbers = itertools.count()

    def add(name: str, source: str, distribution: str = "") -> str:
        module = f"installed_{tmp_path.name.replace('-', '_')}_{next(numbers)}"
        made.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        about = site / f"{distribution or f'dist_{name}'}-1.2.3.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution or f'dist-{name}'}\nVersion: 1.2.3\n"
        )
        (about / "entry_points.txt").write_text(f"[sofa_registry_adapters]\n{name} = {module}\n")
        return module

    yield add
    for module in made:
        sys.modules.pop(module, None)


def known() -> dict[str, Plugin]:
    return {one.name: one for one in Plugins().known() if one.origin.startswith(("dist", "two"))}


def module_of(source: str) -> ModuleType:
    module = ModuleType("by_hand")
    exec(textwrap.dedent(source), module.__dict__)
    return module


# Found by name.


def test_an_installed_backend_is_found_by_its_scheme(install: Install) -> None:
    module = install("toy", BACKENDS.format(scheme="toy"))
    with Registry("toy://x") as registry:
        registry.publish("a", "h:1")
        assert [one.instance_id for one in registry.lookup("a")] == ["h:1"]
    assert known() == {"toy": Plugin("toy", "1.2.3", f"dist-toy: {module}", ["toy://"])}


def test_an_unknown_scheme_is_compared_with_those_of_plugins_too(install: Install) -> None:
    install("toy", BACKENDS.format(scheme="warehouse"))
    with pytest.raises(UnknownScheme, match="did you mean 'warehouse'"):
        Registry("warehuose://x")


def test_an_installed_layout_is_found_by_its_name(install: Install) -> None:
    body = "from sofa_registry_adapters.layouts.native import NativeLayout; return {'mine': NativeLayout}"
    install("toy", hook("sofa_registry_layouts", body))
    with Registry("memory://x?layout=mine") as registry:
        registry.publish("a", "h:1")
    with pytest.raises(InvalidURL, match="did you mean 'mine'"):
        Registry("memory://x?layout=mien")


def test_what_is_ours_asks_no_plugin(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    module = install("toy", BACKENDS.format(scheme="toy"))
    monkeypatch.setattr(engine, "_entry_points", lambda: pytest.fail("entry points were looked for"))
    with Registry("memory://x") as registry:
        registry.publish("a", "h:1")
        assert registry.lookup("a")
    assert module not in sys.modules


def test_a_plugin_by_hand_loads_no_installed_one(install: Install) -> None:
    module = install("toy", BACKENDS.format(scheme="toy"))
    with Registry("memory://x", plugins=[module_of(LISTENER)]):
        assert module not in sys.modules


def test_a_backend_by_hand(install: Install) -> None:
    with Registry("hand://x", plugins=[module_of(BACKENDS.format(scheme="hand"))]) as registry:
        registry.publish("a", "h:1")
        assert registry.lookup("a")
    with pytest.raises(UnknownScheme):
        Registry("hand://x")


def test_a_plugin_may_be_given_by_hand_and_be_installed(install: Install) -> None:
    module = install("toy", BACKENDS.format(scheme="toy"))
    given = __import__(module)
    with Registry("toy://x", plugins=[given]) as registry:
        assert registry.services() == []
    with Registry("toy://x", plugins=["toy", "toy"]) as registry:
        assert registry.services() == []


# Listeners act only when they are named.


def test_an_installed_listener_hears_nothing_unless_it_is_named(install: Install) -> None:
    module = install("ear", LISTENER)
    with Registry("memory://ear") as registry:
        registry.publish("a", "h:1")
    assert module not in sys.modules
    with Registry("memory://ear", plugins=["ear"]) as registry:
        registry.publish("a", "h:1")
        heard = sys.modules[module].heard
        eventually(lambda: heard, 2.0, "it hears")
    assert isinstance(heard[0], Published)


def test_a_listener_that_was_loaded_for_its_backend_hears_nothing(install: Install) -> None:
    module = install("both", BACKENDS.format(scheme="both") + LISTENER)
    with Registry("both://x") as registry:
        registry.publish("a", "h:1")
        registry.events.on(Published, lambda _: None)
    assert sys.modules[module].heard == []


def test_a_name_in_the_file(install: Install, tmp_path: Path) -> None:
    module = install("ear", LISTENER)
    (tmp_path / "sofa-registry.toml").write_text('[registry]\nurl = "memory://ear"\nplugins = ["ear"]\n')
    with Registry() as registry:
        registry.publish("a", "h:1")
        eventually(lambda: sys.modules[module].heard, 2.0, "it hears")


def test_a_name_that_is_not_installed(install: Install) -> None:
    install("ear", LISTENER)
    with pytest.raises(PluginError, match="did you mean 'ear'"):
        Registry("memory://x", plugins=["aer"])


# A broken plug-in is left out, and takes nobody down.

BROKEN = {
    "import": ("import no_such_library", "no_such_library"),
    "syntax": ("def (", "SyntaxError"),
    "exit": ("raise SystemExit('no licence')", "SystemExit: no licence"),
    "raising hook": (hook("sofa_registry_backends", "raise RuntimeError('not today')"), "not today"),
    "exiting hook": (hook("sofa_registry_backends", "raise SystemExit(3)"), "SystemExit"),
    "unknown hook": (hook("sofa_registry_backend", "return []"), "sofa_registry_backend"),
    "wrong arguments": (hook("sofa_registry_backends", "return []", "engine"), "engine"),
    "newer SPI": (f"sofa_registry_spi = {SPI_VERSION + 1}", "upgrade sofa-registry-adapters"),
    "SPI in words": ("sofa_registry_spi = 'new'", "version new"),
    "no list": (hook("sofa_registry_backends", "return 7"), "TypeError"),
    "no backend": (hook("sofa_registry_backends", "return ['toy']"), "not a BackendType"),
    "scheme in capitals": (BACKENDS.format(scheme="Toy"), "not a URL scheme"),
    "scheme no text": (BACKENDS.format(scheme=7), "not a URL scheme"),
    "layout name no text": (hook("sofa_registry_layouts", "return {7: object}"), "7"),
    "layouts as list": (hook("sofa_registry_layouts", "return ['x']"), "list"),
    "command no function": (hook("sofa_registry_commands", "return {'x': 1}"), "'x'"),
    "nothing": (hook("sofa_registry_layouts", "return None"), "NoneType"),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_left_out_and_says_why(install: Install, source: str, reason: str) -> None:
    install("good", BACKENDS.format(scheme="good"))
    install("bad", source)
    assert Plugins().backend("good").schemes == ("good",)
    assert Plugins().layout("native")
    assert [one.schemes for one in Plugins().backends()].count(("good",)) == 1
    assert Plugins().commands(()) == {}
    found = known()
    assert found["good"].problem == ""
    assert reason in found["bad"].problem
    assert found["bad"].version == "1.2.3"
    with pytest.raises(UnknownScheme, match="did you mean 'good'"):
        Plugins().backend("goood")
    with pytest.raises(InvalidURL):
        Plugins().layout("nativ")


@pytest.mark.parametrize("case", ("import", "exit", "unknown hook", "wrong arguments", "newer SPI"))
def test_a_broken_plugin_that_was_named_is_an_error(install: Install, case: str) -> None:
    install("bad", BROKEN[case][0])
    with pytest.raises(PluginError, match="bad"):
        Registry("memory://x", plugins=["bad"])


def test_an_unknown_scheme_tells_of_the_plugins_that_are_not_used(install: Install) -> None:
    install("bad", BROKEN["import"][0])
    with pytest.raises(UnknownScheme, match=r"the plug-in bad is not used: ModuleNotFoundError.*no_such_library"):
        Registry("other://x")


def test_of_a_plugin_with_one_wrong_hook_nothing_is_used(install: Install) -> None:
    install("half", BACKENDS.format(scheme="half") + hook("sofa_registry_layouts", "return {}", "engine"))
    with pytest.raises(UnknownScheme, match="half is not used"):
        Registry("half://x")
    assert known()["half"].adds == []


# One name for two.


def test_two_backends_of_one_scheme_are_an_error_that_names_both(install: Install) -> None:
    install("one", BACKENDS.format(scheme="same"))
    install("two", BACKENDS.format(scheme="same"))
    with pytest.raises(PluginError, match=r"'same'.*\bone\b.*\btwo\b"):
        Registry("same://x")
    assert "same:// is of one already" in known()["two"].problem


def test_a_backend_with_a_scheme_of_ours(install: Install) -> None:
    install("thief", BACKENDS.format(scheme="redis"))
    with Registry("redis://127.0.0.1:1") as registry:
        assert registry.capabilities.shared
    assert "sofa-registry-adapters already" in known()["thief"].problem


def test_two_plugins_of_one_name(install: Install) -> None:
    install("same", BACKENDS.format(scheme="one"), "dist_one")
    install("same", BACKENDS.format(scheme="two"), "two_dist")
    found = known()
    assert found["same"].problem == ""
    [other] = [one for name, one in found.items() if name != "same"]
    assert "another plug-in is called 'same'" in other.problem
    with pytest.raises(PluginError, match=r"two plug-ins are called 'same'.*dist_one.*two_dist"):
        Registry("memory://x", plugins=["same"])


# The command line.


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def test_the_command_lists_what_there_is(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("good", BACKENDS.format(scheme="good"))
    install("bad", "raise ValueError('a\\x1b[31mb')")
    code, text, _ = told(capsys, "plugins")
    assert code == 0
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "good://" in rows["good"]
    assert "1.2.3" in rows["good"]
    assert "dist-good" in rows["good"]
    assert "ValueError: a" in rows["bad"]
    assert "\x1b[31m" not in text
    code, text, _ = told(capsys, "plugins", "--json")
    found = {one["name"]: one for one in json.loads(text)}
    assert found["good"]["adds"] == ["good://"]
    assert found["good"]["problem"] == ""
    assert "ValueError" in found["bad"]["problem"]


def test_the_command_tells_of_a_name_in_the_file(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("good", BACKENDS.format(scheme="good"))
    (tmp_path / "sofa-registry.toml").write_text('[registry]\nplugins = ["missing", "good"]\n')
    found = {one["name"]: one for one in json.loads(told(capsys, "plugins", "--json")[1])}
    assert found["missing"]["problem"] == "it is not installed"
    assert found["good"]["problem"] == ""


def test_the_command_without_plugins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(engine, "_entry_points", list)
    code, text, note = told(capsys, "plugins")
    assert (code, text) == (0, "")
    assert "no plug-ins are installed" in note


def test_a_command_of_a_plugin(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("greeter", COMMANDS)
    assert told(capsys, "greet", "you") == (0, "hello you\n", "")
    assert told(capsys, "greet", "you", "--loud") == (0, "HELLO YOU\n", "")
    code, text, _ = told(capsys, "greet", "--help")
    assert code == 0
    assert "greet" in text
    assert told(capsys, "greet")[0] == 2
    code, _, note = told(capsys, "gret", "you")
    assert code == 2
    assert "did you mean 'greet'" in note


def test_help_and_our_own_commands_ask_no_plugin(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = install("greeter", COMMANDS)
    monkeypatch.setattr(engine, "_entry_points", lambda: pytest.fail("entry points were looked for"))
    assert told(capsys, "--help")[0] == 0
    assert told(capsys, "services", "--url", "memory://x")[0] == 0
    assert module not in sys.modules


def test_a_command_of_a_plugin_that_is_none(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(
        "greeter",
        hook("sofa_registry_commands", "return {'greet': greet}") + "\n    def greet(x: 'Nowhere'): pass\n",
    )
    code, _, note = told(capsys, "greet", "1")
    assert code == 2
    assert "the plug-in's command 'greet'" in note


def test_two_commands_of_one_name(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("one", COMMANDS)
    install("two", COMMANDS)
    code, _, note = told(capsys, "greet", "you")
    assert code == 2
    assert "one of one, one of two" in note


def test_an_unknown_command_tells_of_the_plugins_that_are_not_used(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("bad", BROKEN["import"][0])
    code, _, note = told(capsys, "greet", "you")
    assert code == 2
    assert "the plug-in bad is not used" in note
