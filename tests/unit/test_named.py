"""Which registry is meant: names, the file, the environment, secrets by reference; and what is wrong with a file, in a sentence."""

from __future__ import annotations

import copy
import os
import pickle
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sofa_registry_adapters import Registry
from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import InvalidURL, PluginError, RegistryError
from sofa_registry_adapters.named import (
    CONFIG_URL_VARIABLE,
    DEFAULT_URL,
    FILE_NAME,
    FILE_VARIABLE,
    LARGEST_FILE,
    URL_VARIABLE,
    Settings,
    find_config_settings,
    find_settings,
    read_file,
    variable_of,
)
from sofa_registry_adapters.references import LONGEST, Place, fill, fill_url, literal_password
from sofa_registry_adapters.settings import Filled, parse_target, redacted, scheme_of
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target

CANARY = "cAnArY-7f3"
HARD = "p/s?w@r:d#%25 ü&=+${x}"
"""A password with everything that a URL would take for something else."""


def load() -> Any:
    raise NotImplementedError


TOY = BackendType(
    schemes=("toy",),
    summary="a toy",
    grammar="toy://host",
    considerations="none",
    capabilities=Capabilities(),
    load=load,
    options=(
        Option(name="count", kind="whole", default=1, meaning="", most=9),
        Option(name="mode", kind="text", default="fast", meaning="", choices=("fast", "slow")),
        Option(name="token", kind="secret", default="", meaning=""),
        Option(name="note", kind="text", default="", meaning=""),
    ),
)


