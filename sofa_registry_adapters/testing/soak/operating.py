"""Whoever hurts the server and the lines: faults last in the background, and all of them end with the round."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from functools import partial

from sofa_registry_adapters.engine.plugins import Plugins
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.settings import scheme_of
from sofa_registry_adapters.spi.options import Value
from sofa_registry_adapters.testing.contract.breaking import StoreFaults
from sofa_registry_adapters.testing.faults.nemeses import NEMESES, Nemesis
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.soak.actors import Actor
from sofa_registry_adapters.testing.soak.judging import Judge
from sofa_registry_adapters.testing.soak.model import Model
from sofa_registry_adapters.testing.soak.steps import Step

CORRUPT = (
    b"",
    b"{",
    b"null",
    b"\xff\xfe\x00",
    b"[" * 5_000,
    b'{"host": 7, "port": -1}',
    b'{"port": NaN}',
    b"9" * 5_000,
)


class Nemeses(Actor):
    """The server's faults, or those of one line: one after the other, each for its time."""

    def __init__(self, name: str, judge: Judge, site: Site) -> None:
        self._site = site
        super().__init__(name, judge)

    def verbs(self) -> dict[str, Callable[[Step], None]]:
        return {name: partial(self._hurt, one) for name, one in NEMESES.items()}

    def _hurt(self, nemesis: Nemesis, step: Step) -> None:
        # What a server that is dead or gone cannot be told: its operator was too late.
        with contextlib.suppress(OSError), nemesis.on(self._site, step.text("client")):
            time.sleep(step.seconds())


def can_operate(url: str) -> bool:
    """Whether records can be deleted and written behind the library's back."""
    backend = Plugins().backend(scheme_of(url))
    return backend.store and backend.capabilities.compare_and_set


class Vandal(Actor):
    """Deletes records of others, and writes what is no record, which stays until `clean`."""

    def __init__(self, judge: Judge, model: Model, url: str, options: Mapping[str, Value]) -> None:
        self._model = model
        self._url = url
        self._options = dict(options)
        self._written: set[tuple[ServiceKey, str]] = set()
        super().__init__("operator", judge)

    def verbs(self) -> dict[str, Callable[[Step], None]]:
        return {"delete": self._delete, "corrupt": self._corrupt, "clean": self._clean}

    def _faults(self) -> contextlib.closing[StoreFaults]:
        """With a connection of its own each time: nobody would mend one that broke."""
        return contextlib.closing(StoreFaults(self._url, self._options))

    def _delete(self, step: Step) -> None:
        service = self._model.services[step.number("service")]
        names = sorted(self._model.wanted(service))
        # It may have gone by itself, or be written at this moment.
        with contextlib.suppress(AssertionError, RegistryError), self._faults() as faults:
            if names:
                faults.delete_behind(service, names[step.number("pick") % len(names)])

    def _corrupt(self, step: Step) -> None:
        service, name = self._model.services[step.number("service")], f"10.250.0.{step.number('pick') % 250}:80"
        value = random.Random(step.number("pick")).choice(CORRUPT)  # noqa: S311  it has to be the same again
        self._written.add((service, name))
        with self._faults() as faults:
            faults.write_raw(service, name, value, owned=False)

    def _clean(self, _: Step) -> None:
        written, self._written = self._written, set()
        if not written:
            return
        with self._faults() as faults:
            for service, name in written:
                with contextlib.suppress(AssertionError, RegistryError):
                    faults.delete_behind(service, name)
