"""The row of what other clients of Nacos may say of their instances: what is in the metadata is theirs."""

from __future__ import annotations

import json
import random
from http.client import HTTPConnection
from urllib.parse import urlencode

from matrix.cell import Cell
from matrix.rows_records import _Warnings
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.model.names import ServiceKey
from sofa_registry_adapters.testing.sites import ServerSite

WHOLE = "a record is written as a whole: 13"
FUZZED = 60
HOST, PORT = "10.66.6.6", "6"


@row(
    13,
    "instances of another client, with nonsense where this library says what it means",
    *("I1", "I2", "I3", "I7", "I8"),
    part="foreign",
    absent=dict.fromkeys(("local", "redis", "zookeeper", "etcd"), WHOLE),
)
def foreign(cell: Cell) -> None:
    draw, warnings = random.Random(13), _Warnings()
    with Scene(cell, services=2) as scene, warnings:
        scene.guard()
        for _ in range(FUZZED):
            _ask(cell, "POST", scene.first, metadata=json.dumps(_nonsense(draw)))
        cell.stays("I8", "the reader has all the good ones", scene.complete, cell.told)
        scene.flows(77)
        _ask(cell, "DELETE", scene.first)
        scene.settled("when it is gone", cell.told)
    told = [one for one in warnings.texts if f"{HOST}:{PORT}" in one]
    # One for each that reads: the consumer and, with its own records there, perhaps the provider.
    cell.judge.expect("I8", f"an instance was complained of {len(told)} times in a minute", holds=0 < len(told) <= 2)


def _nonsense(draw: random.Random) -> dict[str, str]:
    """Whatever else it says, the time of its start is none."""
    fields = {
        "sofa.extra": draw.choice(("[" * 900, "{", "7", "\x00")),
        "sofa.weight": draw.choice(("NaN", "-1", "9" * 400, "")),
        "sofa.state": draw.choice(("up", "down", "")),
        "sofa.updated": draw.choice(("x", "-9", "1e9")),
        "sofa.zone": draw.choice(("\x00", "../..", "z")),
    }
    chosen = draw.sample(sorted(fields), draw.randint(0, 2))
    return {"sofa.started": draw.choice(("x", "1.5", "-1", "Infinity")), **{name: fields[name] for name in chosen}}


def _ask(cell: Cell, verb: str, service: ServiceKey, **more: str) -> None:
    """What a client does that speaks Nacos' HTTP."""
    assert isinstance(cell.site, ServerSite)
    server = cell.site.service
    form = {
        "namespaceId": str(cell.options["namespace"]),
        "groupName": "DEFAULT_GROUP",
        "serviceName": str(service),
        "ip": HOST,
        "port": PORT,
        **more,
    }
    connection = HTTPConnection(server.host, server.port, timeout=5)
    try:
        connection.request(verb, f"/nacos/v3/client/ns/instance?{urlencode(form)}")
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text[:300]
    finally:
        connection.close()
