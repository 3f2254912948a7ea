"""Where a registry is: the grammar of URLs, options, plug-ins; and that no secret is ever shown."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters import Registry
from sofa_registry_adapters.engine.plugins import Plugins, factory
from sofa_registry_adapters.errors import (
    InvalidURL,
    MissingDependency,
    PluginError,
    RegistryError,
    UnknownOption,
    UnknownScheme,
)
from sofa_registry_adapters.events import Event, Published
from sofa_registry_adapters.named import find_settings
from sofa_registry_adapters.settings import (
    SHARED_OPTIONS,
    parse_target,
    read_value,
    redacted,
    scheme_of,
    table_of,
)
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import Address, BackendType, Capabilities, Kind, Option, Target, Value
from sofa_registry_adapters.testing.faults import eventually

CANARY = "cAnArY-7f3"


def load() -> Callable[..., object]:
    raise NotImplementedError


def remote(**fields: Any) -> BackendType:
    given = {
        "schemes": ("toy", "toys"),
        "summary": "a toy",
        "grammar": "toy://host[:port][,host[:port]…]",
        "considerations": "none",
        "capabilities": Capabilities(),
        "load": load,
        "default_port": 1234,
        "options": (
            Option(name="size", kind="bytes", default=10, meaning="", least=1, most=1000_000),
            Option(name="count", kind="whole", default=1, meaning="", least=0, most=9),
            Option(name="mode", kind="text", default="fast", meaning="", choices=("fast", "slow")),
            Option(name="token", kind="secret", default="", meaning=""),
        ),
    }
    return BackendType(**(given | fields))  # type: ignore[arg-type]


REMOTE = remote()
HERE = remote(needs_host=False, bare_path=True)
FOLDER = remote(needs_host=False)


def target(url: str, backend: BackendType = REMOTE, **options: Value) -> Target:
    return parse_target(url, backend, options)


class TestGrammar:
    @pytest.mark.parametrize(
        ("url", "addresses", "path"),
        (
            ("toy://h", (("h", 1234),), ""),
            ("TOY://h", (("h", 1234),), ""),
            ("toy://h/", (("h", 1234),), "/"),
            ("toy://h:1,i:2/root", (("h", 1), ("i", 2)), "/root"),
            ("toy://10.0.0.1:1/a/b", (("10.0.0.1", 1),), "/a/b"),
            ("toy://[::1]:1,[2001:DB8::1]", (("::1", 1), ("2001:db8::1", 1234)), ""),
            ("toy://h/a%20b%2Fc", (("h", 1234),), "/a b/c"),
            ("toy://h/a%3Ab%40c", (("h", 1234),), "/a:b@c"),
        ),
    )
    def test_a_url(self, url: str, addresses: tuple[tuple[str, int], ...], path: str) -> None:
        found = target(url)
        assert found.scheme == "toy"
        assert tuple((one.host, one.port) for one in found.addresses) == addresses
        assert found.path == path

    @pytest.mark.parametrize(
        ("url", "user", "password"),
        (
            ("toy://u:p@h", "u", "p"),
            ("toy://u@h", "u", ""),
            ("toy://:p@h", "", "p"),
            ("toy://u:p@@h", "u", "p@"),
            ("toy://u%40x:p%2F%3F%23@h", "u@x", "p/?#"),
            ("toy://u:a:b@h", "u", "a:b"),
            ("toy://h", "", ""),
        ),
    )
    def test_credentials(self, url: str, user: str, password: str) -> None:
        found = target(url)
        assert (found.username, found.password) == (user, password)
        assert found.addresses[0].host == "h"

    @pytest.mark.parametrize("url", ("", "h:1", "toy:/h", "://h", "toy"))
    def test_no_url(self, url: str) -> None:
        with pytest.raises(InvalidURL, match="scheme://"):
            scheme_of(url)

    @pytest.mark.parametrize(
        "url",
        (
            "toy://",
            "toy:///root",
            "toy://h:",
            "toy://h:0",
            "toy://h:65536",
            "toy://h:80a",
            "toy://h,",
            "toy://a b",
            "toy://::1:1",
            "toy://[::1]:",
            "toy://[::1]x",
            "toy://[::g]",
            f"toy://h:{chr(0xFF11)}",
            "toy://u@",
            "toy://h:99999999999",
        ),
    )
    def test_hosts_that_are_none(self, url: str) -> None:
        with pytest.raises(InvalidURL):
            target(url)

    def test_a_backend_without_hosts_takes_all_as_a_path(self) -> None:
        assert target("toy://name", HERE).path == "name"
        assert target("toy://name/deep", HERE).path == "name/deep"
        assert target("toy:///tmp/x", HERE).path == "/tmp/x"
        assert target("toy://", HERE).path == ""
        assert target("toy://name", HERE).addresses == ()

    @pytest.mark.parametrize("url", ("toy://tmp/x", "toy://host", "toy://localhost/tmp/x", "toy://user:geheim@/tmp/x"))
    def test_a_path_with_two_slashes_is_no_host_in_silence(self, url: str) -> None:
        with pytest.raises(InvalidURL, match="write a path with three slashes, toy:///path") as caught:
            target(url, FOLDER)
        assert "geheim" not in str(caught.value)

    def test_a_path_has_three_slashes(self) -> None:
        assert target("toy:///tmp/x", FOLDER).path == "/tmp/x"
        assert target("toy:///tmp/a%40b", FOLDER).path == "/tmp/a@b"
        assert target("toy://", FOLDER).path == ""

    def test_the_backend_has_the_last_word(self) -> None:
        def refuse(given: Target) -> None:
            raise InvalidURL(f"not {given.path}")

        with pytest.raises(InvalidURL, match="not /x"):
            target("toy://h/x", remote(check=refuse))

    @pytest.mark.parametrize("url", (1, b"toy://h", Path("x")))
    def test_a_url_is_text(self, url: Any) -> None:
        with pytest.raises(InvalidURL, match=type(url).__name__):
            find_settings(url)

    @given(st.text(max_size=40))
    def test_any_text_is_a_target_or_a_refusal(self, text: str) -> None:
        try:
            found = target(f"toy://{text}")
        except InvalidURL:
            return
        assert found.addresses


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


class TestSecrets:
    URLS = (
        f"toy://u:{CANARY}@h",
        f"toy://:{CANARY}@h",
        f"toy://u:{CANARY}@h:port",
        f"toy://u:{CANARY}@a b",
        f"toy://u:{CANARY}@",
        f"toy://u:{CANARY}@::1:1",
        f"toy://u:{CANARY}@h?nope=1",
        f"toy://u:{CANARY}@h?count=x",
        f"toy://u:{CANARY}@@h:port",
        f"toy://h?token={CANARY}",
        f"toy://h?token={CANARY}&token=x",
        f"nope://u:{CANARY}@h",
    )
    SLIPS = (
        f"toy://u:{CANARY}/x@h",
        f"toy://u:x/{CANARY}@h",
        f"toy://u:{CANARY}?x@h",
        f"toy://u:x?{CANARY}@h",
        f"toy://u:{CANARY}#x@h:port",
        f"u:{CANARY}@h:1",
        f"toy:u:{CANARY}@h",
        f"toy:/u:{CANARY}@h",
    )

    @pytest.mark.parametrize("url", URLS)
    def test_a_password_is_never_shown(self, url: str) -> None:
        self.check(url)

    @pytest.mark.parametrize("url", SLIPS)
    def test_nor_that_of_a_url_that_is_written_wrongly(self, url: str) -> None:
        self.check(url)

    def check(self, url: str) -> None:
        shown = [redacted(url)]
        try:
            found = Plugins([Toys()]).backend(scheme_of(url))
            parsed = parse_target(url, found)
            shown += [str(parsed), repr(parsed), f"{parsed}"]
        except RegistryError as error:
            shown += [str(error), repr(error), repr(error.args)]
            shown.append(repr(error.__cause__))
        assert not [one for one in shown if CANARY in one]

    def test_a_secret_option_that_cannot_be_read_is_not_shown(self) -> None:
        with pytest.raises(InvalidURL) as caught:
            read_value(Option(name="token", kind="secret", default="", meaning=""), 731)
        assert "731" not in str(caught.value)

    def test_a_registry_shows_no_secret(self) -> None:
        registry = Registry(f"memory://x?namespace={CANARY[:3]}")
        assert "memory://x" in repr(registry)
        assert f"{CANARY}" not in repr(Target(scheme="toy", username="u", password=CANARY, addresses=(Address("h"),)))

    def test_nor_to_a_pretty_printer(self) -> None:
        found = target(f"toy://u:{CANARY}@h")
        pretty = getattr(found, "__rich_repr__", lambda: ())
        assert CANARY not in repr(list(pretty()))

    def test_what_is_shown_still_tells_which_registry(self) -> None:
        assert str(target(f"toy://u:{CANARY}@h:1,[::1]/root")) == "toy://u:***@h:1,[::1]:1234/root"
        assert redacted("toy://u:p@h:1/root?a=b&c") == "toy://***@h:1/root?a=***&c=***"
        assert redacted("toy://h:1/root") == "toy://h:1/root"


class Toys:
    @hookimpl
    def sofa_registry_backends(self) -> list[BackendType]:
        return [REMOTE]


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
