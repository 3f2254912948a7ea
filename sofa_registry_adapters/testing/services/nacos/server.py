"""Nacos as a product of the kit: its configuration, and the answers by which it is known to be ready."""

from __future__ import annotations

import base64
import functools
import json
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote, urlencode

from sofa_registry_adapters.testing.services.nacos.jars import LINES, MAIN, FetchFailed, Line, class_path
from sofa_registry_adapters.testing.services.product import (
    QUICK_START_FLAGS,
    Image,
    Prepare,
    Product,
    java_program,
)

USER = "nacos"
"""The account that a server with a password has; it may do everything."""

_PORT = 8848
_GRPC = 1000
_PEERS = 1001
_RAFT = -1000
_LOGIN = "/nacos/v3/auth/user/login"
_FIRST_PASSWORD = "/nacos/v3/auth/user/admin"  # noqa: S105 - a path
_ANSWERS = {200, 401, 403}


def product(
    line: int = 3, *, password: str = "", push_delay: float = 0.5, settings: Mapping[str, str] | None = None
) -> Product:
    """Nacos of the line 2 or 3, for `find_service`.

    With a `password` the server wants a login, and the account `USER` has that password; line 3 only, since the jars of line
    2 come without accounts. `push_delay` is how long a server waits before it tells subscribers of a change, in seconds;
    half a second is what Nacos does by itself. `settings` are further lines of its application.properties, for a server of this
    machine.
    """
    chosen = LINES[line]
    if password and not chosen.has_accounts:
        message = f"Nacos {chosen.version} of the test kit has no accounts; take line 3 for a password"
        raise ValueError(message)
    milliseconds = round(push_delay * 1000)
    asked = _settings(accounts=bool(password), milliseconds=milliseconds) | dict(settings or {})
    return Product(
        name="nacos" if line == max(LINES) else f"nacos{line}",
        scheme="nacos",
        user=f"{USER}:{quote(password, safe='')}" if password else "",
        port=_PORT,
        package="maven default-jdk-headless",
        image=Image(
            name=f"nacos/nacos-server:v{chosen.version.partition('-')[0]}",
            port=_PORT,
            command=lambda _: None,
            environment=_container_environment(password, milliseconds),
        ),
        probe=functools.partial(_probe, chosen, password),
        local=functools.partial(_local, chosen, asked),
        offsets=(0, _GRPC),
        inner_offsets=(_PEERS, _RAFT),
        start_seconds=120.0,
        # Its database gives up on a machine that is busy for ten seconds.
        stumbles="Login timeout exceeded",
    )


def _container_environment(password: str, milliseconds: int) -> Mapping[str, str]:
    accounts = {
        "NACOS_AUTH_ENABLE": "true",
        "NACOS_AUTH_TOKEN": _random(),
        "NACOS_AUTH_IDENTITY_KEY": _random(),
        "NACOS_AUTH_IDENTITY_VALUE": _random(),
    }
    usual = {"MODE": "standalone", "NACOS_PUSH_DELAY_MS": str(milliseconds)}
    return usual | accounts if password else usual


def _random() -> str:
    return base64.b64encode(secrets.token_bytes(48)).decode()


def _probe(line: Line, password: str, host: str, port: int, timeout: float) -> str:
    """It serves both ports, and with a password it lets its user in, which it does some seconds later."""
    try:
        status = _ask(host, port, timeout, line.ready)
        if status not in _ANSWERS:
            return f"it answered {line.ready} with status {status}"
        with socket.create_connection((host, port + _GRPC), timeout=timeout):
            pass
        return _log_in(password, host, port, timeout) if password else ""
    except (OSError, HTTPException) as error:
        return f"{type(error).__name__}: {error}"


def _log_in(password: str, host: str, port: int, timeout: float) -> str:
    """Log in; a new server has an administrator without a password, who is given one."""
    status = _ask(host, port, timeout, _LOGIN, {"username": USER, "password": password})
    if status == 200:
        return ""
    _ask(host, port, timeout, _FIRST_PASSWORD, {"password": password})
    return f"it answered the login of {USER} with status {status}"


