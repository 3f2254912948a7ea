"""Configuration values that are shared, watched and never lost: `ConfigCenter` blocks, `AsyncConfigCenter` does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sofa_registry_adapters.bound import AsyncBound, Bound, Source, layers_of
from sofa_registry_adapters.errors import InvalidArgument, ValueTooLarge
from sofa_registry_adapters.face import (
    TIMEOUT,
    AsyncFace,
    BlockingFace,
    Face,
    await_call,
    check_timeout,
    listen,
    listen_async,
)
from sofa_registry_adapters.handles import (
    AsyncConfigSubscription,
    AsyncConfigWatch,
    ConfigSubscription,
    ConfigWatch,
)
from sofa_registry_adapters.model.config import DEFAULT_GROUP, Absent, ConfigChange, ConfigItem, ConfigKey
from sofa_registry_adapters.model.names import check_text
from sofa_registry_adapters.named import Settings, find_config_settings
from sofa_registry_adapters.spi.config import ConfigDraft
from sofa_registry_adapters.spi.options import Capabilities

if TYPE_CHECKING:
    from sofa_registry_adapters.engine.config_core import ConfigEngine

T = TypeVar("T")
Key = str | ConfigKey
HISTORY_LIMIT = 20
_LONGEST_TYPE = 64


class _ConfigFace(Face["ConfigEngine"]):
    """What both faces of a config center share."""

    _what = "config center"

    @property
    def capabilities(self) -> Capabilities:
        """What the product can do; ``max_config_bytes`` is the largest content."""
        found = self._backend.capabilities
        if self._backend.load_config is not None:
            return found
        from sofa_registry_adapters.engine.store_config import config_capabilities

        return config_capabilities(found)

    @staticmethod
    def _settings(url: str | None) -> Settings:
        return find_config_settings(url)

    def _prepare(self) -> Callable[[], ConfigEngine]:
        from sofa_registry_adapters.engine.config_core import config_engine

        return config_engine(self._backend, self._target, self._clock, self.events)

    def _draft(self, key: ConfigKey, content: object, content_type: object) -> ConfigDraft:
        """What is to be published, checked. Raises `InvalidArgument`, `ValueTooLarge`."""
        can = self.capabilities
        if not isinstance(content, str | bytes):
            raise InvalidArgument(f"publish {key} as text or bytes, not as {type(content).__name__}")
        if isinstance(content, bytes) and not can.binary_config:
            raise InvalidArgument(f"{self._target} keeps text only, and {key} is to be bytes: publish text")
        check_text(content_type, "the content type", empty=True)
        draft = ConfigDraft(content, _checked_type(str(content_type)))
        try:
            size = len(draft.data)
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the text for {key} cannot be encoded: {error.reason} at {error.start}") from None
        largest = can.max_config_bytes or can.max_value_bytes
        if size > largest:
            raise ValueTooLarge(f"{key} is to have {size} bytes, and {self._target} takes {largest} at most")
        if draft.content_type:
            _check_syntax(key, draft)
        return draft

    def _looping(self, session: Any, key: ConfigKey) -> bool:
        from sofa_registry_adapters.engine.config_loops import inside

        return inside(session.engine, key)


class ConfigCenter(_ConfigFace, BlockingFace["ConfigEngine"]):
    """A config center, blocking; every verb may be called from any thread.

    A value is text or bytes under a key in a group, with an opaque revision that is new with each publication. Every verb
    returns or raises within its ``timeout`` (seconds). The first verb, ``with`` or `open` connects; ``with`` does not fail when
    the center is down, the verbs do. Last known good values are kept on disk unless the option ``snapshot`` is ``off``: in
    files that only this user can read, but not encrypted.
    """

    def get(self, key: Key, *, group: str = DEFAULT_GROUP, timeout: float = TIMEOUT) -> ConfigItem | None:
        """The present value, read from the center; None if there is none.

        If the center cannot be reached it is the last known good, stale; if there is none, raises `Unavailable`.
        """
        where, bound = ConfigKey.of(key, group), check_timeout(timeout)
        session = self._opened()
        return session.run(session.engine.get(where, bound), bound)

    def publish(
        self,
        key: Key,
        content: str | bytes,
        *,
        group: str = DEFAULT_GROUP,
        content_type: str = "",
        expected_revision: str | Absent | None = None,
        timeout: float = TIMEOUT,
    ) -> str:
        """Write the value and return its revision.

        With ``expected_revision``, the revision of an item or ABSENT, only if that is the present one; else `Conflict`, with both.
        ``content_type`` (``yaml``, ``json``, …) goes with the value; JSON, TOML, properties and, with PyYAML, YAML are checked. After
        `Unavailable` nobody knows whether it was written: read it.
        """
        where, bound = ConfigKey.of(key, group), check_timeout(timeout)
        draft, expected = self._draft(where, content, content_type), _expected(expected_revision)
        session = self._opened()
        looping = self._looping(session, where)
        return session.run(session.engine.publish(where, draft, expected, bound, looping=looping), bound)

    def remove(
        self,
        key: Key,
        *,
        group: str = DEFAULT_GROUP,
        expected_revision: str | None = None,
        timeout: float = TIMEOUT,
    ) -> bool:
        """Remove the value; whether there was one. With ``expected_revision`` only if that is the present one, else `Conflict`."""
        where, bound, expected = ConfigKey.of(key, group), check_timeout(timeout), _expected_value(expected_revision)
        session = self._opened()
        return session.run(session.engine.remove(where, expected, bound), bound)

    def add_listener(
        self,
        key: Key,
        listener: Callable[[ConfigChange], object],
        *,
        group: str = DEFAULT_GROUP,
        required: bool = True,
        timeout: float = TIMEOUT,
    ) -> ConfigSubscription:
        """Call ``listener`` with the present value, or None, in this thread, before this returns, then with each change.

        Later calls come on a thread of ours, one at a time, the latest value only; a removal is a change. With nothing known
        within ``timeout`` raises `Unavailable`; unless ``required``: then the first call comes later.
        """
        from sofa_registry_adapters.engine.config_loops import placed
        from sofa_registry_adapters.engine.mailbox import check_listener

        checked = check_listener(listener, asynchronous=False)
        session, mailbox = self._attach(key, group, required=required, timeout=timeout)
        listen(session, mailbox, placed(checked, session.engine, mailbox.about, asynchronous=False))
        return ConfigSubscription(mailbox)

    def watch(
        self, key: Key, *, group: str = DEFAULT_GROUP, required: bool = True, timeout: float = TIMEOUT
    ) -> ConfigWatch:
        """An iterator of changes, the present value first; ``close()`` from any thread ends the loop."""
        _, mailbox = self._attach(key, group, required=required, timeout=timeout)
        return ConfigWatch(mailbox)

    def bind(
        self,
        model: type[T],
        *sources: Source,
        group: str = DEFAULT_GROUP,
        strict: bool = False,
        required: bool = True,
        timeout: float = TIMEOUT,
    ) -> Bound[T]:
        """The value of a key as an object of ``model``, kept up to date: a msgspec Struct, a dataclass or a pydantic model.

        YAML, TOML, JSON or properties, by the content type or the key's ending. Of several sources later ones override earlier
        ones, mapping by mapping; a pair is a key and its group. Where there is no value the defaults of ``model`` count. Fields that
        it does not have are ignored, or refused if ``strict``.

        Raises `Unavailable` if a source is not known within ``timeout``, and `CorruptRecord` if what is known cannot be used; unless
        ``required``: then what can be used is, over the defaults. Raises `MissingDependency` where YAML needs PyYAML.
        """
        from sofa_registry_adapters.engine.binding import bind_all

        layers, bound = layers_of(model, sources, group, strict=strict), check_timeout(timeout)
        session = self._opened()
        work = bind_all(session, layers, self._clock, bound, required=required)
        binding = session.run(work, bound, lambda found: found.close())
        binding.begin(required=required)
        return Bound(session, binding)

    def keys(self, *, group: str = DEFAULT_GROUP, timeout: float = TIMEOUT) -> Sequence[str]:
        """The keys of the group that have a value, sorted."""
        where, bound, session = check_text(group, "the configuration group"), check_timeout(timeout), self._opened()
        return session.run(session.engine.keys(where, bound), bound)

    def history(
        self, key: Key, *, group: str = DEFAULT_GROUP, limit: int = HISTORY_LIMIT, timeout: float = TIMEOUT
    ) -> Sequence[ConfigItem]:
        """The last values, the newest first, the present one included; at least 20 are kept, also of a removed key."""
        where, bound, most = ConfigKey.of(key, group), check_timeout(timeout), _limit(limit)
        session = self._opened()
        return session.run(session.engine.history(where, most, bound), bound)

    def rollback(
        self,
        key: Key,
        revision: str | None = None,
        *,
        group: str = DEFAULT_GROUP,
        expected_revision: str | Absent | None = None,
        timeout: float = TIMEOUT,
    ) -> str:
        """Publish a value of the history again, and return its new revision.

        Without ``revision`` it is the one before the present value, and `Conflict` if that changes meanwhile; of a removed key it is
        the last one. Raises `InvalidArgument` if the history has no such value.
        """
        where, bound, expected = ConfigKey.of(key, group), check_timeout(timeout), _expected(expected_revision)
        wanted, session = _expected_value(revision), self._opened()
        looping = self._looping(session, where)
        return session.run(session.engine.rollback(where, wanted, expected, bound, looping=looping), bound)

    def _attach(self, key: Key, group: str, *, required: bool, timeout: float) -> Any:
        where, bound = ConfigKey.of(key, group), check_timeout(timeout)
        session = self._opened()
        work = session.engine.attach(where, bound, required=required)
        return session, session.run(work, bound, lambda mailbox: mailbox.close())


class AsyncConfigCenter(_ConfigFace, AsyncFace["ConfigEngine"]):
    """`ConfigCenter` with coroutines, for any asyncio event loop; the engine runs on a thread of its own.

    Listeners may be plain or async functions and run on the loop of whoever added them.
    """

    async def get(self, key: Key, *, group: str = DEFAULT_GROUP, timeout: float = TIMEOUT) -> ConfigItem | None:
        """See `ConfigCenter.get`."""
        where, bound = ConfigKey.of(key, group), check_timeout(timeout)
        session = self._opened()
        return await await_call(session.call(session.engine.get(where, bound)))

    async def publish(
        self,
        key: Key,
        content: str | bytes,
        *,
        group: str = DEFAULT_GROUP,
        content_type: str = "",
        expected_revision: str | Absent | None = None,
        timeout: float = TIMEOUT,
    ) -> str:
        """See `ConfigCenter.publish`. Whether a cancelled call wrote, nobody knows."""
        where, bound = ConfigKey.of(key, group), check_timeout(timeout)
        draft, expected = self._draft(where, content, content_type), _expected(expected_revision)
        session = self._opened()
        looping = self._looping(session, where)
        return await await_call(session.call(session.engine.publish(where, draft, expected, bound, looping=looping)))

    async def remove(
        self,
        key: Key,
        *,
        group: str = DEFAULT_GROUP,
        expected_revision: str | None = None,
        timeout: float = TIMEOUT,
    ) -> bool:
        """See `ConfigCenter.remove`."""
        where, bound, expected = ConfigKey.of(key, group), check_timeout(timeout), _expected_value(expected_revision)
        session = self._opened()
        return await await_call(session.call(session.engine.remove(where, expected, bound)))

    async def add_listener(
        self,
        key: Key,
        listener: Callable[[ConfigChange], object],
        *,
        group: str = DEFAULT_GROUP,
        required: bool = True,
        timeout: float = TIMEOUT,
    ) -> AsyncConfigSubscription:
        """See `ConfigCenter.add_listener`; the first call is awaited before this returns."""
        from sofa_registry_adapters.engine.config_loops import placed
        from sofa_registry_adapters.engine.mailbox import check_listener

        checked = check_listener(listener, asynchronous=True)
        session, mailbox = await self._attach(key, group, required=required, timeout=timeout)
        await listen_async(session, mailbox, placed(checked, session.engine, mailbox.about, asynchronous=True))
        return AsyncConfigSubscription(mailbox)

    async def watch(
        self, key: Key, *, group: str = DEFAULT_GROUP, required: bool = True, timeout: float = TIMEOUT
    ) -> AsyncConfigWatch:
        """See `ConfigCenter.watch`: ``async for change in await config.watch(key)``."""
        _, mailbox = await self._attach(key, group, required=required, timeout=timeout)
        return AsyncConfigWatch(mailbox)

    async def bind(
        self,
        model: type[T],
        *sources: Source,
        group: str = DEFAULT_GROUP,
        strict: bool = False,
        required: bool = True,
        timeout: float = TIMEOUT,
    ) -> AsyncBound[T]:
        """See `ConfigCenter.bind`."""
        from sofa_registry_adapters.engine.binding import begin_aside, bind_all

        layers, bound = layers_of(model, sources, group, strict=strict), check_timeout(timeout)
        session = self._opened()
        work = bind_all(session, layers, self._clock, bound, required=required)
        binding = await await_call(session.call(work, lambda found: found.close()))
        await begin_aside(binding, required=required)
        return AsyncBound(session, binding)

    async def keys(self, *, group: str = DEFAULT_GROUP, timeout: float = TIMEOUT) -> Sequence[str]:
        """See `ConfigCenter.keys`."""
        where, bound, session = check_text(group, "the configuration group"), check_timeout(timeout), self._opened()
        return await await_call(session.call(session.engine.keys(where, bound)))

    async def history(
        self, key: Key, *, group: str = DEFAULT_GROUP, limit: int = HISTORY_LIMIT, timeout: float = TIMEOUT
    ) -> Sequence[ConfigItem]:
        """See `ConfigCenter.history`."""
        where, bound, most = ConfigKey.of(key, group), check_timeout(timeout), _limit(limit)
        session = self._opened()
        return await await_call(session.call(session.engine.history(where, most, bound)))

    async def rollback(
        self,
        key: Key,
        revision: str | None = None,
        *,
        group: str = DEFAULT_GROUP,
        expected_revision: str | Absent | None = None,
        timeout: float = TIMEOUT,
    ) -> str:
        """See `ConfigCenter.rollback`."""
        where, bound, expected = ConfigKey.of(key, group), check_timeout(timeout), _expected(expected_revision)
        wanted, session = _expected_value(revision), self._opened()
        looping = self._looping(session, where)
        return await await_call(session.call(session.engine.rollback(where, wanted, expected, bound, looping=looping)))

    async def _attach(self, key: Key, group: str, *, required: bool, timeout: float) -> Any:
        where, bound = ConfigKey.of(key, group), check_timeout(timeout)
        session = self._opened()
        work = session.engine.attach(where, bound, required=required)
        return session, await await_call(session.call(work, lambda mailbox: mailbox.close()))


def _expected(revision: str | Absent | None) -> str | Absent | None:
    if revision is None or isinstance(revision, Absent | str):
        return revision
    raise InvalidArgument(f"an expected revision is an item's revision or ABSENT, not {type(revision).__name__}")


def _expected_value(revision: object) -> str | None:
    if revision is None or isinstance(revision, str):
        return revision
    raise InvalidArgument(f"a revision is text, taken from an item, not {type(revision).__name__}")


def _limit(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidArgument(f"a limit is a whole number above 0, not {limit!r}")
    return limit


def _check_syntax(key: ConfigKey, draft: ConfigDraft) -> None:
    """Refuse what is not what it is declared to be."""
    from sofa_registry_adapters.typed.bounds import Unusable
    from sofa_registry_adapters.typed.formats import check_syntax

    try:
        check_syntax(draft.content, draft.content_type)
    except Unusable as error:
        reason = str(error).partition(": ")[2] or error
        raise InvalidArgument(
            f"the value for {key} is declared to be {draft.content_type}, and is not: {reason}"
        ) from None


def _checked_type(content_type: str) -> str:
    if len(content_type) > _LONGEST_TYPE:
        raise InvalidArgument(
            f"the content type has {len(content_type)} characters, at most {_LONGEST_TYPE} are allowed"
        )
    return content_type
