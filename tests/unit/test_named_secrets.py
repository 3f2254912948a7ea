"""Secrets by reference, and nothing of them is shown."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from named_desk import CANARY, HARD, Desk, desk

from sofa_registry_adapters import Registry
from sofa_registry_adapters.errors import InvalidURL, RegistryError
from sofa_registry_adapters.named import FILE_VARIABLE, URL_VARIABLE, Settings, find_settings
from sofa_registry_adapters.references import LONGEST, Place, fill, fill_url, literal_password
from sofa_registry_adapters.settings import Filled, parse_target, redacted
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["desk"]


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


def target(found: Settings) -> Target:
    return parse_target(found.url, TOY, found.options)


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
