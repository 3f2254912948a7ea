"""Name resolution, TCP and TLS: each on connections of its own, before any client library has a say."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import NamedTuple

import msgspec

from sofa_registry_adapters.cli.doctor.findings import Finding, Report, Step, Stop
from sofa_registry_adapters.cli.doctor.setting import Setting
from sofa_registry_adapters.cli.doctor.strangers import Stranger, ask_who
from sofa_registry_adapters.model.instance import join_address
from sofa_registry_adapters.spi.options import Address


class Endpoint(NamedTuple):
    """One server of the URL, and one of its IP addresses."""

    address: Address
    ip: str

    def __str__(self) -> str:
        named = join_address(self.address.host, self.address.port)
        return named if self.ip == self.address.host else f"{named} ({self.ip})"


async def find_names(setting: Setting, report: Report, timeout: float) -> list[Endpoint]:
    """The IP addresses of the servers; those without one are findings. Raises `Stop` if there is none at all."""
    found: list[Endpoint] = []
    troubles: list[Finding] = []
    for address in setting.target.addresses:
        try:
            found += [Endpoint(address, ip) for ip in await resolve(address.host, timeout)]
        except (OSError, TimeoutError, UnicodeError) as error:
            troubles.append(_unresolved(address.host, error, timeout))
    _settle(report, troubles, good=bool(found))
    shown = {one.address.host: one.ip for one in found if one.ip != one.address.host}
    names = ", ".join(f"{name} is {ip}" for name, ip in shown.items())
    report.passed("name", names or "the URL has IP addresses")
    return found


async def resolve(host: str, timeout: float) -> list[str]:
    """The IP addresses of a host. Raises OSError, TimeoutError or UnicodeError."""
    async with asyncio.timeout(timeout):
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _unresolved(host: str, error: Exception, timeout: float) -> Finding:
    if isinstance(error, TimeoutError):
        what = f"the name servers gave no answer about {host!r} within {timeout:g} s"
        advice = "Look at this machine's name servers and its way to them."
        return _finding("name", "no-name-server", what, advice)
    reason = error.strerror if isinstance(error, OSError) else str(error)
    advice = "Correct the host in the URL, or make the name known to this machine's DNS or hosts file."
    return _finding("name", "unknown-host", f"no address is known for the host {host!r}: {reason}", advice)


async def find_ports(setting: Setting, endpoints: list[Endpoint], report: Report, timeout: float) -> list[Endpoint]:
    """Who accepts a connection. Raises `Stop` if nobody does."""
    tried = [(endpoint, await _try_port(setting, endpoint, timeout)) for endpoint in endpoints]
    open_ones = [endpoint for endpoint, trouble in tried if trouble is None]
    # A host of which one address answers is reached.
    reached = {one.address for one in open_ones}
    lost = [trouble for endpoint, trouble in tried if trouble is not None and endpoint.address not in reached]
    _settle(report, lost, good=bool(open_ones))
    verb = "accept" if len(open_ones) > 1 else "accepts"
    report.passed("tcp", f"{', '.join(map(str, open_ones))} {verb} connections")
    return open_ones


async def _try_port(setting: Setting, endpoint: Endpoint, timeout: float) -> Finding | None:
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(endpoint.ip, endpoint.address.port)
    except TimeoutError:
        what = f"{endpoint} gave no answer to a connection attempt within {timeout:g} s"
        advice = "Its host is down, or a firewall between drops what is sent there: correct the host, or open the way."
        return _finding("tcp", "no-answer", what, advice)
    except ConnectionRefusedError:
        what = f"{endpoint} refuses connections: nothing listens on that port"
        default = f" ({setting.target.scheme}:// means {setting.backend.default_port} without one)"
        advice = f"Start the server, or correct the port in the URL{default if setting.backend.default_port else ''}."
        return _finding("tcp", "refused", what, advice)
    except OSError as error:
        what = f"{endpoint} cannot be reached: {error.strerror or error}"
        return _finding("tcp", "unreachable", what, "Look at the route from this machine to that host.")
    await part(writer)
    return None


async def check_tls(setting: Setting, endpoints: list[Endpoint], report: Report, timeout: float) -> None:
    """One handshake a server, the certificate and its name verified. Raises `Stop` if none succeeds."""
    if not setting.tls:
        return
    context = _context(setting)
    versions: list[str] = []
    troubles: list[Finding] = []
    for endpoint in endpoints:
        answer = await _shake(context, setting, endpoint, timeout)
        if isinstance(answer, Finding):
            troubles.append(answer)
        else:
            versions.append(answer)
    _settle(report, troubles, good=bool(versions))
    report.passed("tls", f"{versions[0]}, the certificate and its name are good")


def _context(setting: Setting) -> ssl.SSLContext:
    target = setting.target
    try:
        context = ssl.create_default_context(cafile=target.text("ca") or None)
        if certificate := target.text("cert"):
            context.load_cert_chain(certificate, target.text("key") or None)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or error.reason if isinstance(error, ssl.SSLError) else error.strerror
        what = f"a file that the options ca, cert and key name cannot be used: {reason}"
        raise Stop(
            _finding("tls", "certificate-file", what, "Name files in PEM format that this user may read.")
        ) from None
    return context


async def _shake(context: ssl.SSLContext, setting: Setting, endpoint: Endpoint, timeout: float) -> str | Finding:
    host = endpoint.address.host
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(
                endpoint.ip, endpoint.address.port, ssl=context, server_hostname=host
            )
    except ssl.SSLCertVerificationError as error:
        what = f"the certificate of {endpoint} is not accepted: {error.verify_message or error.reason}"
        advice = (
            "Name the file with the certificate that signs it with the option ca, and the host as the certificate does."
        )
        return _finding("tls", "certificate", what, advice)
    except (OSError, TimeoutError) as error:
        return await _no_tls(setting, endpoint, error, timeout)
    version = str(writer.get_extra_info("ssl_object").version())
    await part(writer)
    return version


async def _no_tls(setting: Setting, endpoint: Endpoint, error: OSError, timeout: float) -> Finding:
    who = await ask_who(endpoint.ip, endpoint.address.port, timeout)
    if who is Stranger.SILENT:
        return silent("tls", endpoint, timeout)
    if who is Stranger.TLS:
        reason = getattr(error, "reason", None) or error.strerror or error
        what = f"{endpoint} ends the TLS handshake: {reason}"
        return _finding(
            "tls", "handshake", what, "Look at what it demands: a client's certificate, another version of TLS."
        )
    kind = f": without it, it answers like {who.value}" if who else ""
    what = f"{endpoint} does not speak TLS{kind}"
    advice = (
        f"Write {setting.plain_scheme}:// instead of {setting.target.scheme}://, or the port on which it speaks TLS."
    )
    return _finding("tls", "no-tls", what, advice)


def silent(step: Step, endpoint: Endpoint, timeout: float) -> Finding:
    """A server that accepts and says nothing."""
    what = f"{endpoint} accepts connections and gave no answer within {timeout:g} s"
    advice = "The server hangs, or a proxy or firewall swallows what is sent: try it from the server's own machine."
    return _finding(step, "silent", what, advice)


async def part(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever the other side does."""
    writer.transport.abort()
    await asyncio.sleep(0)


def _finding(step: Step, code: str, what: str, advice: str) -> Finding:
    return Finding(severity="error", step=step, code=code, what=what, advice=advice)


def _settle(report: Report, troubles: list[Finding], *, good: bool) -> None:
    """One server that works is enough to go on; without one the first trouble ends it."""
    if not good and troubles:
        report.findings += troubles[:-1]
        raise Stop(troubles[-1])
    report.findings += [msgspec.structs.replace(one, severity="warning") for one in troubles]
