"""Three members, who leads them, and what can be done to one of them and to the lines between them."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from sofa_registry_adapters.testing.faults import NetProxy, eventually
from sofa_registry_adapters.testing.services.ensembles.member import Member
from sofa_registry_adapters.testing.services.service import ServiceError

SECONDS = 60.0
"""In which an ensemble of servers that run has found itself."""


class Ensemble:
    """Made by `ensemble`, which see. ``leads(member)`` asks a member whether it leads: None if it serves nobody.

    ``lines`` are those between members, by numbers: from the first one to the second; none where members cannot be told apart.
    """

    def __init__(
        self,
        scheme: str,
        members: Sequence[Member],
        folder: Path,
        *,
        leads: Callable[[Member], bool | None],
        lines: Mapping[tuple[int, int], NetProxy],
    ) -> None:
        self.members = tuple(members)
        self._scheme = scheme
        self._folder = folder
        self._leads = leads
        self._lines = lines
        self._owner = os.getpid()
        atexit.register(self.close)
        try:
            self.make_whole()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """All of them."""
        return self.url_of(one.address for one in self.members)

    def url_of(self, addresses: Iterable[str]) -> str:
        """The URL of servers at these addresses."""
        return f"{self._scheme}://{','.join(addresses)}"

    @property
    def partitions(self) -> bool:
        """Whether `cut_off` is possible: otherwise one is alone when the others are frozen."""
        return bool(self._lines)

    def leader(self) -> Member | None:
        """Who leads at this moment, as that one says itself."""
        return next((one for one in self.members if one.running and self._leads(one)), None)

    def led(self, *, by_another_than: Member | None = None) -> Member:
        """Wait until one leads. Raises `AssertionError`."""

        def found() -> Member | None:
            one = self.leader()
            return one if one is not by_another_than else None

        one = eventually(found, SECONDS, "the members have a leader")
        assert one is not None
        return one

    def serves(self, member: Member) -> bool:
        """Whether a member answers clients at this moment."""
        return member.running and self._leads(member) is not None

    def make_whole(self) -> None:
        """Everything is as at the beginning: all run, all lines carry, all serve."""
        for line in self._lines.values():
            line.pass_through()
        for one in self.members:
            one.start()
        try:
            self.await_whole()
        except AssertionError as error:
            logs = "\n".join(f"{one}: {one.log}" for one in self.members if not self.serves(one))
            raise ServiceError(f"{error}; the ends of their logs:\n{logs}") from None

    def await_whole(self) -> None:
        """Wait until all of them serve. Raises `AssertionError`."""

        def whole() -> bool:
            # One that was frozen believes for a moment that it leads.
            return sorted(map(str, map(self._leads, self.members))) == ["False", "False", "True"]

        eventually(whole, SECONDS, "all members serve, and one leads")

    @contextlib.contextmanager
    def cut_off(self, member: Member) -> Iterator[None]:
        """The network between a follower and the others loses everything and tells nobody; what was lost meanwhile comes when it ends."""
        lines = [line for pair, line in self._lines.items() if member.number in pair]
        for line in lines:
            line.black_hole()
        try:
            yield
        finally:
            for line in lines:
                line.pass_through()

    @contextlib.contextmanager
    def alone(self, member: Member) -> Iterator[None]:
        """A follower has lost the others: they go on without it, or, where members cannot be cut off, are frozen."""
        if self.partitions:
            with self.cut_off(member):
                yield
            return
        others = [one for one in self.members if one is not member]
        for one in others:
            one.pause()
        try:
            yield
        finally:
            for one in others:
                one.resume()

    def close(self) -> None:
        """They end, and their data is gone."""
        if os.getpid() != self._owner:
            return
        for one in self.members:
            one.kill()
        for line in self._lines.values():
            line.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)
