"""What an operator does on a server, in the server's own words and without this library: accounts, roles, rights."""

from __future__ import annotations

import base64
import json
from http.client import HTTPConnection
from typing import Any

from sofa_registry_adapters.testing.services.service import Service, ServiceError


class EtcdOperator:
    """Requests to the gateway that every etcd has, as root once there is one."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._root = ""

    def ask(self, path: str, **body: object) -> Any:
        """A request under ``/v3/``. Raises `ServiceError` with what the server answers."""
        connection = HTTPConnection(self._service.host, self._service.port, timeout=5)
        try:
            headers = {"Authorization": self._token()} if self._root and path != "auth/authenticate" else {}
            connection.request("POST", f"/v3/{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise ServiceError(f"{self._service!r} answered {path} with {answer.status}: {text[:300]!r}")
        return json.loads(text)

    def _token(self) -> str:
        return str(self.ask("auth/authenticate", name="root", password=self._root)["token"])

    def demand_passwords(self, root: str) -> None:
        """Make the user root with this password, and let nobody in without one."""
        self.ask("auth/user/add", name="root", password=root)
        self.ask("auth/role/add", name="root")
        self.ask("auth/user/grant", user="root", role="root")
        self.ask("auth/enable")
        self._root = root

    def add_user(self, name: str, password: str, prefix: str = "", rights: str = "READWRITE") -> None:
        """A user who may do this below the prefix, and nothing else; nothing at all without one."""
        self.ask("auth/user/add", name=name, password=password)
        if prefix:
            self.ask("auth/role/add", name=name)
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            span = {"key": _base64(prefix), "range_end": _base64(end), "permType": rights}
            self.ask("auth/role/grant", name=name, perm=span)
            self.ask("auth/user/grant", user=name, role=name)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
