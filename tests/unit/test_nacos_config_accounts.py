"""The accounts of Nacos as a config center."""

from __future__ import annotations

import logging
import time
from urllib.parse import urlsplit

import pytest
from nacos_center import KEY, Stranger, space

from sofa_registry_adapters import ConfigCenter
from sofa_registry_adapters.errors import Denied, RegistryError
from sofa_registry_adapters.testing.faults import eventually
from sofa_registry_adapters.testing.plugin import OwnNacos
from sofa_registry_adapters.testing.services import Service
from sofa_registry_adapters.testing.services.local import LocalService

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["space"]

pytestmark = pytest.mark.timeout(300)

PASSWORD = "a password: 'ü/@%'"


class TestAccounts:
    @pytest.fixture
    def server(self, own_nacos: OwnNacos) -> Service:
        return own_nacos(password=PASSWORD)

    @pytest.fixture
    def token(self, server: Service) -> str:
        admin = Stranger(server, 3, "")
        return str(admin.call("POST", "/v3/auth/user/login", username="nacos", password=PASSWORD)["accessToken"])

    def test_a_wrong_password_is_denied_at_once_and_not_taken_for_healthy(self, server: Service) -> None:
        parts = urlsplit(server.url)
        url = parts._replace(netloc=f"nacos:wrong@{server.host}:{server.port}").geturl()
        began = time.monotonic()
        with ConfigCenter(url, options={"snapshot": "off"}) as center, pytest.raises(Denied, match="the user 'nacos'"):
            center.get(KEY)
        assert time.monotonic() - began < 3

    def test_nobody_is_denied(self, server: Service) -> None:
        url = f"nacos://{server.host}:{server.port}"
        with ConfigCenter(url, options={"snapshot": "off"}) as center:
            for verb in (lambda: center.get(KEY), lambda: center.publish(KEY, "x"), lambda: center.remove(KEY)):
                with pytest.raises(Denied):
                    verb()

    def test_a_listener_without_permission_is_not_silent(self, server: Service, space: str, token: str) -> None:
        admin, user = Stranger(server, 3, "", token), f"u{space[:8]}"
        admin.call("POST", "/v3/auth/user", username=user, password="x")
        admin.call("POST", "/v3/auth/role", role=f"r{user}", username=user)
        admin.call("POST", "/v3/auth/permission", role=f"r{user}", resource=f"{space}:*:*", action="r")
        url = f"nacos://{user}:x@{server.host}:{server.port}"

        def denied() -> bool:
            """Permissions are read by the server every fifteen seconds."""
            with ConfigCenter(f"{url}/{space}", options={"snapshot": "off"}) as center:
                try:
                    center.get(KEY)
                except Denied:
                    return True
                return False

        eventually(lambda: not denied(), 40, "the permission is there")
        with ConfigCenter(f"{url}/{space}", options={"snapshot": "off"}) as center:
            center.add_listener(KEY, lambda _: None)
            with pytest.raises(Denied):
                center.publish(KEY, "x")
        with ConfigCenter(f"{url}/elsewhere", options={"snapshot": "off"}) as center, pytest.raises(Denied):
            center.add_listener(KEY, lambda _: None)

    def test_no_secret_is_logged(self, server: Service, space: str, caplog: pytest.LogCaptureFixture) -> None:
        with (
            caplog.at_level(logging.DEBUG),
            ConfigCenter(f"{server.url}/{space}", options={"snapshot": "off"}) as center,
        ):
            center.publish(KEY, "x")
            center.get(KEY)
            session = center._opened()
            token = session.engine.backend._transport._access._token
        assert token
        said = caplog.text + repr(center) + str(vars(session.engine))
        for secret in (PASSWORD, urlsplit(server.url).password or "", token):
            assert secret not in said

    def test_a_server_with_another_token_secret_is_logged_in_to_again(self, server: Service, space: str) -> None:
        assert isinstance(server, LocalService)
        seen: list[object] = []
        with ConfigCenter(f"{server.url}/{space}", options={"snapshot": "off"}) as center:
            center.publish(KEY, "before")
            center.add_listener(KEY, lambda change: seen.append(change.item and change.item.content))
            (server.directory / "conf" / "secrets.json").unlink()
            server.restart()

            def publishes() -> bool:
                try:
                    return bool(center.publish(KEY, "after", timeout=1.0))
                except RegistryError:
                    return False

            eventually(publishes, 10, "the new secret makes no difference")
            eventually(lambda: seen == ["before", "after"], 10, "listening goes on")
