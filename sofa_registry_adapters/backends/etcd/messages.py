"""The messages of etcd's protocol, from the package etcd3, beside any protobuf in process.

The modules that etcd3 0.12 generated in 2020 raise TypeError with protobuf 4 and later. What they describe is still
right, so it is read from their text, without running them, into a descriptor pool of its own: other packages
with a ``kv.proto`` are not in the way. The classes take the place of those modules, so ``import etcd3`` works as well.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

from sofa_registry_adapters.errors import MissingDependency

_PACKAGE = "etcd3.etcdrpc"
_MODULES = ("kv_pb2", "auth_pb2", "rpc_pb2")
"""In the order in which they need each other."""
_FIELD = descriptor_pb2.FieldDescriptorProto
_SINCE = (("WatchCreateRequest", "fragment", 8), ("WatchResponse", "fragment", 7))
"""Flags that etcd 3.4 added after etcd3 was made: message, field, number."""

_SERIALIZED = re.compile(r"""serialized_pb=(?:_b\()?(b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*")\s*[),]""")
"""The one literal that nearly every generated module has; others are parsed."""

Message = Any
"""A message: its class is made at run time."""


class Call(NamedTuple):
    """A procedure of the server: its path, and how its messages become bytes and are made of bytes."""

    path: str
    request: Callable[[Message], bytes]
    response: Callable[[bytes], Message]


def _folder() -> Path:
    found = importlib.util.find_spec("etcd3")
    if found is None:
        raise ModuleNotFoundError("No module named 'etcd3'", name="etcd3")
    for place in found.submodule_search_locations or ():
        folder = Path(place, "etcdrpc")
        if (folder / "rpc_pb2.py").is_file():
            return folder
    raise MissingDependency(
        "the module etcd3 of this environment is not that of the package etcd3, but perhaps of etcd3-py: "
        "uninstall that one, then pip install --force-reinstall etcd3"
    )


def _described(file: Path) -> bytes:
    """The serialized description in a generated module, which is not run."""
    text = file.read_text(encoding="utf-8")
    if (found := _SERIALIZED.search(text)) is not None:
        # Parsing the whole of it takes half of the time that it takes to import everything here.
        written = ast.literal_eval(found[1])
        return written if isinstance(written, bytes) else str(written).encode("latin-1")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
            # _b('…'), where _b encodes it as latin-1.
            literal = node.value.args[0] if isinstance(node.value, ast.Call) else node.value
            value = ast.literal_eval(literal)
            return value if isinstance(value, bytes) else str(value).encode("latin-1")
    raise MissingDependency(f"{file} describes no messages: pip install --force-reinstall 'etcd3==0.12.0'")


def _amend(file: Any) -> None:
    messages = {message.name: message for message in file.message_type}
    for name, field, number in _SINCE:
        if name in messages and all(one.number != number for one in messages[name].field):
            messages[name].field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_BOOL)


def _module(name: str, described: Any) -> ModuleType:
    """The module that the generated one should have been."""
    module = ModuleType(name)
    content: dict[str, Any] = {"DESCRIPTOR": described}
    for message, descriptor in described.message_types_by_name.items():
        content[message] = message_factory.GetMessageClass(descriptor)
    for enum, descriptor in described.enum_types_by_name.items():
        content[enum] = enum_type_wrapper.EnumTypeWrapper(descriptor)
        content.update((value.name, value.number) for value in descriptor.values)
    vars(module).update(content)
    return module


def _build() -> dict[str, ModuleType]:
    folder, pool = _folder(), descriptor_pool.DescriptorPool()
    modules = {}
    for name in _MODULES:
        file = descriptor_pb2.FileDescriptorProto.FromString(_described(folder / f"{name}.py"))
        _amend(file)
        pool.AddSerializedFile(file.SerializeToString())
        modules[name] = _module(f"{_PACKAGE}.{name}", pool.FindFileByName(file.name))
    return modules


_built = _build()
kv: Any = _built["kv_pb2"]
rpc: Any = _built["rpc_pb2"]

for _name, _built_module in _built.items():
    # Whoever imported etcd3 before us, with a protobuf that lets it, keeps what it has.
    sys.modules.setdefault(f"{_PACKAGE}.{_name}", _built_module)


def call(service: str, name: str) -> Call:
    """A procedure of the server, by the names of its service and its own."""
    method = rpc.DESCRIPTOR.services_by_name[service].methods_by_name[name]
    request, response = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    path = f"/{method.containing_service.full_name}/{name}"
    return Call(path, request.SerializeToString, response.FromString)
