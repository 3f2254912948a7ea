"""From text to mappings: what is read, what is refused and how cheaply, and that no refusal shows content."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_registry_adapters.errors import MissingDependency
from sofa_registry_adapters.typed import yaml_text
from sofa_registry_adapters.typed.bounds import MAX_DEPTH, MAX_LENGTH, MAX_NODES, Unusable
from sofa_registry_adapters.typed.formats import Format, check_syntax, format_of, parse
from sofa_registry_adapters.typed.merging import holder, merged

SECRET = "hunter2"


@pytest.fixture(params=("compiled", "python"))
def yaml_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both of PyYAML's loaders: the compiled one is not in every build."""
    if request.param == "python":
        monkeypatch.setattr(yaml_text, "_base", lambda yaml: yaml.SafeLoader)
    yaml_text._loader.cache_clear()
    yield
    yaml_text._loader.cache_clear()


def refused(text: str | bytes, kind: Format) -> Unusable:
    with pytest.raises(Unusable) as caught:
        parse(text, kind)
    assert SECRET not in str(caught.value)
    return caught.value


class TestWhichFormat:
    @pytest.mark.parametrize(
        ("key", "content_type", "expected"),
        (
            ("app.yaml", "", "yaml"),
            ("app.YML", "", "yaml"),
            ("app.toml", "text", "toml"),
            ("app.json", "text/plain; charset=utf-8", "json"),
            ("app.properties", "application/octet-stream", "properties"),
            ("app.properties", "yaml", "yaml"),
            ("app", "application/yaml", "yaml"),
            ("app", "application/x-yaml", "yaml"),
            ("app", "JSON", "json"),
            ("app", "application/json; charset=utf-8", "json"),
            ("app", "text/x-java-properties", "properties"),
        ),
    )
    def test_by_the_content_type_and_else_by_the_ending(self, key: str, content_type: str, expected: str) -> None:
        assert format_of(key, content_type) == expected

    @pytest.mark.parametrize(("key", "content_type"), (("app", ""), ("yaml", "text"), ("app.yaml", "xml"), ("a.b", "")))
    def test_what_says_nothing_is_refused(self, key: str, content_type: str) -> None:
        with pytest.raises(Unusable, match="content type"):
            format_of(key, content_type)


class TestReading:
    @pytest.mark.parametrize(
        ("kind", "text"),
        (
            ("yaml", "pool: {size: 10}\nhosts: [a, b]\nname: ä"),
            ("toml", 'hosts = ["a", "b"]\nname = "ä"\n[pool]\nsize = 10'),
            ("json", '{"pool": {"size": 10}, "hosts": ["a", "b"], "name": "ä"}'),
        ),
    )
    def test_the_same_in_each(self, kind: Format, text: str) -> None:
        expected = {"pool": {"size": 10}, "hosts": ["a", "b"], "name": "ä"}
        assert parse(text, kind) == expected
        assert parse(text.encode(), kind) == expected
        assert parse(text.encode("utf-8-sig"), kind) == expected, "with a byte order mark"

    @pytest.mark.parametrize(
        ("kind", "text"), (("yaml", ""), ("yaml", "# nothing\n"), ("toml", ""), ("properties", ""))
    )
    def test_nothing_is_an_empty_mapping(self, kind: Format, text: str) -> None:
        assert parse(text, kind) == {}

    @pytest.mark.usefixtures("yaml_loader")
    def test_yaml_has_aliases_merges_and_times(self) -> None:
        text = "base: &b {size: 1, name: x}\npool:\n  <<: *b\n  size: 2\nday: 2026-01-31\nsame: [*b, *b]\nnumber: 0x10"
        base = {"size": 1, "name": "x"}
        assert parse(text, "yaml") == {
            "base": base,
            "pool": {"size": 2, "name": "x"},
            "day": dt.date(2026, 1, 31),
            "same": [base, base],
            "number": 16,
        }

    @pytest.mark.parametrize(
        ("text", "expected"),
        (
            ("a=1\nb: 2\nc 3\nd", {"a": "1", "b": "2", "c": "3", "d": ""}),
            ("  a = 1 ", {"a": "1 "}),
            ("# c\n! c\n\n   # c\na=1", {"a": "1"}),
            ("a=1\\\n   ,2\\\n\t,3\nb=4", {"a": "1,2,3", "b": "4"}),
            ("a=1\\\\\nb=2", {"a": "1\\", "b": "2"}),
            ("a=1\\", {"a": "1"}),
            ("a\\=b\\:c\\ d=x=y:z", {"a=b:c d": "x=y:z"}),
            ("a=\\u00e4\\t\\n\\q", {"a": "ä\t\nq"}),
            ("a=\\ud83d\\ude00", {"a": "😀"}),
            ("a=\\ud83d", {"a": "\ufffd"}),
            ("a=1\r\nb=2\rc=3", {"a": "1", "b": "2", "c": "3"}),
            ("a=1\na=2", {"a": "2"}),
            ("pool.size=1\npool.max.idle=2", {"pool": {"size": "1", "max": {"idle": "2"}}}),
            ("h[1]=b\nh[0]=a", {"h": ["a", "b"]}),
            ("h[0].port=1\nh[1].port=2\nm[0][0]=x", {"h": [{"port": "1"}, {"port": "2"}], "m": [["x"]]}),
            ("a..b=1\n.c=2\nd[x]=3\n[0]=4", {"a..b": "1", ".c": "2", "d[x]": "3", "[0]": "4"}),
            ("=1", {"": "1"}),
        ),
    )
    def test_properties(self, text: str, expected: dict[str, Any]) -> None:
        assert parse(text, "properties") == expected

    @pytest.mark.parametrize(
        ("text", "field"),
        (
            (f"pool={SECRET}\npool.size=1", "pool.size"),
            (f"pool.size=1\npool={SECRET}", "pool"),
            (f"a.h[0]={SECRET}\na.h.x=1", "a.h"),
            (f"a.h[1]={SECRET}", "a.h"),
            (f"{SECRET}=1\na=\\u12", ""),
        ),
    )
    def test_properties_that_contradict_themselves(self, text: str, field: str) -> None:
        assert refused(text, "properties").field == field


