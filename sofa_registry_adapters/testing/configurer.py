"""A program that uses a config center, to be forked and raced by tests.

``python -m sofa_registry_adapters.testing.configurer PLAN``, where the plan is a `Plan` of `contract.centers` in JSON.
"""

from __future__ import annotations

import os
import sys
import time

import msgspec

from sofa_registry_adapters.config import ConfigCenter
from sofa_registry_adapters.errors import ForkUnsupported
from sofa_registry_adapters.testing.contract.centers import ConfigRecorder, Plan, increment
from sofa_registry_adapters.testing.faults import eventually

STEP = 5.0


def say(*words: object) -> None:
    """Write a line."""
    print(*words, flush=True)  # noqa: T201  the parent reads it


def count(plan: Plan, config: ConfigCenter) -> None:
    """Count the key up, ``rounds`` times, once a line comes on the way in."""
    config.get(plan.key)
    say("ready")
    began = time.monotonic()
    conflicts = increment(config, plan.key, plan.rounds)
    say("done", conflicts, f"{time.monotonic() - began:.2f}")


def fork(plan: Plan, config: ConfigCenter) -> None:
    """Follow a key, fork a child that uses the center and ends, and look whether the parent's listener still is told."""
    config.publish(plan.key, "one")
    recorder = ConfigRecorder()
    config.add_listener(plan.key, recorder)
    say("ready")
    child = os.fork()
    if not child:
        try:
            config.publish(plan.key, "from the child")
            own = ConfigRecorder()
            config.add_listener(plan.key, own)
            say("child", own.content)
        except ForkUnsupported:
            say("child ForkUnsupported")
        config.close()
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    say("child ended", os.waitstatus_to_exitcode(status))
    config.publish(plan.key, "last")
    eventually(lambda: recorder.content == "last", STEP, "the parent's listener lives")
    config.close()
    say("parent kept")


def main() -> None:
    """Do what the plan says."""
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    with ConfigCenter(plan.url, options=plan.options) as config:
        {"count": count, "fork": fork}[plan.mode](plan, config)


if __name__ == "__main__":
    main()
