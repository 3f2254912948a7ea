"""Rows of who is let in: passwords and rights that change, and certificates of both sides."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from matrix.cell import Cell, listed
from matrix.places import place
from matrix.scene import Scene
from matrix.table import row
from sofa_registry_adapters.errors import Denied, RegistryError, Unavailable
from sofa_registry_adapters.registry import Registry
from sofa_registry_adapters.testing.access_sites import GuardedSite, SecuredSite
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.faults.site import Site
from sofa_registry_adapters.testing.services.users import accounts_of

ACCOUNTS = "a login is wanted"
CERTIFICATES = "TLS"
PRODUCTS = ("redis", "zookeeper", "etcd", "nacos")
A_FILE = {"local": "a file has the rights of the system, and no line to it"}
MINE = "10.0.9.1:1"
TIMEOUT = 2.0


def _guarded(name: str) -> Site:
    return GuardedSite(accounts_of(name))


for _name in PRODUCTS:
    place(ACCOUNTS, _name)(partial(_guarded, _name))
    place(CERTIFICATES, _name)(partial(SecuredSite, _name))


@row(
    15,
    "a client starts with a wrong password, or with none",
    *("I1", "I2", "I3", "I7", "I10"),
    part="start",
    place=ACCOUNTS,
    absent=A_FILE,
)
def wrong_at_start(cell: Cell) -> None:
    site = _guarded_site(cell)
    with Scene(cell) as scene:
        scene.guard()
        for login in ((site.accounts.user, "wrong-" + site.accounts.password), None):
            with Registry(site.url, options=cell.options, credentials=(lambda: login) if login else None) as stranger:  # noqa: B023
                _denied(cell, stranger, scene)
        scene.settled("for those with the right one", cell.told)


def _guarded_site(cell: Cell) -> GuardedSite:
    assert isinstance(cell.site, GuardedSite)
    return cell.site


def _denied(cell: Cell, client: Registry, scene: Scene) -> None:
    """Every verb is refused as what it is, in time, and nobody reads the password in what it says."""
    verbs: dict[str, Callable[[], object]] = {
        "publish": lambda: client.publish(scene.first, MINE, timeout=TIMEOUT),
        "lookup": lambda: client.lookup(scene.first, timeout=TIMEOUT),
        "subscribe": lambda: client.subscribe(scene.first, lambda _: None, timeout=TIMEOUT),
    }
    for name, verb in verbs.items():
        error = cell.ends(name, TIMEOUT, verb)
        assert isinstance(error, Denied), f"{name} said {error!r}"
        assert _guarded_site(cell).accounts.password not in f"{error} {error!r}"


@row(
    15,
    "the server takes a client's rights away, and gives them back",
    *("I1", "I2", "I3", "I7", "I10"),
    part="revoked",
    place=ACCOUNTS,
    absent=A_FILE,
)
def revoked(cell: Cell) -> None:
    with Scene(cell) as scene:
        scene.guard()
        began = time.monotonic()
        with cell.hurt("denied"):
            error = cell.ends("publish", TIMEOUT, lambda: scene.provider.publish("late", MINE, timeout=TIMEOUT))
            assert isinstance(error, Denied), repr(error)
            time.sleep(min(cell.lease, 5.0) * 1.3)
        # Whoever was refused tries again after at most as long as it has been refused.
        pause = time.monotonic() - began
        scene.settled("when they are given back", cell.bounds.heal + pause)
        scene.flows(7)


@row(
    15,
    "the password is replaced at the server, and some time later where clients find it",
    *("I1", "I2", "I3", "I7"),
    part="replaced",
    place=ACCOUNTS,
    absent=A_FILE,
)
def replaced(cell: Cell) -> None:
    site = _guarded_site(cell)
    with Scene(cell) as scene:
        scene.guard()
        began = time.monotonic()
        site.accounts.replace()
        for client in ("provider", "consumer"):
            site.line(client).cut()
        bound = site.accounts.notices_within + cell.bounds.heal
        eventually(lambda: _refused(scene.provider), bound, "the old one is not taken any more")
        time.sleep(min(cell.lease, 5.0) * 1.3)
        site.learn()
        if "hang_up" in site.abilities:
            # Of ZooKeeper whoever is connected stays who it was when it connected.
            site.hang_up()
        pause = time.monotonic() - began
        scene.settled("when clients have the new one", cell.bounds.heal + pause)
        scene.flows(7)


def _refused(client: Registry) -> bool:
    """Whether nothing can be published: a client that was let in before waits for that to come back, as after an outage."""
    try:
        client.publish("late", MINE, timeout=TIMEOUT).unpublish(timeout=TIMEOUT)
    except RegistryError:
        return True
    return False


@row(
    16,
    "the server comes back with another certificate: a renewed one, one of another host, one that is over, a stranger's",
    *("I1", "I2", "I3", "I5", "I7"),
    part="server",
    place=CERTIFICATES,
    absent=A_FILE,
)
def server_certificates(cell: Cell) -> None:
    site = _secured_site(cell)
    with Scene(cell) as scene:
        site.show()
        scene.settled("with a renewed one", cell.back)
        for name, show in {
            "of another host": lambda: site.show("elsewhere.example"),
            "that is over": lambda: site.show(expired=True),
            "of a stranger": lambda: site.show(authority="strange"),
        }.items():
            show()
            _refuses(cell, scene, f"one {name}")
            site.show()
            scene.settled(f"after one {name}", cell.bounds.heal)
        scene.flows(7)


@row(
    16,
    "both sides change to another authority, the server first",
    *("I1", "I2", "I3", "I5", "I7"),
    part="authority",
    place=CERTIFICATES,
    absent=A_FILE,
)
def authority(cell: Cell) -> None:
    site = _secured_site(cell)
    try:
        with Scene(cell) as scene:
            site.show(authority="strange")
            _refuses(cell, scene, "an authority that clients do not know yet")
            site.trust("strange")
            scene.settled("when clients have its certificate", cell.bounds.heal)
            scene.flows(7)
    finally:
        site.trust()
        site.show()


@row(
    16,
    "the certificate of clients is replaced by one of a stranger, and then by a good one",
    *("I1", "I2", "I3", "I5", "I7"),
    part="client",
    place=CERTIFICATES,
    absent={**A_FILE, "nacos": "not played: the kit's Nacos takes the certificate of any client"},
)
def client_certificates(cell: Cell) -> None:
    site = _secured_site(cell)
    try:
        with Scene(cell) as scene:
            site.carry("strange")
            for client in ("provider", "consumer"):
                site.line(client).cut()
            cell.within("I5", "views say that they are stale", scene.stale, cell.bounds.stale)
            error = cell.ends("publish", TIMEOUT, lambda: scene.provider.publish("late", MINE, timeout=TIMEOUT))
            assert isinstance(error, Unavailable | Denied), repr(error)
            time.sleep(min(cell.lease, 5.0) * 1.3)
            site.carry()
            scene.settled("with a good one again", cell.bounds.heal)
            scene.flows(7)
    finally:
        site.carry()


def _secured_site(cell: Cell) -> SecuredSite:
    assert isinstance(cell.site, SecuredSite)
    return cell.site


def _refuses(cell: Cell, scene: Scene, what: str) -> None:
    """Nobody speaks to such a server, however often it is tried; views stay, and say that they are stale."""
    cell.within("I5", f"views say that they are stale, with {what}", scene.stale, cell.bounds.stale)
    cell.stays(
        "I5",
        f"nobody believes {what}",
        lambda: scene.stale() and listed(scene.reader, scene.first) is None,
        min(cell.lease, 5.0) * 1.3,
    )
