"""Defects of staying registered, and of going."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planted.table import REGISTRY, STORE, mutant
from sofa_registry_adapters.backends.memory.sessions import Session
from sofa_registry_adapters.backends.memory.spaces import Space
from sofa_registry_adapters.engine import retry
from sofa_registry_adapters.engine.keeper import Keeper
from sofa_registry_adapters.engine.retry import Schedule
from sofa_registry_adapters.spi.store import Record, RecordKey


@mutant(
    "A renewal that succeeds is taken for presence: what is gone stays gone",
    "tooz on etcd, Redis and ZooKeeper; nacos-sdk-python",
    f"{STORE}test_4_renew_reports_what_was_deleted_behind_the_owners_back",
    f"{REGISTRY}test_47_deleted_behind_its_back",
    f"{REGISTRY}test_48_the_lease_is_over",
)
def renewal_taken_for_presence() -> None:
    renew = Space.renew

    def content(self: Space, session: Session) -> frozenset[RecordKey]:
        renew(self, session)
        return frozenset()

    Space.renew = content


@mutant(
    "After a few failures nobody tries any more",
    "Kratos, Kitex and Hertz: five attempts",
    f"{REGISTRY}test_50_restart[3.0]",
)
def giving_up_after_five_attempts() -> None:
    delay = Schedule.delay

    def tired(self: Schedule, attempt: int) -> float:
        return 3600.0 if self is retry.REACHABILITY and attempt >= 5 else delay(self, attempt)

    Schedule.delay = tired


@mutant(
    "What was withdrawn is published again by a recovery",
    "Kratos on ZooKeeper, Curator",
    f"{REGISTRY}test_53_a_withdrawal_during_an_outage[unnoticed]",
)
def a_zombie_after_its_withdrawal() -> None:
    put, renew = Space.put, Space.renew
    written: dict[str, dict[RecordKey, Record]] = {}

    def remember(self: Space, session: Session, records: Sequence[Record]) -> Mapping[RecordKey, Any]:
        for one in records:
            # The first version: a later one may say that it is leaving.
            written.setdefault(session.owner, {}).setdefault(one.key, one)
        return put(self, session, records)

    def resurrect(self: Space, session: Session) -> frozenset[RecordKey]:
        missing = [one for key, one in written.get(session.owner, {}).items() if self.peek(key) is None]
        if missing:
            put(self, session, missing)
        return renew(self, session)

    Space.put, Space.renew = remember, resurrect


@mutant(
    "An instance is deleted without a word before",
    "every peer but Nacos: consumers learn of it from failed calls",
    f"{REGISTRY}test_06_withdrawal_is_told_before_it_is_done[blocking]",
)
def a_withdrawal_that_is_not_told() -> None:
    withdraw = Keeper.withdraw
    Keeper.withdraw = lambda self, publication, **_: withdraw(self, publication, told=False)