names = st.text(st.characters(exclude_characters=".[]", exclude_categories=("Cs",)), min_size=1, max_size=6)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
nested = st.recursive(
    st.dictionaries(names, texts, min_size=1, max_size=4),
    lambda inner: st.dictionaries(names, inner | texts | st.lists(inner | texts, min_size=1, max_size=3), min_size=1),
    max_leaves=12,
)


def written(tree: dict[str, Any], spacing: str) -> str:
    """As properties; ``spacing`` stands between a name and its value."""

    def entries(value: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for one, inner in value.items():
                yield from entries(inner, f"{name}.{one}" if name else one)
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                yield from entries(inner, f"{name}[{number}]")
        else:
            yield name, value

    def escaped(text: str) -> str:
        units = text.encode("utf-16-be")
        return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))

    return "\n".join(f"{escaped(name)}{spacing}{escaped(value)}" for name, value in entries(tree, ""))


class TestPropertiesAtLarge:
    @given(nested, st.sampled_from(("=", " = ", ":", " ", "\t:\t")))
    def test_what_is_written_is_read(self, tree: dict[str, Any], spacing: str) -> None:
        assert parse(written(tree, spacing), "properties") == tree

    @given(st.text(max_size=200))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        for kind in ("properties", "toml", "json", "yaml"):
            with contextlib.suppress(Unusable):
                assert isinstance(parse(text, kind), dict)

    @given(st.text("ab.=:[]0\\\n #u", max_size=60))
    def test_text_that_looks_like_properties(self, text: str) -> None:
        try:
            tree = parse(text, "properties")
        except Unusable:
            return
        leaves = list(written(tree, "=").splitlines())
        assert len(leaves) <= text.count("\n") + 1


trees = st.recursive(
    st.dictionaries(
        st.sampled_from("abc"), st.integers() | st.none() | st.lists(st.integers(), max_size=2), max_size=3
    ),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers(), max_size=3),
    max_leaves=10,
)


