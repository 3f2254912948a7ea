"""Options and their values, and backends and layouts found by name."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from declared_backend import REMOTE, Toys, remote, target

from sofa_registry_adapters import Registry
from sofa_registry_adapters.engine.plugins import Plugins, factory
from sofa_registry_adapters.errors import InvalidURL, MissingDependency, PluginError, UnknownOption, UnknownScheme
from sofa_registry_adapters.events import Event, Published
from sofa_registry_adapters.settings import SHARED_OPTIONS, read_value, table_of
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType, Kind, Option, Value
from sofa_registry_adapters.testing.faults import eventually


class TestOptions:
    def test_every_option_has_its_default(self) -> None:
        found = target("toy://h")
        assert found.options.keys() == table_of(REMOTE).keys()
        assert found.number("protection_hold") == 10.0
        assert found.text("layout") == "native"
        assert not found.flag("allow_loopback")
        assert found.text("unknown") == ""

    def test_a_backend_may_have_other_defaults(self) -> None:
        assert target("toy://h", remote(defaults={"protection_hold": 0.0})).number("protection_hold") == 0.0

    def test_text_is_no_number(self) -> None:
        with pytest.raises(TypeError, match="layout"):
            target("toy://h").number("layout")

    @pytest.mark.parametrize(
        ("kind", "given", "read"),
        (
            ("seconds", "5", 5.0),
            ("seconds", "250ms", 0.25),
            ("seconds", "5s", 5.0),
            ("seconds", "2m", 120.0),
            ("seconds", "1h", 3600.0),
            ("seconds", 1.5, 1.5),
            ("seconds", 2, 2.0),
            ("bytes", "12", 12),
            ("bytes", "12k", 12 * 1024),
            ("bytes", "1M", 1024 * 1024),
            ("bytes", 7, 7),
            ("whole", "3", 3),
            ("whole", 3, 3),
            ("flag", "yes", True),
            ("flag", "TRUE", True),
            ("flag", "1", True),
            ("flag", True, True),
            ("flag", "off", False),
            ("flag", "0", False),
            ("flag", 0, False),
            ("text", "", ""),
            ("secret", "x", "x"),
            ("path", "~/x", "~/x"),
        ),
    )
    def test_values(self, kind: Kind, given: Value, read: Value) -> None:
        found = read_value(Option(name="x", kind=kind, default=None, meaning=""), given)
        assert found == read
        assert type(found) is type(read)

    @pytest.mark.parametrize(
        ("kind", "given"),
        [("seconds", bad) for bad in ("", "x", "5x", "nan", "inf", "-inf", "1e999", True, None, "ms")]
        + [("bytes", bad) for bad in ("", "k", "1.5k", "1g", True, None, 1.5)]
        + [("whole", bad) for bad in ("", "1.5", 1.5, True, None, "9" * 5000)]
        + [("flag", bad) for bad in ("", "maybe", 2, None, "2")]
        + [(kind, bad) for kind in ("text", "secret", "path") for bad in (1, True, None, 1.5)],
    )
    def test_values_that_are_none(self, kind: Kind, given: Value) -> None:
        with pytest.raises(InvalidURL, match="the option x"):
            read_value(Option(name="x", kind=kind, default=None, meaning=""), given)

    @pytest.mark.parametrize(
        "url", ("toy://h?count=10", "toy://h?count=-1", "toy://h?size=0", "toy://h?size=2M", "toy://h?call_timeout=0")
    )
    def test_values_out_of_bounds(self, url: str) -> None:
        with pytest.raises(InvalidURL, match=r"must be at (least|most)"):
            target(url)

    @pytest.mark.parametrize(("bounds", "bad"), (({"least": 1}, 0), ({"most": 1}, 2)))
    def test_a_bound_on_one_side(self, bounds: dict[str, float], bad: int) -> None:
        option = Option(name="x", kind="whole", default=1, meaning="", **bounds)
        assert read_value(option, 1) == 1
        with pytest.raises(InvalidURL, match="the option x"):
            read_value(option, bad)

    def test_choices(self) -> None:
        assert target("toy://h?mode=slow").text("mode") == "slow"
        with pytest.raises(InvalidURL, match="fast, slow"):
            target("toy://h?mode=medium")

    def test_an_unknown_option_names_the_nearest(self) -> None:
        with pytest.raises(UnknownOption, match="did you mean 'protection_hold'") as caught:
            target("toy://h?protection_hodl=3")
        assert "allow_loopback" in str(caught.value)
        with pytest.raises(UnknownOption, match="zzzz"):
            target("toy://h", zzzz=1)

    def test_an_option_given_twice(self) -> None:
        assert target("toy://h?count=3&count=3").number("count") == 3
        assert target("toy://h?call_timeout=1m", call_timeout=60).number("call_timeout") == 60
        for url, options in (("toy://h?count=3&count=4", {}), ("toy://h?count=3", {"count": 4})):
            with pytest.raises(InvalidURL, match=r"count is given twice, as 3 and 4: keep one"):
                target(url, **options)

    def test_every_shared_option_explains_itself_and_has_a_good_default(self) -> None:
        for option in SHARED_OPTIONS:
            assert option.meaning
            assert read_value(option, option.default) == option.default


class TestPlugins:
    def test_an_unknown_scheme_names_the_nearest(self) -> None:
        with pytest.raises(UnknownScheme, match="did you mean 'rediss'"):
            Registry("rediss3://h")
        with pytest.raises(UnknownScheme, match="memory"):
            Registry("qqq://h")

    def test_a_backend_by_hand(self) -> None:
        assert Plugins([Toys()]).backend("toys") is REMOTE
        assert REMOTE in Plugins([Toys()]).backends()

    def test_an_unknown_layout_names_the_nearest(self) -> None:
        with pytest.raises(InvalidURL, match="did you mean 'native'"):
            Registry("memory://x?layout=nativ")

    def test_two_of_one_name_are_an_error_that_names_both(self) -> None:
        with pytest.raises(PluginError, match="toy"):
            Plugins([Toys(), Toys()]).backend("toy")

    def test_a_name_of_ours_is_taken(self) -> None:
        class Thief:
            @hookimpl
            def sofa_registry_backends(self) -> list[BackendType]:
                return [remote(schemes=("redis",))]

        with pytest.raises(PluginError, match="redis"):
            Plugins([Thief()]).backend("other")

    def test_a_missing_library_has_the_command(self) -> None:
        def absent() -> Callable[..., object]:
            raise ModuleNotFoundError("No module named 'toylib'", name="toylib.client")

        with pytest.raises(MissingDependency, match=r"pip install 'sofa-registry-adapters\[toys\]'"):
            factory(remote(load=absent, extra="toys", libraries=("toylib",)))
        with pytest.raises(ModuleNotFoundError):
            factory(remote(load=absent, extra="toys", libraries=("another",)))
        with pytest.raises(ModuleNotFoundError):
            factory(remote(load=absent))

    def test_a_misspelt_hook_is_refused(self) -> None:
        class Misspelt:
            @hookimpl
            def sofa_registry_backend(self) -> list[BackendType]:
                return []

        with pytest.raises(PluginError, match="sofa_registry_backend"):
            Plugins([Misspelt()]).backend("toy")

    def test_a_plugin_that_cannot_answer_takes_no_other_down(self) -> None:
        class Broken:
            @hookimpl
            def sofa_registry_backends(self) -> list[BackendType]:
                raise RuntimeError("not today")

        plugins = Plugins([Broken(), Toys()])
        assert plugins.backend("toy") is REMOTE
        problems = {one.name: one.problem for one in plugins.known()}
        assert "not today" in problems["Broken"]
        assert problems["Toys"] == ""
        with pytest.raises(UnknownScheme, match="not today"):
            plugins.backend("other")

    def test_a_plugin_of_a_later_version_is_refused(self) -> None:
        class Later(Toys):
            sofa_registry_spi = 10_000

        with pytest.raises(PluginError, match="version 10000"):
            Plugins([Later()]).backend("toy")

    def test_listeners_of_plugins_that_were_given_hear_of_events(self) -> None:
        seen: list[Published] = []

        class Listener:
            @hookimpl
            def sofa_registry_listeners(self) -> list[tuple[type[Event], Callable[[Any], object]]]:
                return [(Published, seen.append)]

        assert Plugins().listeners() == []
        with Registry(f"memory://{uuid.uuid4().hex}", plugins=[Listener()]) as registry:
            registry.publish("a", "h:1")
            eventually(lambda: len(seen) == 1)
