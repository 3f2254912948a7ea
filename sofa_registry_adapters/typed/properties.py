"""Java's properties, as ``java.util.Properties.load`` reads them; dots and ``[0]`` in a name nest, as Spring has it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sofa_registry_adapters.typed.bounds import Tree, Unusable, check_depth

_ENTRY = re.compile(r"((?:\\.|[^\\=: \t\f])*+)[ \t\f]*+[=:]?[ \t\f]*+(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_PART = re.compile(r"([^.\[\]]*+)((?:\[\d{1,6}\])*+)")
_BLANKS = " \t\f"

Step = str | int


def read_properties(text: str) -> Tree:
    """The entries as nested mappings; all values are text. Of a name that comes twice the last one counts. Raises `Unusable`."""
    tree: Tree = {}
    for name, value in read_entries(text).items():
        _put(tree, _steps(name), value, name)
    found = _lists(tree, "")
    assert isinstance(found, dict)  # noqa: S101  the names at the top are no numbers
    return found


def read_entries(text: str) -> dict[str, str]:
    """The entries as they are, names not taken apart. Raises `Unusable`."""
    return dict(_entries(text))


def _entries(text: str) -> Iterator[tuple[str, str]]:
    for number, line in _logical_lines(text):
        name, value = _ENTRY.findall(line)[0]
        yield _plain(name, number), _plain(value, number)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, those that are continued joined, each with its number."""
    begun: list[str] = []
    start = 0
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        stripped = line.lstrip(_BLANKS)
        if not begun:
            start = number
            if not stripped or stripped[0] in "#!":
                continue
        if (len(stripped) - len(stripped.rstrip("\\"))) % 2:
            begun.append(stripped[:-1])
            continue
        yield start, "".join((*begun, stripped))
        begun = []
    if begun:
        yield start, "".join(begun)


def _plain(text: str, number: int) -> str:
    def meant(escape: re.Match[str]) -> str:
        letter = escape[1]
        if letter[0] != "u":
            return _ESCAPED.get(letter, letter)
        if len(letter) == 1:
            raise Unusable(f"it is not properties: line {number} has \\u without four hexadecimal digits")
        return chr(int(letter[1:], 16))

    found = _ESCAPE.sub(meant, text)
    # Characters beyond the first 65 536 are written as two escapes.
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\u" in text else found


def _steps(name: str) -> list[Step]:
    """``a.b[0].c`` as its steps; a name that is not of this form is one step."""
    steps: list[Step] = []
    for part in name.split("."):
        found = _PART.fullmatch(part)
        if found is None or not found[1]:
            return [name]
        steps += [found[1], *(int(index) for index in re.findall(r"\d+", found[2]))]
        check_depth(len(steps))
    return steps


def _put(tree: Tree, steps: list[Step], value: str, name: str) -> None:
    place = tree
    for step in steps[:-1]:
        inner = place.setdefault(step, {})
        if not isinstance(inner, dict):
            raise Unusable("it is both a value and a mapping", name)
        place = inner
    if isinstance(place.get(steps[-1]), dict):
        raise Unusable("it is both a value and a mapping", name)
    place[steps[-1]] = value


def _lists(value: object, name: str) -> object:
    """Mappings of numbers as lists."""
    if not isinstance(value, dict):
        return value
    inner = {step: _lists(one, f"{name}.{step}".lstrip(".")) for step, one in value.items()}
    numbers = [step for step in inner if isinstance(step, int)]
    if not numbers:
        return inner
    if len(numbers) < len(inner):
        raise Unusable("it is both a list and a mapping", name)
    if max(numbers) != len(numbers) - 1:
        raise Unusable("the numbers of its entries have gaps", name)
    return [inner[number] for number in range(len(numbers))]
