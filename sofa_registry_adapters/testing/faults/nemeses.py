"""The catalogue of faults by name: what happens to one client's line, and what happens to the server of all.

>>> with NEMESES["black hole"].on(site, "consumer"):  # doctest: +SKIP
...     time.sleep(3)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from sofa_registry_adapters.testing.faults.proxy import NetProxy
from sofa_registry_adapters.testing.faults.site import Site

SLOW = 0.3
"""Seconds that a slow line takes each way."""
DRIP = 4_000.0
"""Bytes a second that a dripping line carries."""
SHORT = 300
"""Bytes after which a line breaks that breaks in the middle of a message."""

BRIEF = 0.5
"""Seconds of silence that no lease of a test ends in."""
FOR_EVER = 3600.0


class Nemesis(NamedTuple):
    """One fault. ``lasts``: it goes on until it is ended; otherwise ``begin`` is all of it.

    ``harmless``: for so many seconds no record may vanish by it. ``needs`` are abilities of the `Site`.
    """

    name: str
    meaning: str
    where: Literal["line", "server"]
    begin: Callable[[Site, str], None]
    end: Callable[[Site, str], None] | None = None
    needs: frozenset[str] = frozenset()
    harmless: float = 0.0

    @property
    def lasts(self) -> bool:
        """Whether it goes on until it is ended."""
        return self.end is not None

    def possible(self, site: Site) -> bool:
        """Whether it can happen there."""
        return site.lines if self.where == "line" else self.needs <= site.abilities

    def keeps_records(self, site: Site, seconds: float) -> bool:
        """Whether no record may vanish by it, if it lasts so long there."""
        dies = bool(self.needs & {"kill", "stop"})
        return seconds < self.harmless and (site.keeps_data or not dies)

    @contextlib.contextmanager
    def on(self, site: Site, client: str = "") -> Iterator[None]:
        """It happens while the block runs; to the line of ``client``, or to the server."""
        self.begin(site, client)
        try:
            yield
        finally:
            if self.end is not None:
                self.end(site, client)


def _line(
    name: str, meaning: str, begin: Callable[[NetProxy], None], *, lasts: bool = True, harmless: float = 0.0
) -> Nemesis:
    def start(site: Site, client: str) -> None:
        begin(site.line(client))

    def end(site: Site, client: str) -> None:
        site.line(client).pass_through()

    return Nemesis(name, meaning, "line", start, end if lasts else None, harmless=harmless)


def _server(name: str, meaning: str, begin: str, end: str = "", *, harmless: float = 0.0) -> Nemesis:
    def start(site: Site, _: str) -> None:
        getattr(site, begin)()

    def stop(site: Site, _: str) -> None:
        getattr(site, end)()

    needs = frozenset(filter(None, (begin, end)))
    return Nemesis(name, meaning, "server", start, stop if end else None, needs, harmless=harmless)


def _drip_cut(line: NetProxy) -> None:
    line.cut_after(SHORT)


_ALL = (
    _line("cut", "every connection is reset", NetProxy.cut, lasts=False, harmless=FOR_EVER),
    _line("torn", "the connections are reset in the middle of a message", _drip_cut),
    _line("refused", "connections are reset, new ones are refused", NetProxy.refuse),
    _line("black hole", "nothing arrives, nobody is told", NetProxy.black_hole),
    _line("lost requests", "what the client sends is lost, answers arrive", lambda line: line.black_hole("up")),
    _line(
        "lost answers", "what the server sends is lost, requests are carried out", lambda line: line.black_hole("down")
    ),
    _line("slow", f"everything takes {SLOW:g} s each way", lambda line: line.latency(SLOW), harmless=FOR_EVER),
    _line("drip", f"{DRIP:g} bytes a second", lambda line: line.rate(DRIP)),
    _server("kill", "the server is killed, and started on what it has on disk", "kill", "start", harmless=BRIEF),
    _server("restart", "the server is stopped, and started on what it has on disk", "stop", "start", harmless=BRIEF),
    _server("pause", "the server hangs", "pause", "resume", harmless=BRIEF),
    _server("wipe", "the server dies and comes back empty", "wipe"),
    _server("forget", "an operator deletes everything", "forget"),
    _server("expire", "every lease or session is over", "expire"),
    _server("hang up", "the server closes its clients' connections", "hang_up", harmless=FOR_EVER),
    _server("denied", "the server takes the clients' rights away, and gives them back", "deny", "allow"),
    _server("compact", "the server drops its history", "compact", harmless=FOR_EVER),
)

NEMESES: Mapping[str, Nemesis] = {one.name: one for one in _ALL}


def possible(site: Site, where: Literal["line", "server"]) -> tuple[Nemesis, ...]:
    """What can happen there."""
    return tuple(one for one in _ALL if one.where == where and one.possible(site))
