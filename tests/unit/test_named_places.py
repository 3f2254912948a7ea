"""Which registry is meant: precedence, names, the short form, the files of the documentation."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest
from named_desk import CANARY, HARD, Desk, desk

from sofa_registry_adapters import Registry
from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import InvalidURL, PluginError
from sofa_registry_adapters.named import (
    CONFIG_URL_VARIABLE,
    DEFAULT_URL,
    FILE_NAME,
    FILE_VARIABLE,
    URL_VARIABLE,
    find_config_settings,
    find_settings,
    read_file,
    variable_of,
)
from sofa_registry_adapters.settings import parse_target, scheme_of

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["desk"]


class TestPrecedence:
    def test_without_anything_it_is_the_embedded_default(self, desk: Desk) -> None:
        for found in (find_settings(), find_config_settings()):
            assert (found.url, found.origin, found.path) == (DEFAULT_URL, "the default", None)

    def test_the_file_then_the_environment_then_the_argument(self, desk: Desk) -> None:
        desk.write('[registry]\nurl = "memory://file"\n')
        assert find_settings().url == "memory://file"
        desk.setenv(URL_VARIABLE, "memory://environment")
        assert find_settings().url == "memory://environment"
        assert URL_VARIABLE in find_settings().origin
        assert find_settings("memory://argument").url == "memory://argument"
        assert "environment" in repr(Registry())
        desk.setenv(URL_VARIABLE, "")
        assert find_settings().url == "memory://file"

    def test_a_file_elsewhere(self, desk: Desk) -> None:
        other = desk.folder / "other.toml"
        other.write_text('[registry]\nurl = "memory://other"\n')
        desk.setenv(FILE_VARIABLE, str(other))
        assert find_settings().url == "memory://other"
        assert find_settings().path == other
        desk.setenv(FILE_VARIABLE, str(desk.folder / "none.toml"))
        with pytest.raises(InvalidURL, match=r"none\.toml"):
            find_settings()

    def test_the_file_is_not_read_where_it_does_not_decide(self, desk: Desk) -> None:
        desk.write("[registry")
        desk.setenv(URL_VARIABLE, "memory://x")
        desk.setenv("SOFA_REGISTRY_ORDERS_URL", "memory://orders")
        assert find_settings().url == "memory://x"
        assert find_settings("orders").url == "memory://orders"
        assert find_settings("memory://y").url == "memory://y"

    def test_what_a_file_says(self, desk: Desk) -> None:
        desk.write('[registry]\nurl = "memory://x"\n[registry.options]\nlease = "3s"\nreconcile = 7\n')
        found = find_settings()
        assert found.options == {"lease": "3s", "reconcile": 7}
        assert found.origin == "[registry.default] in sofa-registry.toml"
        assert found.path == Path(FILE_NAME)

    def test_a_file_may_begin_with_a_mark(self, desk: Desk) -> None:
        desk.file.write_bytes(b"\xef\xbb\xbf[registry]\nurl = 'memory://x'\n")
        assert find_settings().url == "memory://x"

    def test_options_of_a_file_count(self, desk: Desk) -> None:
        desk.write('[registry]\nurl = "memory://x"\n[registry.options]\nlease = "3s"\n')
        assert Registry().target.number("lease") == 3
        assert Registry(options={"lease": 4}).target.number("lease") == 4, "one by hand wins"
        desk.write('[registry]\nurl = "memory://x?lease=4s"\n[registry.options]\nlease = "3s"\n')
        with pytest.raises(InvalidURL, match="twice"):
            Registry()

    def test_a_plugin_that_the_file_names_has_to_be_there(self, desk: Desk) -> None:
        desk.write('[registry]\nurl = "memory://x"\nplugins = ["no-such-plugin"]\n')
        assert find_settings().plugins == ("no-such-plugin",)
        with pytest.raises(PluginError, match="no-such-plugin"):
            Registry()

    @pytest.mark.parametrize("text", ("", "# nothing\n", "[registry]\n", "[registry.default]\n", "[config]\n"))
    def test_a_file_that_says_nothing_is_the_default(self, desk: Desk, text: str) -> None:
        desk.write(text)
        assert find_settings().url == DEFAULT_URL
        assert find_config_settings().url == DEFAULT_URL


NAMES = """
[registry.default]
url = "memory://shop"
[registry.default.options]
namespace = "a"
[registry.orders]
url = "memory://orders?lease=2s"
plugins = ["alarm"]
[registry.orders-EU_1]
url = "memory://eu"
[config.default]
url = "memory://settings"
[config.flags]
url = "memory://flags"
"""


class TestNames:
    @pytest.fixture(autouse=True)
    def _file(self, desk: Desk) -> None:
        desk.write(NAMES)

    @pytest.mark.parametrize(
        ("name", "url", "origin"),
        (
            (None, "memory://shop", "[registry.default] in sofa-registry.toml"),
            ("default", "memory://shop", "[registry.default] in sofa-registry.toml"),
            ("orders", "memory://orders?lease=2s", "[registry.orders] in sofa-registry.toml"),
            ("orders-EU_1", "memory://eu", "[registry.orders-EU_1] in sofa-registry.toml"),
            ("memory://orders", "memory://orders", "the argument"),
        ),
    )
    def test_a_registry(self, name: str | None, url: str, origin: str) -> None:
        found = find_settings(name)
        assert (found.url, found.origin) == (url, origin)
        assert found.options == ({"namespace": "a"} if url == "memory://shop" else {})
        assert found.plugins == (("alarm",) if name == "orders" else ())

    @pytest.mark.parametrize(
        ("name", "url"),
        (
            (None, "memory://settings"),
            ("default", "memory://settings"),
            ("flags", "memory://flags"),
            ("orders", "memory://orders?lease=2s"),
            ("memory://x", "memory://x"),
        ),
    )
    def test_a_center_is_where_it_says_or_where_the_registry_of_that_name_is(self, name: str | None, url: str) -> None:
        assert find_config_settings(name).url == url

    def test_a_center_without_a_place_is_where_the_registry_is(self, desk: Desk) -> None:
        desk.write('[registry]\nurl = "memory://shop"\n')
        assert find_config_settings().url == "memory://shop"
        desk.setenv(URL_VARIABLE, "memory://environment")
        assert find_config_settings().url == "memory://environment"
        desk.setenv(CONFIG_URL_VARIABLE, "memory://center")
        assert find_config_settings().url == "memory://center"
        assert find_settings().url == "memory://environment"

    def test_a_registry_by_name_works(self, desk: Desk) -> None:
        name = uuid.uuid4().hex
        desk.write(f'[registry.orders]\nurl = "memory://{name}"\n')
        with Registry("orders") as registry, Registry(f"memory://{name}") as same:
            registry.publish("a", "h:1")
            assert len(same.lookup("a")) == 1
            assert repr(registry) == f"<Registry memory://{name}>"

    @pytest.mark.parametrize(
        ("name", "near"), (("ordres", "orders"), ("order", "orders"), ("orders-eu_1", "orders-EU_1"))
    )
    def test_an_unknown_name_has_the_nearest(self, name: str, near: str) -> None:
        for find, knows_centers in ((find_settings, False), (find_config_settings, True)):
            with pytest.raises(InvalidURL, match=f"did you mean '{near}'") as caught:
                find(name)
            assert FILE_NAME in str(caught.value)
            assert "'://'" in str(caught.value)
            assert ("flags" in str(caught.value)) == knows_centers

    def test_without_any_name_it_says_where_to_write_one(self, desk: Desk) -> None:
        desk.file.unlink()
        with pytest.raises(InvalidURL, match=r"no registry is called 'orders'.*SOFA_REGISTRY_ORDERS_URL"):
            Registry("orders")
        with pytest.raises(InvalidURL, match=r"no configuration center is called 'orders'.*SOFA_CONFIG_ORDERS_URL"):
            find_config_settings("orders")

    @pytest.mark.parametrize("text", ("", "h:1", "toy:/h", "-a", "a b", "a/b", f"u:{CANARY}@h", "ä", "x" * 65, "a\n"))
    def test_what_is_neither_a_name_nor_a_url(self, text: str) -> None:
        with pytest.raises(InvalidURL, match="is not a registry URL") as caught:
            Registry(text)
        assert CANARY not in str(caught.value)

    def test_a_variable_takes_the_place_of_an_entry(self, desk: Desk) -> None:
        desk.setenv("SOFA_REGISTRY_ORDERS_EU_1_URL", "memory://elsewhere")
        found = find_settings("orders-EU_1")
        assert (found.url, found.origin) == ("memory://elsewhere", "the variable SOFA_REGISTRY_ORDERS_EU_1_URL")
        desk.setenv("SOFA_CONFIG_FLAGS_URL", "memory://other-flags")
        assert find_config_settings("flags").url == "memory://other-flags"
        desk.setenv("SOFA_REGISTRY_ELSE_URL", "memory://else")
        assert find_settings("else").url == "memory://else", "one that no file has"
        desk.setenv("SOFA_REGISTRY_DEFAULT_URL", "memory://by-its-name")
        assert find_settings().url == "memory://by-its-name"
        desk.setenv(URL_VARIABLE, "memory://first")
        assert find_settings("default").url == "memory://first"
        assert find_settings().options == {}, "its options were for another product"

    def test_the_variable_of_the_default_may_have_a_name(self, desk: Desk) -> None:
        desk.setenv(URL_VARIABLE, "orders")
        assert find_settings().url == "memory://orders?lease=2s"
        desk.setenv(URL_VARIABLE, "default")
        assert find_settings().url == "memory://shop"
        desk.setenv(CONFIG_URL_VARIABLE, "flags")
        assert find_config_settings().url == "memory://flags"
        desk.setenv(URL_VARIABLE, "nobody")
        with pytest.raises(InvalidURL, match=r"no registry is called 'nobody'"):
            find_settings()

    def test_names_and_their_variables(self) -> None:
        assert variable_of("registry", "orders-EU_1") == "SOFA_REGISTRY_ORDERS_EU_1_URL"
        assert variable_of("config", "x") == "SOFA_CONFIG_X_URL"


class TestShortForm:
    def test_names_beside_the_short_form(self, desk: Desk) -> None:
        desk.write('[registry]\nurl = "memory://x"\n[registry.orders]\nurl = "memory://orders"\n')
        assert find_settings().url == "memory://x"
        assert find_settings("orders").url == "memory://orders"

    def test_options_alone_are_those_of_the_default(self, desk: Desk) -> None:
        desk.write('[registry.options]\nlease = "3s"\n')
        assert (find_settings().url, find_settings().options) == (DEFAULT_URL, {"lease": "3s"})

    def test_a_center_has_it_too(self, desk: Desk) -> None:
        desk.write('[config]\nurl = "memory://x"\n[config.options]\nnamespace = "a"\n')
        assert find_config_settings().options == {"namespace": "a"}

    def test_both_forms_of_the_default_are_one_too_many(self, desk: Desk) -> None:
        desk.write('[registry]\nurl = "memory://x"\n[registry.default]\nurl = "memory://y"\n')
        with pytest.raises(InvalidURL, match="keep one"):
            find_settings()


PAGES = ("reference/file.md", "how-to/swap-your-registry.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_files_of_the_documentation_are_read(desk: Desk, page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    desk.setenv("REDIS_PASSWORD", HARD)
    (desk.folder / "redis").write_text(CANARY)
    for block in blocks:
        desk.write(block.replace("/run/secrets/", f"{desk.folder}/"))
        plugins = Plugins()
        for section, name in read_file().entries:
            found = find_settings(name) if section == "registry" else find_config_settings(name)
            assert found.origin == f"[{section}.{name}] in {FILE_NAME}"
            parsed = parse_target(found.url, plugins.backend(scheme_of(found.url)), found.options)
            assert parsed.password in ("", HARD, CANARY)