def laid(under: Any, over: Any) -> Any:
    """What merging means, said once more."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    kept = {name: under[name] for name in under.keys() - over.keys()}
    return kept | {name: laid(under[name], value) if name in under else value for name, value in over.items()}


def containers(value: Any) -> Iterator[int]:
    if isinstance(value, dict | list):
        yield id(value)
        for one in value.values() if isinstance(value, dict) else value:
            yield from containers(one)


class TestMerging:
    @given(st.lists(trees, max_size=4))
    def test_later_ones_override_earlier_ones(self, several: list[dict[str, Any]]) -> None:
        before = copy.deepcopy(several)
        expected: Any = {}
        for one in several:
            expected = laid(expected, one)
        result = merged(several)
        assert result == expected
        assert several == before, "nothing that was merged is changed"
        assert not set(containers(result)) & {one for tree in several for one in containers(tree)}, "nothing is shared"

    @given(trees)
    def test_one_is_itself_and_twice_is_once(self, tree: dict[str, Any]) -> None:
        assert merged([tree]) == merged([tree, tree]) == merged([tree, {}]) == merged([{}, tree]) == tree

    @pytest.mark.parametrize(
        ("field", "expected"),
        (
            ("pool.size", 0),
            ("pool.name", 2),
            ("hosts[1].port", 0),
            ("hosts[0].port", 2),
            ("pool.missing", 1),
            ("elsewhere", 1),
            ("", 1),
        ),
    )
    def test_who_holds_a_field(self, field: str, expected: int) -> None:
        several: list[dict[str, Any]] = [
            {"pool": {"size": 1, "name": "a"}, "hosts": [{"port": 1}, {"port": 2}]},
            {"pool": {"idle": 1}},
            {"pool": {"name": "b"}, "hosts": [{"port": 3}]},
        ]
        assert holder(field, several, 1) == expected


HOSTILE: dict[str, tuple[Format, str]] = {
    "aliases of aliases": (
        "yaml",
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
    ),
    "merges of merges": (
        "yaml",
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
    ),
    "an alias of itself": ("yaml", "a: &a [*a]"),
    "deep lists": ("yaml", "a: " + "[" * 100_000),
    "deep blocks": ("yaml", "- " * 100_000),
    "deep mappings": ("yaml", "{a: " * 100_000),
    "many values": ("yaml", "a: [" + ",".join(["1"] * 400_000) + "]"),
    "base 60": ("yaml", "a: " + ":".join(["1"] * 400_000)),
    "many digits": ("yaml", "a: " + "9" * 900_000),
    "keys that collide": ("yaml", "\n".join(f"{n * (2**61 - 1)}: 1" for n in range(10_000))),
    "two documents": ("yaml", "a: 1\n--- \na: 2"),
    "an object": ("yaml", "a: !!python/object/apply:os.system [ls]"),
    "an empty number": ("yaml", 'a: !!int ""'),
    "dotted names": ("toml", ".".join("a" * 400_000) + " = 1"),
    "dotted names, inside": ("toml", "a = {" + ".".join(['"a"'] * 200_000) + " = 1}"),
    "dotted names with blanks": ("toml", " . ".join("a" * 200_000) + " = 1"),
    "quotes without an end": ("toml", '"\\"' * 300_000),
    "deep arrays": ("toml", "a = " + "[" * 100_000),
    "many tables": ("toml", "\n".join(f"[t{n}]" for n in range(60_000))),
    "a long number": ("toml", "a = " + "9" * 900_000),
    "deep": ("json", "[" * 400_000),
    "deeper than allowed": ("json", '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1)),
    "many": ("json", '{"a": [' + ",".join(["1"] * 400_000) + "]}"),
    "digits": ("json", '{"a": ' + "9" * 900_000 + "}"),
    "steps": ("properties", ".".join("a" * 400_000) + "=1"),
    "indexes": ("properties", "a" + "[0]" * 300_000 + "=1"),
    "a gap": ("properties", "a[99999]=1"),
    "entries": ("properties", "\n".join(f"a{n}=1" for n in range(MAX_NODES + 1))),
    "length": ("json", '{"a": "' + "x" * MAX_LENGTH + '"}'),
}


class TestHostileInput:
    @pytest.mark.usefixtures("yaml_loader")
    @pytest.mark.parametrize("name", HOSTILE)
    def test_it_is_refused_at_little_cost(self, name: str) -> None:
        kind, text = HOSTILE[name]
        began = time.process_time()
        refused(text, kind)
        # Without the bounds each would take from ten seconds to for ever, or all memory.
        assert time.process_time() - began < 10.0

    def test_what_is_within_the_bounds_is_read(self) -> None:
        deep = '{"a":' * (MAX_DEPTH - 1) + "{}" + "}" * (MAX_DEPTH - 1)
        assert parse(deep, "json")
        assert len(parse("\n".join(f"a{n}=1" for n in range(MAX_NODES - 1)), "properties")) == MAX_NODES - 1
        assert parse("\n".join(f"d{n} = '{'a.' * 200}' # {'b.' * 200}" for n in range(100)), "toml")
        many = "a: &a [1, 2, 3]\nb: [" + ",".join(["*a"] * 10_000) + "]"
        assert len(parse(many, "yaml")["b"]) == 10_000

    @pytest.mark.usefixtures("yaml_loader")
    @pytest.mark.parametrize(
        ("kind", "text"),
        (
            ("yaml", f"password: *{SECRET}"),
            ("yaml", f"password: !{SECRET}"),
            ("yaml", f"password: !!float {SECRET}"),
            ("yaml", f"a: [{SECRET}"),
            ("yaml", f"a: '{SECRET}"),
            ("yaml", f"a: @{SECRET}"),
            ("yaml", f"a: {SECRET}: {SECRET}"),
            ("yaml", f"a: {SECRET}\0"),
            ("yaml", f"- {SECRET}"),
            ("yaml", f"%{SECRET} 1\n--- a"),
            ("toml", f"password = {SECRET}"),
            ("toml", f"a = '{SECRET}"),
            ("toml", f"a = '''{SECRET}"),
            ("toml", f"a = 1979-{SECRET}"),
            ("toml", f'a = "\\{SECRET}"'),
            ("json", f'{{"password": {SECRET}}}'),
            ("json", f'"{SECRET}"'),
            ("json", f"{SECRET}"),
        ),
    )
    def test_no_refusal_shows_content(self, kind: Format, text: str) -> None:
        refused(text, kind)

    def test_where_it_is_wrong_is_said(self) -> None:
        assert "line 3" in str(refused("a: 1\nb: 2\nc: ]", "yaml"))
        assert "expected ',' or ']'" in str(refused("a: [1", "yaml"))
        assert "line 2" in str(refused("a: 1\nday: 2026-13-01", "yaml"))
        assert "line 2" in str(refused("a = 1\nb = x", "toml"))
        assert "byte 6" in str(refused('{"a": x}', "json"))
        assert "byte 2" in str(refused(b"a=\xff", "properties"))

    def test_the_top_is_a_mapping(self) -> None:
        for kind, text in (("yaml", "[1]"), ("yaml", "x"), ("json", "[]"), ("json", "null")):
            assert "mapping" in str(refused(text, kind))  # type: ignore[arg-type]


class TestWithoutPyYAML:
    @pytest.fixture(autouse=True)
    def _without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)

    def test_yaml_says_what_to_install(self) -> None:
        with pytest.raises(MissingDependency, match=r"pip install 'sofa-registry-adapters\[yaml\]'"):
            parse("a: 1", "yaml")

    def test_the_others_are_read_and_yaml_is_not_checked(self) -> None:
        assert parse('{"a": 1}', "json") == {"a": 1}
        check_syntax("a: [", "yaml")


class TestSyntax:
    @pytest.mark.parametrize(
        ("content_type", "good", "bad"),
        (
            ("json", "[1]", "[1"),
            ("application/json", "1", "x"),
            ("toml", "a = 1", "a = x"),
            ("yaml", "a: 1\n---\n!tag b", "a: [1"),
            ("properties", "pool=1\npool.size=2\\u0031", "a=\\uxyz1"),
        ),
    )
    def test_what_is_not_what_it_is_declared_to_be(self, content_type: str, good: str, bad: str) -> None:
        check_syntax(good, content_type)
        with pytest.raises(Unusable):
            check_syntax(bad, content_type)

    @pytest.mark.parametrize("content_type", ("", "text", "xml", "text/html"))
    def test_what_is_not_known_is_not_looked_at(self, content_type: str) -> None:
        check_syntax("a: [", content_type)

    def test_large_json_is_good_json(self) -> None:
        check_syntax(json.dumps(list(range(MAX_LENGTH // 4))), "json")
