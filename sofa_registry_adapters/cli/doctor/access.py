"""Signing in, reading, writing, the version and the clock: on the store itself, as an application would."""

from __future__ import annotations

import contextlib
import secrets
from typing import NamedTuple

from sofa_registry_adapters.cli.doctor.findings import Finding, Report, Severity, Step, Stop
from sofa_registry_adapters.cli.doctor.network import Endpoint, silent
from sofa_registry_adapters.cli.doctor.setting import Setting
from sofa_registry_adapters.cli.doctor.strangers import SCHEMES, Stranger, ask_who
from sofa_registry_adapters.engine.reactor import bounded
from sofa_registry_adapters.errors import CorruptStore, Denied, RegistryError, Unavailable, Unsupported
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.diagnosis import DiagnosableStore, Diagnosis
from sofa_registry_adapters.spi.layout import ServiceLayout
from sofa_registry_adapters.spi.store import Bucket, ListableStore, Record, RecordKey, RecordStore

PROBE = "~doctor"
"""The bucket of probe records; no service has this name, since an encoded name has no ``~``."""
SKEW = 5.0
"""Seconds that two clocks may differ before it is a finding."""


class Probe(NamedTuple):
    """What came of writing and asking: who refused what, and the wall clock before and after, in milliseconds."""

    refused: RegistryError | None
    left: RegistryError | None
    diagnosis: Diagnosis
    before: int
    after: int


async def sign_in(
    setting: Setting, store: RecordStore, endpoints: list[Endpoint], report: Report, timeout: float
) -> None:
    """Open the store. Raises `Stop` with the reason, as far as it can be found."""
    try:
        async with bounded(timeout, "signing in"):
            await store.open()
    except Denied as error:
        raise Stop(_denied(setting, error)) from None
    except CorruptStore as error:
        raise Stop(_finding("error", "login", "damaged-store", str(error))) from None
    except RegistryError as error:
        raise Stop(await _unopened(setting, endpoints, error, timeout)) from None
    user = setting.target.username
    report.passed("login", f"opened as the user {user!r}" if user else "opened")


def _denied(setting: Setting, error: Denied) -> Finding:
    advice = ""
    if setting.target.addresses:
        form = f"{setting.target.scheme}://user:password@host"
        given = setting.target.username or setting.target.password or setting.target.text("password_file")
        advice = f"Correct the user and the password: {form}" if given else f"Give a user and a password: {form}"
        advice += ", each percent-encoded."
    return _finding("error", "login", "wrong-credentials", str(error), advice)


async def _unopened(setting: Setting, endpoints: list[Endpoint], error: RegistryError, timeout: float) -> Finding:
    """Nobody refused it: perhaps somebody else is at that port."""
    for endpoint in endpoints if isinstance(error, Unavailable) and not setting.tls else ():
        who = await ask_who(endpoint.ip, endpoint.address.port, timeout)
        if who is Stranger.SILENT:
            return silent("login", endpoint, timeout)
        if who is not None and SCHEMES.get(who) not in setting.backend.schemes:
            return _stranger(setting, endpoint, who)
    advice = "Look at the server's log." if endpoints else ""
    return _finding("error", "login", "not-opened", str(error), advice)


def _stranger(setting: Setting, endpoint: Endpoint, who: Stranger) -> Finding:
    scheme = setting.target.scheme
    what = f"{endpoint} is {who.value}, and {scheme}:// needs another one: {setting.backend.summary}"
    advice = "Correct the port."
    if who is Stranger.TLS:
        what = f"{endpoint} speaks TLS, and {scheme}:// does not"
        advice = f"Write {setting.backend.tls[0]}:// instead." if setting.backend.tls else advice
    elif who in SCHEMES:
        advice = f"Write {SCHEMES[who]}:// if that is the registry, or correct the port."
    return _finding("error", "login", "other-product", what, advice)


async def check_reading(setting: Setting, store: RecordStore, timeout: float) -> RegistryError | None:
    """Why services cannot be read and listed; None if they can."""
    try:
        async with bounded(timeout, "reading"):
            await store.read(Bucket(_probe_path(setting.layout)))
            with contextlib.suppress(Unsupported):
                await list_services(store, setting.layout)
    except RegistryError as error:
        return error
    return None


async def list_services(store: RecordStore, layout: ServiceLayout) -> list[str]:
    """The names of the buckets of services. Raises `Unsupported` where nobody can say."""
    root = layout.root()
    if not isinstance(store, ListableStore):
        raise Unsupported("this store cannot list its buckets")
    return [name for name in await store.buckets(root) if name != PROBE]


