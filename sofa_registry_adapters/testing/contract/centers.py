"""What the contract of configuration is made with: centers that are closed afterwards, driven alike in both faces."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

import sofa_registry_adapters
from sofa_registry_adapters.config import AsyncConfigCenter, ConfigCenter
from sofa_registry_adapters.handles import ConfigSubscription
from sofa_registry_adapters.model.config import DEFAULT_GROUP, Absent, ConfigChange, ConfigItem
from sofa_registry_adapters.spi.options import Capabilities, Value
from sofa_registry_adapters.testing.applicability import not_applicable
from sofa_registry_adapters.testing.contract.clients import Application, Driver, FaceName, Loop
from sofa_registry_adapters.testing.faults import PythonProcess, python_process

KEY = "pool.yaml"
Listener = Callable[[ConfigChange], object]


class Center(Driver):
    """A ConfigCenter or an AsyncConfigCenter; the verbs block either way."""

    def __init__(self, center: ConfigCenter | AsyncConfigCenter, application: Application | None) -> None:
        super().__init__(center, application)
        self.center = center

    def get(self, key: str = KEY, *, group: str = DEFAULT_GROUP, timeout: float = 5.0) -> ConfigItem | None:
        """See `ConfigCenter.get`."""
        item: ConfigItem | None = self.do(lambda: self.center.get(key, group=group, timeout=timeout))
        return item

    def content(self, key: str = KEY, *, group: str = DEFAULT_GROUP) -> str | bytes | None:
        """What `get` finds."""
        item = self.get(key, group=group)
        return None if item is None else item.content

    def publish(
        self,
        key: str,
        content: str | bytes,
        *,
        group: str = DEFAULT_GROUP,
        content_type: str = "",
        expected: str | Absent | None = None,
        timeout: float = 5.0,
    ) -> str:
        """See `ConfigCenter.publish`."""
        revision: str = self.do(
            lambda: self.center.publish(
                key, content, group=group, content_type=content_type, expected_revision=expected, timeout=timeout
            )
        )
        return revision

    def remove(self, key: str = KEY, *, group: str = DEFAULT_GROUP, expected: str | None = None) -> bool:
        """See `ConfigCenter.remove`."""
        there: bool = self.do(lambda: self.center.remove(key, group=group, expected_revision=expected))
        return there

    def add_listener(
        self,
        key: str,
        listener: Listener,
        *,
        group: str = DEFAULT_GROUP,
        required: bool = True,
        timeout: float = 5.0,
    ) -> ConfigSubscription:
        """See `ConfigCenter.add_listener`."""
        place: ConfigSubscription = self.do(
            lambda: self.center.add_listener(key, listener, group=group, required=required, timeout=timeout)
        )
        return place

    def recorder(self, key: str = KEY, *, group: str = DEFAULT_GROUP, required: bool = True) -> ConfigRecorder:
        """What a listener of the key is told from now on."""
        recorder = ConfigRecorder()
        self.add_listener(key, recorder, group=group, required=required)
        return recorder

    def watch(self, key: str = KEY, *, group: str = DEFAULT_GROUP) -> Loop[ConfigChange]:
        """See `ConfigCenter.watch`."""
        return Loop(self, self.do(lambda: self.center.watch(key, group=group)))

    def keys(self, *, group: str = DEFAULT_GROUP) -> Sequence[str]:
        """See `ConfigCenter.keys`."""
        found: Sequence[str] = self.do(lambda: self.center.keys(group=group))
        return found

    def history(self, key: str = KEY, *, limit: int = 20) -> Sequence[ConfigItem]:
        """See `ConfigCenter.history`."""
        found: Sequence[ConfigItem] = self.do(lambda: self.center.history(key, limit=limit))
        return found

    def rollback(self, key: str = KEY, revision: str | None = None, *, expected: str | Absent | None = None) -> str:
        """See `ConfigCenter.rollback`."""
        fresh: str = self.do(lambda: self.center.rollback(key, revision, expected_revision=expected))
        return fresh


class ConfigRecorder:
    """A listener that keeps what it was told."""

    def __init__(self) -> None:
        self.changes: list[ConfigChange] = []
        self.threads: list[threading.Thread] = []
        self.overlaps: int = 0
        self._inside = 0

    def __call__(self, change: ConfigChange) -> None:
        self._inside += 1
        self.overlaps += self._inside > 1
        self.threads.append(threading.current_thread())
        self.changes.append(change)
        self._inside -= 1

    @property
    def item(self) -> ConfigItem | None:
        """The latest value."""
        return self.changes[-1].item if self.changes else None

    @property
    def content(self) -> str | bytes | None:
        """What the latest value says."""
        return None if self.item is None else self.item.content

    @property
    def contents(self) -> list[str | bytes | None]:
        """What each value said."""
        return [None if change.item is None else change.item.content for change in self.changes]

    @property
    def consistent(self) -> bool:
        """Whether each step began where the one before ended, one call at a time."""
        steps = zip(self.changes, self.changes[1:], strict=False)
        return not self.overlaps and all(before.item == after.previous for before, after in steps)


class Plan(msgspec.Struct, frozen=True):
    """What a child process does: see `sofa_registry_adapters.testing.configurer`."""

    mode: str
    url: str
    options: dict[str, str | int | float | bool | None]
    key: str = KEY
    rounds: int = 0


class Centers:
    """Makes the config centers of one test, all in one namespace that no other test uses, and closes them."""

    def __init__(self, url: str, options: Mapping[str, Value]) -> None:
        self.url = url
        self._options: dict[str, Value] = {"snapshot": "off", **options}
        self._closing = contextlib.ExitStack()
        self.capabilities: Capabilities = ConfigCenter(url, options=self._options).capabilities

    @property
    def largest(self) -> int:
        """Bytes of the largest value."""
        return self.capabilities.max_config_bytes or self.capabilities.max_value_bytes

    def open(self, face: FaceName = "blocking", **options: Value) -> Center:
        """A new center of this face, ready for use."""
        if face == "blocking":
            center = Center(self.fresh(**options), None)
        else:
            application = Application()
            self._closing.callback(application.close)
            center = Center(AsyncConfigCenter(self.url, options=self._options | options), application)
        self._closing.callback(center.close)
        return center

    def fresh(self, **options: Value) -> ConfigCenter:
        """A new blocking center, which the test closes itself."""
        return ConfigCenter(self.url, options=self._options | options)

    def coroutine(self, **options: Value) -> AsyncConfigCenter:
        """A new async center, which the test closes itself."""
        return AsyncConfigCenter(self.url, options=self._options | options)

    def child(self, mode: str, key: str = KEY, rounds: int = 0) -> PythonProcess:
        """A process of its own that does what the mode says; see `configurer`."""
        plan = Plan(mode, self.url, self._options, key, rounds)
        package = str(Path(sofa_registry_adapters.__file__).parent.parent)
        places = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        arguments = ["-m", "sofa_registry_adapters.testing.configurer", msgspec.json.encode(plan).decode()]
        return self._closing.enter_context(python_process(arguments, {"PYTHONPATH": places}))

    def needs_binary(self) -> None:
        """Skip the test where a value is always text."""
        if not self.capabilities.binary_config:
            not_applicable("the config center declares binary_config=False: a value is text")

    def needs_keys(self) -> None:
        """Skip the test where keys cannot be listed."""
        if not self.capabilities.list_services:
            not_applicable("the config center declares list_services=False: it cannot list its keys")

    def needs_processes(self) -> None:
        """Skip the test where other processes cannot see the center."""
        if not self.capabilities.shared:
            not_applicable("the config center declares shared=False: another process cannot see it")

    def close(self) -> None:
        """Close all of them, in the opposite order."""
        self._closing.close()


def increment(center: ConfigCenter, key: str, rounds: int) -> int:
    """Count up by comparing and setting, so often; how often another was faster."""
    from sofa_registry_adapters.errors import Conflict
    from sofa_registry_adapters.model.config import ABSENT

    conflicts = done = 0
    while done < rounds:
        item = center.get(key)
        number = int(item.text) if item is not None else 0
        try:
            center.publish(key, str(number + 1), expected_revision=item.revision if item is not None else ABSENT)
        except Conflict:
            conflicts += 1
            time.sleep(0)
        else:
            done += 1
    return conflicts
