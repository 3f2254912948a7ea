"""An optional mix-in for stores: what `sofa-registry doctor` asks beyond the seven verbs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar

import msgspec

from sofa_registry_adapters.spi.store import RecordKey


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What a product says about itself, as far as it says it to this user.

    ``server`` is its name and version, empty if it does not tell. ``needs`` is the oldest version that will do, given
    only where this one will not. ``clock`` is its wall clock in milliseconds since 1970, None where it has none of its own.
    ``remarks`` are sentences about a configuration that endangers registrations.
    """

    server: str = ""
    needs: str = ""
    clock: int | None = None
    remarks: Sequence[str] = ()


class DiagnosableStore(ABC):
    """Mix-in of stores that can be asked about their product, and which owners are gone."""

    proof: ClassVar[str]
    """When `dead` calls an owner gone, in words that follow "an owner is certainly gone: "; or why it never does."""

    @abstractmethod
    async def diagnose(self, probe: RecordKey) -> Diagnosis:
        """Ask the product. ``probe`` was put a moment ago, where that was possible, and may tell the server's time.

        What the product refuses to tell is left out; raises only `Unavailable`.
        """

    @abstractmethod
    async def dead(self, keys: Sequence[RecordKey]) -> Collection[RecordKey]:
        """Those of the owned records whose owner is certainly gone: not late, not silent, gone.

        Whoever has to guess answers that none is. A product that removes them itself at that moment has none.
        """


def is_older(version: str, least: tuple[int, ...]) -> bool:
    """Whether a version, as ``7.0.15``, is before ``least``; one that cannot be read is not."""
    numbers: list[int] = []
    for part in version.split(".")[: len(least)]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return bool(numbers) and tuple(numbers) < least[: len(numbers)]
