"""Where a registry is: the grammar of URLs, and that no secret is ever shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from declared_backend import Toys, remote, target
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters import Registry
from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import InvalidURL, RegistryError
from sofa_registry_adapters.named import find_settings
from sofa_registry_adapters.settings import parse_target, read_value, redacted, scheme_of
from sofa_registry_adapters.spi.options import Address, Option, Target

CANARY = "cAnArY-7f3"
HERE = remote(needs_host=False, bare_path=True)
FOLDER = remote(needs_host=False)


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
