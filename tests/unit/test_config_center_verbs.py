"""The verbs of a config center: conflicts, rollbacks, time-outs, what is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
import pytest
from scripted_center import KEY, Product, center, item, name

from sofa_registry_adapters import ABSENT, ConfigCenter, ConfigChange, Registry
from sofa_registry_adapters.engine.config_core import Revisions
from sofa_registry_adapters.errors import Conflict, Denied, InvalidArgument, Unsupported
from sofa_registry_adapters.events import ConfigChanged, ListenerFailed
from sofa_registry_adapters.spi.config import ConfigDraft
from sofa_registry_adapters.spi.hooks import hookimpl
from sofa_registry_adapters.spi.options import BackendType
from sofa_registry_adapters.testing.faults import eventually

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["name"]


class TestVerbs:
    def test_revisions_have_the_product_in_front_and_the_backend_sees_them_bare(self) -> None:
        product = Product()
        product.backend.found = item("1")
        with product.center() as config:
            assert config.publish(KEY, "x") == "scripted:fresh"
            config.publish(KEY, "x", expected_revision=ABSENT)
            config.publish(KEY, "x", expected_revision="scripted:1")
            config.remove(KEY, expected_revision="scripted:2")
            assert product.backend.expected == [None, ABSENT, "1", "2"]
            assert config.get(KEY) == item("1", "scripted:1")
            assert [one.revision for one in config.history(KEY, limit=2)] == ["scripted:c", "scripted:b"]
            product.backend.conflict = Conflict("it is at 7, not at 1", expected="1", present="7")
            with pytest.raises(Conflict) as caught:
                config.publish(KEY, "x", expected_revision="scripted:1")
            assert (caught.value.expected, caught.value.present) == ("scripted:1", "scripted:7")
            for wrong in ("redis:1", "1", "", "scripted:"):
                with pytest.raises(InvalidArgument, match="no revision of this config center"):
                    config.publish(KEY, "x", expected_revision=wrong)

    def test_a_conflict_keeps_its_words(self) -> None:
        error = Revisions("redis").conflict(
            Conflict("k is at 3-ab, and was expected at 2-ab", expected="2-ab", present="3-ab")
        )
        assert str(error) == "k is at redis:3-ab, and was expected at redis:2-ab"
        assert (Revisions("redis").conflict(Conflict("absent", expected="2-ab")).present) is None

    def test_a_rollback_replaces_what_was_looked_at(self) -> None:
        product = Product()
        product.backend.found = item("c")
        with product.center() as config:
            config.rollback(KEY)
            assert (product.backend.drafts[-1].content, product.backend.expected[-1]) == ("b", "c")
            config.rollback(KEY, "scripted:a")
            assert (product.backend.drafts[-1].content, product.backend.expected[-1]) == ("a", None)
            config.rollback(KEY, "scripted:a", expected_revision="scripted:c")
            assert product.backend.expected[-1] == "c"
            product.backend.found = None
            config.rollback(KEY)
            assert (product.backend.drafts[-1].content, product.backend.expected[-1]) == ("c", ABSENT)

    def test_who_publishes_is_said(self) -> None:
        product = Product()
        with product.center() as config:
            config.publish(KEY, "x")
        author = product.backend.drafts[0].author
        assert author.endswith(f":{os.getpid()}")
        assert "@" in author

    def test_a_name_that_is_no_text_is_no_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOGNAME", "\udcff\udcfe")
        product = Product()
        with product.center() as config:
            config.publish(KEY, "x")
        assert product.backend.drafts[0].author.startswith("??@")

    def test_a_listener_that_fails_is_named(self, name: str) -> None:
        class Callable:
            def __repr__(self) -> str:
                return "<a callable>"

            def __call__(self, change: ConfigChange) -> None:
                raise ValueError

        failed: list[ListenerFailed] = []
        with center(name) as config:
            config.events.on(ListenerFailed, failed.append)
            config.add_listener(KEY, Callable())
            config.add_listener(KEY, [].index)
            eventually(lambda: len(failed) == 2)
        assert [one.listener for one in failed] == ["<a callable>", "list.index"]

    def test_text_only(self) -> None:
        product = Product(binary_config=False, max_config_bytes=5)
        with product.center() as config:
            for content in (b"x", b"\xff"):
                with pytest.raises(InvalidArgument, match="keeps text only"):
                    config.publish(KEY, content)
            with pytest.raises(InvalidArgument, match="6 bytes, and alias:// takes 5 at most"):
                config.publish(KEY, "123456")
            assert not product.backend.drafts
            assert config.capabilities.max_config_bytes == 5

    def test_no_content_in_a_repr(self) -> None:
        secret = item("s3cret")
        shown = (
            secret,
            ConfigChange(KEY, secret, secret),
            ConfigChanged(ConfigChange(KEY, secret)),
            ConfigDraft("s3cret"),
        )
        assert all("s3cret" not in repr(one).replace("s3cret 6", "").replace("6 bytes s3cret", "") for one in shown)
        assert "6 bytes" in repr(secret)

    def test_a_registry_without_configuration_says_so(self) -> None:
        class Without:
            @hookimpl
            def sofa_registry_backends(self) -> Sequence[BackendType]:
                return [msgspec.structs.replace(Product().sofa_registry_backends()[0], load_config=None)]

        with pytest.raises(Unsupported, match="name another config center"):
            ConfigCenter("scripted://", plugins=[Without()]).open()

    def test_a_registry_and_a_center_share_a_place_and_no_names(self, name: str) -> None:
        with center(name) as config, Registry(f"memory://{name}") as registry:
            config.publish("com.acme.Hello", "x", group="services")
            registry.publish("com.acme.Hello", "h:1")
            assert [str(one) for one in registry.services()] == ["com.acme.Hello"]
            assert config.keys(group="services") == ["com.acme.Hello"]
            assert len(registry.lookup("com.acme.Hello")) == 1

    def test_what_is_refused_at_opening_is_raised_at_once(self) -> None:
        product = Product()
        product.backend.opening = Denied("wrong password")
        with product.center() as config:
            for verb in (lambda: config.get(KEY), lambda: config.publish(KEY, "x"), lambda: config.watch(KEY)):
                with pytest.raises(Denied, match="wrong password"):
                    verb()

    def test_a_denied_key_is_raised_and_not_served_from_what_is_known(self) -> None:
        product = Product()
        product.backend.found = item("1")
        with product.center() as config:
            config.add_listener(KEY, print)
            product.backend.found = Denied("not this key")
            with pytest.raises(Denied, match="not this key"):
                config.get(KEY)
