"""Nacos, a password that is changed at the server first: the token that a process holds is good until it ends, and so is the process."""

from __future__ import annotations

import json
import logging
import secrets
import time
import uuid
from http.client import HTTPConnection
from urllib.parse import urlencode

import pytest

from sofa_registry_adapters import Registry
from sofa_registry_adapters.errors import RegistryError
from sofa_registry_adapters.events import BackendLost
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.plugin import OwnNacos
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.services.nacos.server import USER

TOKEN = 20.0
"""Seconds that a token is good for; after four fifths of them the next one is fetched."""


def asked(service: Service, verb: str, path: str, **form: str) -> bytes:
    connection = HTTPConnection(service.host, service.port, timeout=10)
    try:
        connection.request(verb, f"/nacos/v3/auth/user{path}?{urlencode(form)}")
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        return answer.read()
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_login_that_is_refused_while_the_token_is_good(own_nacos: OwnNacos, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing fails, and a warning says what is going to; with the new password in time nothing ever does."""
    password, replaced = (secrets.token_hex(8) for _ in range(2))
    settings = {"nacos.core.auth.plugin.nacos.token.expire.seconds": str(round(TOKEN))}
    server = own_nacos(password=password, settings=settings)
    given, name, lost = [password], f"rotated-{uuid.uuid4().hex[:8]}", []
    place = server.url.rpartition("@")[2].removeprefix("nacos://")
    options = {"snapshot": "off", "allow_loopback": True}
    with Registry(f"nacos://{place}", options=options, credentials=lambda: (USER, given[0])) as registry:
        registry.events.on(BackendLost, lost.append)
        registry.publish(name, "127.0.0.1:12200")
        since = time.monotonic()
        token = json.loads(asked(server, "POST", "/login", username=USER, password=password))["accessToken"]
        asked(server, "PUT", "", accessToken=token, username=USER, newPassword=replaced)
        said = [0]
        with caplog.at_level(logging.WARNING, "sofa_registry_adapters"):
            while (passed := time.monotonic() - since) < 0.95 * TOKEN:
                registry.publish(f"{name}-{said[0]}", "127.0.0.1:12201").unpublish()
                assert passed < 0.8 * TOKEN or len(registry.lookup(name)) == 1
                said[0] += 1
                time.sleep(0.1)
        (warning,) = (one.getMessage() for one in caplog.records)
        assert "the token that there is goes on for" in warning
        assert not lost
        given[0] = replaced
        eventually(lambda: served(registry, name), 60, "the new password is used")
    assert not any(secret in one for one in caplog.messages for secret in (password, replaced, token))


def served(registry: Registry, name: str) -> bool:
    try:
        return len(registry.lookup(name)) == 1
    except RegistryError:
        return False
