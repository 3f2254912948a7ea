"""What every `RecordStore` has to pass: a test, or several, for each of its numbered promises.

A store's own tests derive from `StoreContract` and override one fixture::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store_factory(self):
            target = parse_target(f"mine://127.0.0.1/{uuid.uuid4().hex}?lease=3s", BACKEND)
            return lambda: MyStore(target, SystemClock())

What a store cannot do it says in its `Capabilities`; the tests go by them, never by a name, and what is
declared absent has to be absent. Plain pytest runs it; no plugin is needed.
"""

from __future__ import annotations

import pytest

# Before their import, so that their bare asserts say what they compared, as those of a test file do.
pytest.register_assert_rewrite(
    "sofa_registry_adapters.testing.store_conditions",
    "sofa_registry_adapters.testing.store_kit",
    "sofa_registry_adapters.testing.store_ownership",
    "sofa_registry_adapters.testing.store_reading",
    "sofa_registry_adapters.testing.store_watching",
)

from sofa_registry_adapters.settings import parse_target  # noqa: E402  see above
from sofa_registry_adapters.spi.store import Bucket, RecordKey, RecordStore  # noqa: E402
from sofa_registry_adapters.testing.store_conditions import ConditionsContract  # noqa: E402
from sofa_registry_adapters.testing.store_kit import (  # noqa: E402
    DeleteBehind,
    StoreFactory,
    Stores,
    conditional,
    snapshot,
)
from sofa_registry_adapters.testing.store_ownership import OwnershipContract  # noqa: E402
from sofa_registry_adapters.testing.store_reading import ReadingContract  # noqa: E402
from sofa_registry_adapters.testing.store_watching import WatchingContract  # noqa: E402

__all__ = ["DeleteBehind", "StoreContract", "StoreFactory", "parse_target"]


class StoreContract(OwnershipContract, ReadingContract, WatchingContract, ConditionsContract):
    """Override `store_factory`."""

    @pytest.fixture
    def store_factory(self) -> StoreFactory:
        """Makes stores that are not open yet, all on one space that no other test uses.

        Give them a lease of a few seconds: a test waits for one and a half of it, others renew nothing
        for a second or two.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides the fixture store_factory")

    @pytest.fixture
    def delete_behind(self) -> DeleteBehind:
        """Deletes a record through ``store``, which does not own it, as an operator would.

        Override it where a store has no ``compare_and_set``.
        """

        async def delete(store: RecordStore, key: RecordKey) -> None:
            found = {stored.key: stored for stored in (await snapshot(store, Bucket(key.bucket))).records}
            await conditional(store).compare_and_delete(key, found[key].revision)

        return delete

    @pytest.fixture
    def stores(self, store_factory: StoreFactory, delete_behind: DeleteBehind) -> Stores:
        """The stores of this test."""
        return Stores(store_factory, delete_behind)