def _ask(host: str, port: int, timeout: float, path: str, form: Mapping[str, str] | None = None) -> int:
    """The status of a GET, or of a POST of the form."""
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        if form is None:
            connection.request("GET", path)
        else:
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", path, urlencode(form), kind)
        return connection.getresponse().status
    finally:
        connection.close()


def _local(line: Line, asked: Mapping[str, str]) -> Prepare | str:
    java = java_program("java")
    if java is None:
        return "no java on the PATH or in JAVA_HOME"
    try:
        places = class_path(line)
    except FetchFailed as error:
        return str(error)

    def prepare(directory: Path, port: int, _: bool) -> Sequence[str]:  # noqa: FBT001
        drop_half_made(directory)
        # The first name is that of line 3, the second that of line 2.
        ports = {"nacos.server.main.port": str(port), "server.port": str(port)}
        settings = {**asked, **ports, **_secrets(directory)}
        configuration = directory / "conf" / "application.properties"
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        memory = ["-Xms64m", "-Xmx512m"]
        names = [f"-Dnacos.home={directory}", "-Dnacos.standalone=true", "-Dnacos.deployment.type=server"]
        own = [f"--spring.config.additional-location=file:{configuration.parent}/", *_SPRING_OPTIONS[line.number]]
        return [java, *memory, *QUICK_START_FLAGS, "-Djava.awt.headless=true", *names, "-cp", places, MAIN, *own]

    return prepare


def drop_half_made(directory: Path) -> None:
    """Remove a database that a server had begun to make when it ended: with it no server starts, and nothing was ever in it."""
    database = directory / "data" / "derby-data"
    if database.exists() and not (database / "service.properties").exists():
        shutil.rmtree(database)


def _secrets(directory: Path) -> dict[str, str]:
    """What tokens are signed with: kept with the data, so that they outlive a restart."""
    kept = directory / "conf" / "secrets.json"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        kept.touch(mode=0o600)
        names = ("plugin.nacos.token.secret.key", "server.identity.key", "server.identity.value")
        kept.write_text(json.dumps({f"nacos.core.auth.{name}": _random() for name in names}))
    return dict(json.loads(kept.read_text()))


def _settings(*, accounts: bool, milliseconds: int) -> dict[str, str]:
    flag = str(accounts).lower()
    return {
        "server.address": "127.0.0.1",
        # As with the ports: line 3, line 2.
        "nacos.server.contextPath": "/nacos",
        "server.servlet.contextPath": "/nacos",
        "nacos.inetutils.ip-address": "127.0.0.1",
        "nacos.naming.push.pushTaskDelay": str(milliseconds),
        "nacos.core.auth.system.type": "nacos",
        "nacos.core.auth.enabled": flag,
        "nacos.core.auth.admin.enabled": flag,
        "nacos.core.auth.console.enabled": flag,
        "nacos.core.auth.caching.enabled": "true",
        "nacos.core.auth.enable.userAgentAuthWhite": "false",
        "nacos.core.auth.plugin.nacos.token.expire.seconds": "18000",
        "nacos.istio.mcp.server.enabled": "false",
        "server.tomcat.accesslog.enabled": "false",
        "server.error.include-message": "ALWAYS",
        "management.metrics.export.elastic.enabled": "false",
        "management.metrics.export.influx.enabled": "false",
        "spring.main.banner-mode": "off",
    }


_SPRING_SECURITY = ",".join(
    f"org.springframework.boot.{name}"
    for name in (
        "autoconfigure.security.servlet.SecurityAutoConfiguration",
        "autoconfigure.security.servlet.SecurityFilterAutoConfiguration",
        "autoconfigure.security.servlet.UserDetailsServiceAutoConfiguration",
        "actuate.autoconfigure.security.servlet.ManagementWebSecurityAutoConfiguration",
    )
)
_SPRING_OPTIONS: Mapping[int, Sequence[str]] = {
    # Spring would ask for a login on every URL where no plug-in of Nacos says how.
    2: (f"--spring.autoconfigure.exclude={_SPRING_SECURITY}",),
    3: (),
}
