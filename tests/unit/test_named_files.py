"""Files that are wrong are named, and the place in them, too."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from named_desk import Desk, desk

from sofa_registry_adapters.errors import InvalidURL
from sofa_registry_adapters.named import (
    DEFAULT_URL,
    FILE_NAME,
    FILE_VARIABLE,
    LARGEST_FILE,
    find_config_settings,
    find_settings,
)

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["desk"]


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
