"""Names of services: any text is a valid name or a clear refusal, and two names never share a record."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sofa_registry_adapters import ServiceKey
from sofa_registry_adapters.errors import InvalidArgument, InvalidName, RegistryError
from sofa_registry_adapters.model.names import MAX_LENGTH, check_text, decode_segment, encode_segment

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
texts = st.text(min_size=1, max_size=60).filter(lambda text: not CONTROL.search(text))
awkward = st.sampled_from(
    [
        "a/b",
        "..",
        ".",
        "...",
        "a b",
        "%",
        "%25",
        "%3A",
        "%3a",
        "a:b",
        ":",
        "::",
        "ß",
        "🚀",
        "a\u0301",
        "á",
        "*",
        "[x]",
        "{}",
        "\\",
        "#",
    ]
)
names = texts | awkward
keys = st.builds(ServiceKey, names, st.just("") | names, st.just("") | names)


@given(keys)
def test_the_text_form_round_trips(key: ServiceKey) -> None:
    assert ServiceKey.parse(str(key)) == key


@given(keys)
def test_the_segment_round_trips(key: ServiceKey) -> None:
    assert ServiceKey.from_segment(key.segment) == key


@given(keys, keys)
@example(ServiceKey("a", "b"), ServiceKey("a:b"))
@example(ServiceKey("a", "", "b"), ServiceKey("a", "b"))
@example(ServiceKey("a%3Ab"), ServiceKey("a:b"))
@example(ServiceKey("a"), ServiceKey("A"))
@example(ServiceKey("a\u0301"), ServiceKey("á"))
def test_two_keys_never_share_a_segment(one: ServiceKey, other: ServiceKey) -> None:
    assert (one == other) == (one.segment == other.segment)
    assert (one == other) == (str(one) == str(other))


@given(keys)
def test_a_segment_is_safe_in_a_path(key: ServiceKey) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._:%-]+", key.segment)
    assert key.segment not in {".", ".."}


@given(texts | awkward, st.sampled_from(["", ":", "/"]))
def test_encoding_is_undone_by_decoding(text: str, safe: str) -> None:
    assert decode_segment(encode_segment(text, safe)) == text


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_any_text_is_a_key_or_a_clear_refusal(text: str) -> None:
    try:
        key = ServiceKey.parse(text)
    except InvalidName as error:
        assert str(error)  # noqa: PT017  both ends are right
    else:
        assert ServiceKey.parse(str(key)) == key


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_any_segment_is_a_key_or_a_value_error(segment: str) -> None:
    try:
        key = ServiceKey.from_segment(segment)
    except ValueError:
        return
    assert key.segment == segment


@pytest.mark.parametrize("segment", ("a:b:c:d", "::::", "a:b:c:"))
def test_a_segment_with_too_many_parts_is_a_value_error(segment: str) -> None:
    with pytest.raises(ValueError, match="segment"):
        ServiceKey.from_segment(segment)


@pytest.mark.parametrize(
    "segment", ("", "%", "%4", "%zz", "%2f", "a%41", "a:", ":a", "%FF", "\ud800", "a/b", "a b", "%٣٣")
)
def test_a_segment_that_no_key_has_is_a_value_error(segment: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  which one of them does not matter
        ServiceKey.from_segment(segment)


@pytest.mark.parametrize("text", ("", ":", ":1.0", "a::b:", "a:b:c:d"))
def test_a_text_form_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        ServiceKey.parse(text)


@pytest.mark.parametrize(
    ("text", "key"),
    (
        ("a", ServiceKey("a")),
        ("a:1", ServiceKey("a", "1")),
        ("a:1:g", ServiceKey("a", "1", "g")),
        ("a::g", ServiceKey("a", "", "g")),
        ("a:", ServiceKey("a")),
        ("a%3Ab", ServiceKey("a:b")),
        ("a%3ab", ServiceKey("a:b")),
        ("100%", ServiceKey("100%")),
        ("100%20", ServiceKey("100%20")),
        ("a%253A", ServiceKey("a%3A")),
        ("com.acme.Hello:1.0", ServiceKey("com.acme.Hello", "1.0")),
    ),
)
def test_the_text_form(text: str, key: ServiceKey) -> None:
    assert ServiceKey.parse(text) == key


def test_a_key_is_parsed_as_it_is() -> None:
    key = ServiceKey("a:b")
    assert ServiceKey.parse(key) is key


@pytest.mark.parametrize("value", (None, 1, b"a", ["a"], object()))
def test_what_is_not_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidName, match=type(value).__name__):
        ServiceKey.parse(value)  # type: ignore[arg-type]
    with pytest.raises(InvalidName, match=type(value).__name__):
        check_text(value, "the name")


@pytest.mark.parametrize(
    "character", ("\x00", "\n", "\r", "\t", "\x1f", "\x7f", "\x85", "\x9f", "\u2028", "\u2029", "\ud800")
)
@pytest.mark.parametrize("field", ("name", "version", "group"))
def test_a_control_character_is_refused_and_named(character: str, field: str) -> None:
    fields = {"name": "a", "version": "1", "group": "g"} | {field: f"ab{character}c"}
    with pytest.raises(InvalidName, match="position 2") as caught:
        ServiceKey(**fields)
    # The message can be printed anywhere: what is refused is shown escaped.
    assert not CONTROL.search(str(caught.value))
    assert field.replace("name", "service name") in str(caught.value)


@pytest.mark.parametrize("character", (" ", "\xa0", "\u200b", "é", "🚀", "/", "%"))
def test_the_longest_name(character: str) -> None:
    key = ServiceKey(character * MAX_LENGTH, character * MAX_LENGTH, character * MAX_LENGTH)
    assert ServiceKey.from_segment(key.segment) == ServiceKey.parse(str(key)) == key


@pytest.mark.parametrize("length", (256, 300, 100_000))
def test_a_name_that_is_too_long_is_refused_in_few_words(length: int) -> None:
    with pytest.raises(InvalidName, match=f"{length} characters") as caught:
        ServiceKey("x" * length)
    assert len(str(caught.value)) < 200


def test_an_empty_name_is_refused_an_empty_version_is_none() -> None:
    with pytest.raises(InvalidName, match="empty"):
        ServiceKey("")
    assert ServiceKey("a", "", "").segment == "a"


@pytest.mark.parametrize(
    ("text", "segment"),
    (("a/b", "a%2Fb"), ("..", "%2E%2E"), (".", "%2E"), ("a.b", "a.b"), ("ä", "%C3%A4"), ("a:b", "a%3Ab")),
)
def test_what_a_segment_looks_like(text: str, segment: str) -> None:
    assert ServiceKey(text).segment == segment


def test_a_neighbour_is_another_segment_and_no_prefix_tells_them_apart() -> None:
    assert ServiceKey("foo").segment != ServiceKey("foobar").segment
    assert ServiceKey("a", "", "g").segment == "a::g"


def test_keys_have_an_order_and_a_hash() -> None:
    assert sorted([ServiceKey("b"), ServiceKey("a", "2"), ServiceKey("a", "1"), ServiceKey("a")]) == [
        ServiceKey("a"),
        ServiceKey("a", "1"),
        ServiceKey("a", "2"),
        ServiceKey("b"),
    ]
    assert len({ServiceKey("a"), ServiceKey("a"), ServiceKey.parse("a:")}) == 1


def test_a_refused_name_is_also_a_value_error() -> None:
    assert issubclass(InvalidName, InvalidArgument)
    assert issubclass(InvalidName, RegistryError)
    assert issubclass(InvalidName, ValueError)
