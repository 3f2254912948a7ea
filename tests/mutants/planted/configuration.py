"""Defects of configuration."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import msgspec

from planted.table import CONFIG, CONFIG_REDIS, mutant
from sofa_registry_adapters.engine import store_config
from sofa_registry_adapters.engine.config_core import ConfigEngine
from sofa_registry_adapters.engine.config_mirror import ConfigMirror
from sofa_registry_adapters.engine.envelope import Envelope
from sofa_registry_adapters.engine.store_config import StoreConfig, record_key
from sofa_registry_adapters.model.config import ConfigKey
from sofa_registry_adapters.spi.registry import Rejected
from sofa_registry_adapters.spi.store import Record


@mutant(
    "A condition is looked at before, and then written over whatever is there",
    "config sources without a conditional write, Nacos' publishConfig without casMd5",
    f"{CONFIG_REDIS}test_23_two_writers",
    f"{CONFIG_REDIS}test_24_one_creates",
)
def a_look_before_a_leap() -> None:
    async def replace(self: StoreConfig, key: ConfigKey, present: Any, fresh: Envelope) -> bool:
        if present.value is not None:
            await self._archive(key, present.value)
        await self._store.put((Record(*record_key(key), fresh.encode(), owned=False),))
        return True

    StoreConfig._replace = replace


@mutant(
    "A revision is a digest of the content, and comes back with it",
    "Nacos: casMd5",
    f"{CONFIG}test_22_never_the_same_again[blocking]",
)
def a_revision_that_comes_back() -> None:
    Envelope.revision = property(lambda self: hashlib.sha256(self.data).hexdigest())


@mutant(
    "A watch that is cut off is told as a removal",
    "listeners that are given null when a read fails",
    f"{CONFIG}test_70_restart",
    f"{CONFIG}test_73_cut_connections",
)
def a_cut_that_is_a_removal() -> None:
    note = ConfigMirror._note_failure

    def removed(self: ConfigMirror, stream: Any, failures: int) -> None:
        note(self, stream, failures)
        self._change(None, stale=False)

    ConfigMirror._note_failure = removed


@mutant(
    "What a server lost is told as removed",
    "every center whose only sign of a removal is that nothing is there",
    f"{CONFIG}test_57_a_value_that_is_lost[blocking]",
    f"{CONFIG}test_71_wipe",
)
def a_loss_that_is_a_removal() -> None:
    found = store_config._found
    store_config._said = lambda key, stored: (
        None if stored is None else found(key, Envelope.decode(stored.record.value))
    )


@mutant(
    "A value that cannot be decoded is told as none",
    "sources that catch every error of a decoder",
    f"{CONFIG}test_56_a_value_that_cannot_be_decoded[blocking]",
)
def a_bad_value_that_is_a_removal() -> None:
    said = store_config._said

    def calm(key: ConfigKey, stored: Any) -> Any:
        answer = said(key, stored)
        return None if isinstance(answer, Rejected) else answer

    store_config._said = calm


@mutant(
    "A removal is not told",
    "Kratos' config, viper: only values are",
    f"{CONFIG}test_51_each_change[blocking]",
    f"{CONFIG}test_52_a_burst[blocking]",
)
def a_removal_that_is_not_told() -> None:
    change = ConfigMirror._change

    def kept(self: ConfigMirror, item: Any, *, stale: bool) -> None:
        if item is not None or not self.known.is_set():
            change(self, item, stale=stale)

    ConfigMirror._change = kept


@mutant(
    "The history begins with the next publication: what it replaces is not in it",
    "histories that are written beside the value",
    f"{CONFIG}test_30_the_last_twenty[blocking]",
    f"{CONFIG}test_31_of_a_removed_key[blocking]",
    f"{CONFIG}test_25_unconditional_writers",
)
def a_history_with_gaps() -> None:
    archive = StoreConfig._archive

    async def sometimes(self: StoreConfig, key: ConfigKey, value: Envelope) -> None:
        if value.serial % 2:
            await archive(self, key, value)

    StoreConfig._archive = sometimes


@mutant(
    "A read is answered from a cache of a tenth of a second",
    "clients with a local cache: Nacos' snapshot, Apollo",
    f"{CONFIG}test_16_own_writes[blocking]",
)
def a_read_from_a_cache() -> None:
    get = ConfigEngine.get
    kept: dict[ConfigKey, tuple[float, Any]] = {}

    async def cached(self: ConfigEngine, key: ConfigKey, timeout: float) -> Any:
        moment, item = kept.get(key, (0.0, None))
        if time.monotonic() - moment > 0.1:
            item = await get(self, key, timeout)
            kept[key] = time.monotonic(), item
        return item

    ConfigEngine.get = cached


@mutant(
    "What is served without the center is not flagged",
    "Nacos' failover and snapshot files: their content is given as any other",
    f"{CONFIG}test_70_restart",
    f"{CONFIG}test_81_start_from_the_disk",
)
def a_stale_value_that_looks_fresh() -> None:
    known = ConfigEngine._last_known

    async def fresh(self: ConfigEngine, key: ConfigKey) -> Any:
        item = await known(self, key)
        return None if item is None else msgspec.structs.replace(item, stale=False)

    ConfigEngine._last_known = fresh


@mutant(
    "A listener that publishes its own key goes round for ever, and nobody is told",
    "every center",
    f"{CONFIG}test_65_one_that_calls_itself[blocking]",
)
def a_loop_in_silence() -> None:
    ConfigEngine._note_loop = lambda *_: None