class Desk:
    """A working directory, an environment, and a file in them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.file = folder / FILE_NAME
        self.setenv = monkeypatch.setenv
        monkeypatch.chdir(folder)
        for name in os.environ:
            if name.startswith("SOFA_"):
                monkeypatch.delenv(name)

    def write(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def target(found: Settings) -> Target:
    return parse_target(found.url, TOY, found.options)


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


class TestFilesThatAreWrong:
    @pytest.mark.parametrize(
        ("text", "said"),
        (
            ("[registry", "Expected ']'"),
            ("registry = 1", r"write \[registry\] as a table"),
            ("config = 'x'", r"write \[config\] as a table"),
            ("[registry]\nurl = 1", r"\[registry.default\].*str.*int.*url"),
            ("[registry]\nulr = 'x'", "did you mean 'url'"),
            ("[registry.default]\nulr = 'x'", "did you mean 'url'"),
            ("[registry.orders]\nurl = 'x://y'\noption = {}", "did you mean 'options'"),
            ("[registry.optoins]\nlease = 1", "no key 'lease'"),
            ("[registry]\noptions = 1", "object.*int"),
            ("[registry]\nplugins = 'a'", "array.*str"),
            ("[registry]\nplugins = [1]", "str.*int"),
            ("[registry.orders]\n", r"\[registry.orders\].*has no url"),
            ("[registry.orders]\nurl = ''\n", "has no url"),
            ("[registry.'a b']\nurl = 'x://y'", "is no name for a registry"),
            ("[config.'']\nurl = 'x://y'", "is no name for a configuration center"),
            ("[registry.a-b]\nurl = 'x://y'\n[registry.a_b]\nurl = 'x://y'", "SOFA_REGISTRY_A_B_URL: rename one"),
            ("[other]\nx = 1", "no table 'other'"),
            ("[registri]\nx = 1", "did you mean 'registry'"),
            ("[registry.options]\nlease = 1979-05-27", "lease"),
            ("[registry.options]\nlease = [1]", "lease"),
            ("[registry.options]\nlease = {a = 1}", "lease"),
            (f"[registry.options]\nlease = {'9' * 5000}", "cannot be read"),
            ("[registry]\nurl = 'a'\nurl = 'b'", "Cannot overwrite"),
            ("\x00", "cannot be read"),
            ("x = " + "[" * 20_000, "nested too deeply"),
            ("x = '" + "y" * LARGEST_FILE + "'", "more than 1000000 bytes"),
        ),
    )
    def test_it_is_named_and_the_place_too(self, desk: Desk, text: str, said: str) -> None:
        desk.write(text)
        for find in (find_settings, find_config_settings):
            with pytest.raises(InvalidURL, match=said) as caught:
                find()
            assert FILE_NAME in str(caught.value)

    def test_a_file_that_is_no_text(self, desk: Desk) -> None:
        desk.file.write_bytes(b"\xff\xfe\xff")
        with pytest.raises(InvalidURL, match=r"sofa-registry\.toml"):
            find_settings()

    def test_a_folder_of_that_name_is_no_file(self, desk: Desk) -> None:
        desk.file.mkdir()
        assert find_settings().url == DEFAULT_URL
        desk.setenv(FILE_VARIABLE, FILE_NAME)
        with pytest.raises(InvalidURL, match="not a file"):
            find_settings()

    def test_a_pipe_is_not_waited_for(self, desk: Desk) -> None:
        os.mkfifo(desk.file)
        assert find_settings().url == DEFAULT_URL

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, desk: Desk) -> None:
        desk.write("")
        desk.file.chmod(0)
        with pytest.raises(InvalidURL, match="Permission denied"):
            find_settings()

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.recursive(
            st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.floats(allow_nan=False)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(st.sampled_from(["url", "options", "plugins", "default", "a", ""]), inner, max_size=3),
            ),
            max_leaves=8,
        )
    )
    def test_any_content_is_settings_or_a_refusal(self, desk: Desk, content: object) -> None:
        desk.write(f"registry = {toml(content)}\n")
        try:
            found = find_settings()
        except InvalidURL:
            return
        assert isinstance(found.url, str)
        assert all(isinstance(value, str | int | float) for value in found.options.values())


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return '"' + "".join(rf"\U{ord(one):08x}" for one in value) + '"'
    return str(value).lower() if isinstance(value, bool) else str(value)


class TestReferences:
    @pytest.mark.parametrize("password", ("simple", HARD))
    def test_a_password_may_have_any_character(self, desk: Desk, password: str) -> None:
        desk.setenv("PASSWORD", password)
        (desk.folder / "secret").write_text(f"{password}\n")
        for reference in ("${PASSWORD}", f"${{file:{desk.folder}/secret}}", "${file:secret}", "${file:./secret}"):
            desk.write(f'[registry]\nurl = "toy://app:{reference}@h:1,i:2/root?note=x"\n')
            found = target(find_settings())
            assert (found.username, found.password, found.path) == ("app", password, "/root")
            assert [one.host for one in found.addresses] == ["h", "i"]
            assert found.text("note") == "x"

    def test_anywhere_in_a_url(self, desk: Desk) -> None:
        for name, value in {"WHO": "a@b", "HOSTS": "h:1,i:2", "ROOT": "x y", "NOTE": "a&b=c"}.items():
            desk.setenv(name, value)
        desk.write('[registry]\nurl = "toy://${WHO}:pre-${NOTE}-$${post@${HOSTS}/${ROOT}?note=${NOTE}"\n')
        found = target(find_settings())
        assert (found.username, found.password) == ("a@b", "pre-a&b=c-${post")
        assert [(one.host, one.port) for one in found.addresses] == [("h", 1), ("i", 2)]
        assert (found.path, found.text("note")) == ("/x y", "a&b=c")

    def test_a_whole_url(self, desk: Desk) -> None:
        desk.setenv("REDIS_URL", f"toy://u:{CANARY}@h:1?note=x")
        desk.write('[registry]\nurl = "${REDIS_URL}"\n')
        found = find_settings()
        assert (target(found).password, target(found).text("note")) == (CANARY, "x")
        assert repr(found) == "<Settings ${REDIS_URL} from [registry.default] in sofa-registry.toml>"

    def test_in_options(self, desk: Desk) -> None:
        desk.setenv("TOKEN", HARD)
        desk.write(
            '[registry]\nurl = "toy://h"\n[registry.options]\ntoken = "${TOKEN}"\nnote = "<${TOKEN}>"\ncount = 2\n'
        )
        found = target(find_settings())
        assert (found.text("token"), found.text("note"), found.number("count")) == (HARD, f"<{HARD}>", 2)

    def test_in_a_variable_and_not_in_an_argument(self, desk: Desk) -> None:
        desk.setenv("PASSWORD", CANARY)
        desk.setenv(URL_VARIABLE, "toy://u:${PASSWORD}@h")
        assert target(find_settings()).password == CANARY
        assert target(find_settings("toy://u:${PASSWORD}@h")).password == "${PASSWORD}"

    def test_only_those_that_are_used_are_filled_in(self, desk: Desk) -> None:
        desk.write('[registry.a]\nurl = "toy://${NOT_SET}"\n[registry.b]\nurl = "toy://h"\n')
        assert find_settings("b").url == "toy://h"

    @pytest.mark.parametrize(
        ("reference", "said"),
        (
            ("${NOT_SET}", "the variable NOT_SET, which is not set"),
            ("${EMPTY}", "the variable EMPTY, which is not set, or empty"),
            ("${file:/no/such/file}", "the file /no/such/file, which is not there"),
            ("${file:folder}", "which is not there, or is no file"),
            ("${file:pipe}", "which is not there, or is no file"),
            ("${file:empty}", "which is empty"),
            ("${file:binary}", "no text in UTF-8"),
            ("${file:large}", f"more than {LONGEST} bytes"),
            ("${file:}", "no file"),
            ("${file:a\\u0000b}", "cannot be read|no text|no file"),
            ("${}", "a reference cannot be read"),
            (f"${{{CANARY}}}", "a reference cannot be read"),
            (f"${{{CANARY}", "a reference cannot be read"),
            (f"${{ {CANARY} }}", "a reference cannot be read"),
            (f"${{${{{CANARY}}}}}", "a reference cannot be read"),
        ),
    )
    def test_one_that_leads_nowhere_is_named_and_its_place_too(self, desk: Desk, reference: str, said: str) -> None:
        (desk.folder / "folder").mkdir()
        os.mkfifo(desk.folder / "pipe")
        for name, content in {"empty": b"\n", "binary": b"\xff\xfe", "large": b"x" * (LONGEST + 1)}.items():
            (desk.folder / name).write_bytes(content)
        desk.setenv("EMPTY", "")
        desk.write(f'[registry.orders]\nurl = "toy://u:{reference}@h"\n')
        with pytest.raises(InvalidURL, match=said) as caught:
            Registry("orders")
        assert str(caught.value).startswith("the url of [registry.orders] in sofa-registry.toml: ")
        assert CANARY not in str(caught.value)
        desk.write(f'[registry]\nurl = "toy://h"\n[registry.options]\nnote = "{reference}"\n')
        with pytest.raises(InvalidURL, match=said) as caught:
            Registry()
        assert str(caught.value).startswith("the option note of [registry.default] in sofa-registry.toml: ")
        assert CANARY not in str(caught.value)

    def test_relative_paths_begin_at_the_file(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        (desk.folder / "secret").write_text("x\r\n")
        desk.write('[registry]\nurl = "toy://u:${file:secret}@h"\n')
        desk.setenv(FILE_VARIABLE, str(desk.file))
        (desk.folder / "below").mkdir()
        monkeypatch.chdir(desk.folder / "below")
        assert target(find_settings()).password == "x"

    def test_text_without_a_reference_is_as_it_was(self) -> None:
        for text in ("a$b", "$x", "{x}", "toy://u:$p{}@h", "$$"):
            assert fill(text, Place("x")) is text
            assert fill_url(text, Place("x")) is text
        assert fill("$${a} $$${b", Place("x")) == "${a} $${b"

    @pytest.mark.parametrize(
        ("url", "literal"),
        (
            ("toy://u:p@h", True),
            ("toy://:p@h", True),
            ("toy://u@h", False),
            ("toy://h/a:b", False),
            ("toy://h?x=a:b@c", False),
            ("toy://u:${P}@h", False),
            ("toy://u:${file:/a:b@c}@h", False),
            ("toy://u:a${P}@h", True),
            ("toy://u:$${P}@h", True),
            ("${P}", False),
        ),
    )
    def test_a_password_that_stands_there(self, monkeypatch: pytest.MonkeyPatch, url: str, literal: bool) -> None:
        monkeypatch.setenv("P", "toy://u:p@h")
        assert literal_password(Filled("toy://u:p@h", url) if "${" in url else url) == literal


class TestNothingIsShown:
    """What came by reference is in no message and no repr, wherever it was put and however wrong it is there."""

    WRONG = (
        "toy://u:${SECRET}@h:port",
        "toy://u:${SECRET}@a b",
        "toy://u:${SECRET}@",
        "toy://u:${SECRET}@h?nope=1",
        "toy://u:${SECRET}@h?count=x",
        "toy://:${SECRET}",
        "toy://u:${SECRET}",
        "toy://${SECRET}:x",
        "toy://[::1]${SECRET}",
        "toy://h?count=${SECRET}",
        "toy://h?mode=${SECRET}",
        "toy://h?note=${SECRET}&note=x",
        "toy://h?token=${SECRET}&token=x",
        "toy://h?count=1&count=${SECRET}",
        "${SECRET}",
        "${SECRET}:x@h",
        "toy:${SECRET}",
    )

    @pytest.mark.parametrize("url", WRONG)
    @pytest.mark.parametrize(
        "secret", (CANARY, f"1{CANARY}", f"toy://u:{CANARY}", f"toy://h?count={CANARY}", f"a:b@{CANARY} c")
    )
    def test_of_a_url(self, desk: Desk, url: str, secret: str) -> None:
        desk.setenv("SECRET", secret)
        desk.write(f'[registry]\nurl = "{url}"\n')
        self.check({})

    @pytest.mark.parametrize("option", ("count", "mode", "token", "call_timeout", "allow_loopback", "lease"))
    @pytest.mark.parametrize("url", ("toy://h", "toy://h?count=3&mode=slow&token=t&call_timeout=3s"))
    def test_of_an_option(self, desk: Desk, option: str, url: str) -> None:
        desk.setenv("SECRET", CANARY)
        desk.write(f'[registry]\nurl = "{url}"\n[registry.options]\n{option} = "${{SECRET}}"\n')
        self.check({})

    def test_of_a_number(self, desk: Desk) -> None:
        desk.setenv("SECRET", "731731")
        desk.write('[registry]\nurl = "toy://h"\n[registry.options]\ncount = "${SECRET}"\n')
        with pytest.raises(InvalidURL, match="count") as caught:
            target(find_settings())
        assert "731" not in str(caught.value)

    def check(self, options: Mapping[str, Any]) -> None:
        found = find_settings()
        shown = [repr(found), repr([*found.__rich_repr__()]), repr(found.url), repr(found.options), redacted(found.url)]
        try:
            parsed = parse_target(found.url, TOY, {**found.options, **options})
            shown += [repr(parsed), str(parsed), repr(parsed.options)]
        except RegistryError as error:
            shown += [str(error), repr(error), repr(error.__cause__)]
        assert not [one for one in shown if CANARY in one]

    def test_a_copy_hides_it_as_well(self) -> None:
        text = Filled(CANARY, "${X}")
        for one in (text, copy.copy(text), copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
            assert (str(one), repr(one)) == (CANARY, "'${X}'")


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