def _probe_path(layout: ServiceLayout) -> tuple[str, ...]:
    with contextlib.suppress(Unsupported):
        return (*layout.root(), PROBE)
    return (PROBE,)


async def probe(setting: Setting, store: RecordStore, clock: Clock, timeout: float) -> Probe:
    """Write a record that nobody takes for an instance, ask the product, remove it."""
    key = RecordKey(_probe_path(setting.layout), secrets.token_hex(8))
    before = clock.wall_ms()
    refused = await _put(store, Record(key.bucket, key.name, b"sofa-registry doctor"), timeout)
    diagnosis = Diagnosis()
    if isinstance(store, DiagnosableStore):
        with contextlib.suppress(RegistryError):
            async with bounded(timeout, "asking about the server"):
                diagnosis = await store.diagnose(key)
    after = clock.wall_ms()
    # A write of unknown outcome may have been done.
    left = None if isinstance(refused, Denied) else await _delete(store, key, timeout)
    return Probe(refused, left if refused is None else None, diagnosis, before, after)


async def _put(store: RecordStore, record: Record, timeout: float) -> RegistryError | None:
    try:
        async with bounded(timeout, "writing"):
            answer = (await store.put([record]))[record.key]
    except RegistryError as error:
        return error
    return answer if isinstance(answer, RegistryError) else None


async def _delete(store: RecordStore, key: RecordKey, timeout: float) -> RegistryError | None:
    try:
        async with bounded(timeout, "deleting"):
            return (await store.delete([key])).get(key)
    except RegistryError as error:
        return error


def judge_permission(setting: Setting, unread: RegistryError | None, seen: Probe, report: Report) -> None:
    """May it read, may it write? Raises `Stop` if it may not read, which an old server can be the reason for."""
    who = f"the user {setting.target.username!r}" if setting.target.username else "a user without a name"
    rights = f"sofa-registry backends {setting.target.scheme} says which rights are needed."
    if isinstance(unread, Denied):
        what = f"{who} may not read here: {unread}"
        raise Stop(_finding("error", "permission", "may-not-read", what, rights))
    if isinstance(seen.refused, Denied):
        what = f"{who} may read, but not write: {seen.refused}"
        advice = f"Consumers need no more, publishers do: {rights}"
        report.findings.append(_finding("warning", "permission", "may-not-write", what, advice))
    elif (error := unread or seen.refused) is not None and not seen.diagnosis.needs:
        code, verb = ("read-failed", "read") if unread else ("write-failed", "write")
        report.findings.append(_finding("error", "permission", code, f"an attempt to {verb} failed: {error}"))
        if unread:
            raise Stop(report.findings.pop())
    elif seen.left is not None:
        what = f"the record that doctor wrote cannot be removed: {seen.left}. It vanishes with this process"
        report.findings.append(_finding("warning", "permission", "probe-left", what))
    report.passed("permission", "may read" if seen.refused or unread else "may read and write")


def judge_version(seen: Probe, report: Report, *, unread: bool) -> None:
    """Is the server new enough? Raises `Stop` if that is why nothing can be read."""
    told = seen.diagnosis
    if told.needs:
        what = f"the server is {told.server or 'too old'}, and {told.needs} is needed"
        finding = _finding("error", "version", "old-server", what, "Upgrade the server.")
        if unread:
            raise Stop(finding)
        report.findings.append(finding)
    for remark in told.remarks:
        report.findings.append(_finding("warning", "version", "configuration", remark))
    report.passed("version", told.server or "the product has none, or does not tell it to this user")


def judge_clock(seen: Probe, report: Report) -> None:
    """Do this machine and the server agree on the time? The server read its clock between our two looks at ours."""
    theirs = seen.diagnosis.clock
    if theirs is None:
        report.passed("clock", "the product has none of its own, or does not tell it to this user")
        return
    skew = max(0, theirs - seen.after) - max(0, seen.before - theirs)
    if abs(skew) > SKEW * 1000:
        way = "ahead of" if skew > 0 else "behind"
        what = f"the server's clock is {abs(skew) / 1000:.0f} s {way} this machine's"
        advice = "Set both by NTP: of two publishers with one id the one with the later 'started' holds it."
        report.findings.append(_finding("warning", "clock", "clock-skew", what, advice))
    report.passed("clock", f"differs by {abs(skew) / 1000:.1f} s")


def _finding(severity: Severity, step: Step, code: str, what: str, advice: str = "") -> Finding:
    return Finding(severity=severity, step=step, code=code, what=what, advice=advice)
