"""A consumer in a process of its own: a line for each view, with its size and ids; ``contradiction`` where changes do not add up."""

from __future__ import annotations

import json
import sys
import time

from sofa_registry_adapters import Registry
from sofa_registry_adapters.model.instance import Instance
from sofa_registry_adapters.model.views import InstancesChange

given = json.loads(sys.argv[1])
replica: dict[str, Instance] = {}


def write(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def say(change: InstancesChange) -> None:
    for one in change.removed:
        if replica.pop(one.instance_id, None) is None:
            write("contradiction: removed", one.instance_id)
    for one in (*change.added, *change.updated):
        replica[one.instance_id] = one
    if set(replica.values()) != set(change.instances):
        write("contradiction: the view")
    write("view", len(replica), *sorted(replica))


with Registry(given["url"], options=given["options"]) as registry:
    registry.subscribe(given["service"], say, timeout=20.0)
    while True:
        time.sleep(1)
