"""How an ensemble of each product is configured, and how a member is asked whether it leads."""

from __future__ import annotations

import json
import re
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from sofa_registry_adapters.testing.faults import NetProxy, free_port
from sofa_registry_adapters.testing.services.ensembles.ensemble import Ensemble
from sofa_registry_adapters.testing.services.ensembles.member import Member
from sofa_registry_adapters.testing.services.product import Prepare
from sofa_registry_adapters.testing.services.products import PRODUCTS
from sofa_registry_adapters.testing.services.service import ServiceError, ServiceUnavailable

COUNT = 3
_ASKING = 1.0
_TICKS = 5
"""Ticks of half a second for which a ZooKeeper follower serves, and stays one, without hearing of its leader."""
_QUICK_ELECTIONS = "-Dzookeeper.fastleader.maxNotificationInterval=500"
"""Milliseconds. By itself a server that waits long for others asks them once a minute."""


def ensemble(name: str) -> Ensemble:
    """Three servers of a product, to be closed by the caller: ``zookeeper``, ``etcd`` or ``etcd36``.

    Raises:
        ServiceUnavailable: the program is not on this machine.
        ServiceError: there is no such ensemble, or they do not find each other.
    """
    product = PRODUCTS.get(name)
    configure = _PRODUCTS.get(product.scheme) if product is not None else None
    if product is None or configure is None:
        raise ServiceError(f"the kit makes no ensemble of {name!r}, only of {', '.join(_PRODUCTS)}")
    prepare = product.local()
    if isinstance(prepare, str):
        raise ServiceUnavailable(name, prepare, product.remedy)
    return configure(prepare, Path(tempfile.mkdtemp(prefix=f"sofa-{name}-")))


def _etcd(prepare: Prepare, folder: Path) -> Ensemble:
    ports, peers = _ports(2)
    everybody = ",".join(f"m{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))

    def command(number: int) -> Sequence[str]:
        place = f"http://127.0.0.1:{peers[number]}"
        own = (f"--name=m{number}", f"--listen-peer-urls={place}", f"--initial-advertise-peer-urls={place}")
        alone = prepare(folder / f"m{number}", ports[number], True)  # noqa: FBT003 - the shape of Prepare
        words = [word for word in alone if "peer-urls" not in word and "initial-cluster" not in word]
        return [*words, *own, f"--initial-cluster={everybody}"]

    members = [
        Member(number, ports[number], folder / f"m{number}", partial(command, number)) for number in range(COUNT)
    ]
    return Ensemble("etcd", members, folder, leads=_etcd_leads, lines={})


def _etcd_leads(member: Member) -> bool | None:
    connection = HTTPConnection(member.host, member.port, timeout=_ASKING)
    try:
        connection.request("POST", "/v3/maintenance/status", "{}")
        status = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    leader = status.get("leader", "0")
    return None if leader == "0" else bool(leader == status["header"]["member_id"])


def _zookeeper(prepare: Prepare, folder: Path) -> Ensemble:
    ports, quorum, election = _ports(3)
    lines = {
        (one, other): NetProxy(("127.0.0.1", quorum[other]))
        for one in range(COUNT)
        for other in range(COUNT)
        if one != other
    }

    def command(number: int) -> Sequence[str]:
        directory = folder / f"m{number}"
        java, *words = prepare(directory, ports[number], True)  # noqa: FBT003 - the shape of Prepare
        (directory / "data").mkdir(exist_ok=True)
        (directory / "data" / "myid").write_text(f"{number + 1}\n")
        configuration = Path(words[-1])
        text = re.sub(r"(?m)^(syncLimit|initLimit)=.*$", rf"\1={_TICKS}", configuration.read_text())
        places = {other: lines[number, other].port if other != number else quorum[other] for other in range(COUNT)}
        servers = "".join(
            f"server.{one + 1}=127.0.0.1:{port}:{election[one]};127.0.0.1:{ports[one]}\n"
            for one, port in places.items()
        )
        # The port of clients is said among the servers.
        text = re.sub(r"(?m)^clientPort.*\n", "", text)
        configuration.write_text(text + servers)
        return [java, _QUICK_ELECTIONS, *words]

    members = [
        Member(number, ports[number], folder / f"m{number}", partial(command, number)) for number in range(COUNT)
    ]
    return Ensemble("zookeeper", members, folder, leads=_zookeeper_leads, lines=lines)


def _zookeeper_leads(member: Member) -> bool | None:
    try:
        with socket.create_connection((member.host, member.port), timeout=_ASKING) as connection:
            connection.sendall(b"srvr")
            answer = connection.recv(4096).decode(errors="replace")
    except OSError:
        return None
    mode = re.search(r"^Mode: (\w+)", answer, re.MULTILINE)
    return mode[1] == "leader" if mode else None


def _ports(kinds: int) -> list[list[int]]:
    """For each kind one for each member, all different."""
    found: set[int] = set()
    while len(found) < kinds * COUNT:
        found.add(free_port("127.0.0.1"))
    ports = sorted(found)
    return [ports[kind * COUNT : (kind + 1) * COUNT] for kind in range(kinds)]


_PRODUCTS: Mapping[str, Callable[[Prepare, Path], Ensemble]] = {"zookeeper": _zookeeper, "etcd": _etcd}
