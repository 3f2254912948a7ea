"""What the servers say about themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sofa_registry_adapters.backends.etcd import messages
from sofa_registry_adapters.backends.etcd.connecting import STATUS
from sofa_registry_adapters.backends.etcd.messages import Message, rpc
from sofa_registry_adapters.backends.etcd.session import Session
from sofa_registry_adapters.errors import Refused
from sofa_registry_adapters.spi.diagnosis import Diagnosis

ALARM = messages.call("Maintenance", "Alarm")


async def diagnose(session: Session) -> Diagnosis:
    """Servers older than needed are refused when the store is opened. Whoever may not ask, with newer servers any but root, learns less."""
    version = ""
    with contextlib.suppress(Refused):
        version = (await session.link.ask(STATUS, rpc.StatusRequest())).version
    alarms: list[Message] = []
    with contextlib.suppress(Refused):
        alarms = list((await session.link.ask(ALARM, rpc.AlarmRequest(action=rpc.AlarmRequest.GET))).alarms)
    return Diagnosis(server=f"etcd {version}".strip(), remarks=tuple(_remarks(alarms)))


def _remarks(alarms: list[Message]) -> Iterator[str]:
    for alarm in alarms:
        if alarm.alarm == rpc.NOSPACE:
            yield "its database is full and takes no registration: compact and defragment it, then etcdctl alarm disarm"
        elif alarm.alarm == rpc.CORRUPT:
            yield f"the member {alarm.memberID:x} has found its data corrupt: replace it"
