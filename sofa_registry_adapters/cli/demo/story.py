"""What the demo shows, step by step. Each time is between an act and the moment when the consumer saw its effect."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from sofa_registry_adapters.cli.demo.cast import ENDS_WITHIN, STARTS_WITHIN, Actor, DemoFailed, dismiss
from sofa_registry_adapters.cli.demo.scene import Scene, scene
from sofa_registry_adapters.cli.demo.wire import Message
from sofa_registry_adapters.cli.screen import note, say
from sofa_registry_adapters.registry import Registry

SERVICE = "com.acme.Hello:1.0"
NAMES = ("provider-1", "provider-2", "provider-3")
PORT = 12200
SEEN_WITHIN = 5.0
"""Seconds for a change or a withdrawal to reach the consumer: the promise is far below, machines may be busy."""


def demo(url: str | None, timeout: float, lease: float | None) -> int:
    """Play it; the exit code: 1 if a step was not seen within its bound."""
    with scene(url, lease) as place:
        with Registry(place.url) as registry:
            # Fails here, with one sentence, when the registry cannot be reached.
            registry.services(timeout=timeout)
            play = Play(place)
            try:
                line = play.all(registry, timeout)
            except DemoFailed as failed:
                note(f"demo: failed: {failed}")
                return 1
            finally:
                dismiss(play.actors)
        say(line)
    return 0


class Play:
    """The processes, and what the consumer has seen so far."""

    def __init__(self, place: Scene) -> None:
        self.place = place
        self.actors: list[Actor] = []
        self._began = monotonic()
        self._living: set[str] = set()

    def all(self, registry: Registry, timeout: float) -> str:
        """Every step; the line that says what was shown. Raises `DemoFailed`."""
        say(f"Three providers and a consumer of {SERVICE}, each a process of its own, on {self.place.shown}")
        consumer = self._start("the consumer", "consumer", SERVICE)
        consumer.until(lambda it: not it.weights, STARTS_WITHIN, "the consumer starts to watch")
        self._say("the consumer watches and sees nobody")
        self._publish(consumer)
        updated = self._update(consumer)
        killed = self._kill(consumer)
        stopped = max(self._stop(consumer, "provider-2"), self._stop(consumer, "provider-3"))
        self._check_clean(registry, timeout)
        return (
            f"demo: ok — {len(NAMES)} providers published, 1 updated in {lasted(updated)}, "
            f"1 killed and gone after {lasted(killed)}, 2 withdrawn within {lasted(stopped)}, on {self.place.shown}"
        )

    def _publish(self, consumer: Actor) -> None:
        providers = [
            self._start(name, "provider", SERVICE, f"127.0.0.1:{PORT + number}", name)
            for number, name in enumerate(NAMES, 1)
        ]
        for one in providers:
            step = f"{one.name} is published"
            asked = one.until(lambda it: it.what == "published", STARTS_WITHIN, step).asked
            seen = consumer.until(lambda it, name=one.name: name in it.weights, SEEN_WITHIN, step)  # type: ignore[misc]
            self._say(f"{one.name} publishes an address; the consumer sees it after {lasted(seen.at - asked)}")
            self._living.add(one.name)

    def _update(self, consumer: Actor) -> float:
        name = NAMES[1]
        provider = self._actor(name)
        mark = len(consumer.messages)
        provider.write("30")
        step = f"{name} changes its weight"
        asked = provider.until(lambda it: it.what == "updated", SEEN_WITHIN, step).asked
        took = self._seen(consumer, mark, lambda it: it.weights.get(name) == 30, SEEN_WITHIN, step).at - asked
        self._say(f"{name} changes its weight from 100 to 30; the consumer sees 30 after {lasted(took)}")
        return took

    def _kill(self, consumer: Actor) -> float:
        name = NAMES[0]
        provider = self._actor(name)
        mark = len(consumer.messages)
        self._living.discard(name)
        killed = provider.kill()
        step = f"{name} is killed"
        gone = self._seen(consumer, mark, lambda it: name not in it.weights, self.place.death_within, step)
        took = gone.at - killed
        how = "the kernel told" if self.place.at_once else "its lease ran out"
        self._say(f"kill -9 of {name} (pid {provider.pid}): {how}; gone at the consumer after {lasted(took)}")
        return took

    def _stop(self, consumer: Actor, name: str) -> float:
        provider = self._actor(name)
        mark = len(consumer.messages)
        self._living.discard(name)
        asked = provider.stop()
        step = f"{name} is stopped"
        took = self._seen(consumer, mark, lambda it: name not in it.weights, SEEN_WITHIN, step).at - asked
        code = provider.ended(ENDS_WITHIN)
        if code != 0:
            raise DemoFailed(f"{step}: its exit code is {code}")
        self._say(f"SIGTERM to {name}: it withdraws; gone at the consumer after {lasted(took)}")
        return took

    def _check_clean(self, registry: Registry, timeout: float) -> None:
        left = registry.services(timeout=timeout)
        if left:
            raise DemoFailed(f"the end: {', '.join(map(str, left))} is still in the registry")
        self._say("the registry has nothing of this any more")

    def _seen(self, consumer: Actor, mark: int, wanted: Callable[[Message], bool], within: float, step: str) -> Message:
        """What the consumer saw, provided that no living provider was missing meanwhile."""
        message = consumer.until(wanted, within, step, after=mark)
        for one in consumer.messages[mark : consumer.messages.index(message) + 1]:
            if missing := self._living - set(one.weights):
                raise DemoFailed(f"{step}: the consumer lost {', '.join(sorted(missing))}, which is alive")
        return message

    def _start(self, name: str, module: str, *arguments: str) -> Actor:
        actor = Actor(name, module, self.place.url, *arguments)
        self.actors.append(actor)
        return actor

    def _actor(self, name: str) -> Actor:
        return next(one for one in self.actors if one.name == name)

    def _say(self, line: str) -> None:
        say(f"{monotonic() - self._began:6.2f} s  {line}")


def lasted(seconds: float) -> str:
    """A time as people read it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
