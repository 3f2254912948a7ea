"""A user of a server that wants a login: another password, no rights any more, the rights again. What an operator does, without this library."""

from __future__ import annotations

import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http.client import HTTPConnection
from urllib.parse import urlencode

from sofa_registry_adapters.testing.faults.operators.redis import RedisOperator
from sofa_registry_adapters.testing.faults.operators.zookeeper import ZooKeeperOperator
from sofa_registry_adapters.testing.faults.waiting import eventually
from sofa_registry_adapters.testing.services import etcd, nacos
from sofa_registry_adapters.testing.services.finding import find_service
from sofa_registry_adapters.testing.services.operating import EtcdOperator
from sofa_registry_adapters.testing.services.products import PRODUCTS
from sofa_registry_adapters.testing.services.service import Service, ServiceError

USER = "ann"
TOKEN_SECONDS = 6
"""What a token of Nacos lives; a password that is not taken any more is noticed when it is over."""
_NOTICED = 40.0
"""Seconds within which Nacos goes by what it was told; with its cache it takes fifteen."""


class Accounts(ABC):
    """``user`` may do everything with the password ``password``, until one of the verbs. Each is in force when it returns.

    ``notices_within``: seconds after which the server refuses a client with an old password that was let in before.
    """

    user = USER
    notices_within: float = 0.0

    def __init__(self, service: Service) -> None:
        self.service = service
        self.password = secrets.token_hex(8)

    @property
    def secret(self) -> str:
        """User and password as many products write them."""
        return f"{self.user}:{self.password}"

    @abstractmethod
    def replace(self) -> None:
        """The user has another password, and ``password`` is it."""

    @abstractmethod
    def deny(self) -> None:
        """The user has no rights any more."""

    @abstractmethod
    def allow(self) -> None:
        """After `deny`: the user has them again."""


class _Redis(Accounts):
    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._operator = RedisOperator(service.host, service.port)
        self.replace()
        self.allow()
        # Whoever does not log in may do what this class does, and nothing else.
        self._operator.ask(
            "ACL", "SETUSER", "default", "resetkeys", "resetchannels", "-@all", "+acl", "+client", "+info", "+ping"
        )

    def replace(self) -> None:
        self.password = secrets.token_hex(8)
        self._set("on", "resetpass", f">{self.password}")

    def deny(self) -> None:
        self._set("resetkeys", "resetchannels", "-@all")

    def allow(self) -> None:
        self._set("~*", "&*", "+@all")

    def _set(self, *rules: str) -> None:
        self._operator.ask("ACL", "SETUSER", self.user, *rules)


class _Etcd(Accounts):
    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._operator = EtcdOperator(service)
        self._operator.demand_passwords(secrets.token_hex(8))
        self._operator.add_user(self.user, self.password, "/")

    def replace(self) -> None:
        self.password = secrets.token_hex(8)
        self._operator.ask("auth/user/changepw", name=self.user, password=self.password)

    def deny(self) -> None:
        self._operator.ask("auth/user/revoke", name=self.user, role=self.user)

    def allow(self) -> None:
        self._operator.ask("auth/user/grant", user=self.user, role=self.user)


class _ZooKeeper(Accounts):
    """ZooKeeper keeps no users: whoever has the identity that a node belongs to has the rights. The nodes are given to another one."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._operator = ZooKeeperOperator(service.host, service.port)
        self._other = f"operator:{secrets.token_hex(8)}"

    def replace(self) -> None:
        before, self.password = self.secret, secrets.token_hex(8)
        self._operator.entrust(self.secret, before)

    def deny(self) -> None:
        self._operator.entrust(self._other, self.secret)

    def allow(self) -> None:
        self._operator.entrust(self.secret, self._other)


class _Nacos(Accounts):
    notices_within = float(TOKEN_SECONDS)

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._root = service.product.user.partition(":")[2]
        self._ask("POST", "user", username=self.user, password=self.password)
        self._ask("POST", "role", role=self.user, username=self.user)
        self.allow()

    def replace(self) -> None:
        # Nobody but the user may do that.
        own, self.password = self._token(self.user, self.password), secrets.token_hex(8)
        self._ask("PUT", "user", own, username=self.user, newPassword=self.password)

    def deny(self) -> None:
        self._ask("DELETE", "permission", role=self.user, resource="*:*:*", action="rw")
        eventually(lambda: not self._may(), _NOTICED, "the server has noticed")

    def allow(self) -> None:
        self._ask("POST", "permission", role=self.user, resource="*:*:*", action="rw")
        eventually(self._may, _NOTICED, "the server has noticed")

    def _may(self) -> bool:
        form = {"serviceName": "anything", "accessToken": self._token(self.user, self.password)}
        return self._request("GET", "client/ns/instance/list", form)[0] not in {401, 403}

    def _ask(self, verb: str, what: str, token: str = "", **form: str) -> None:
        signed = {**form, "accessToken": token or self._token(nacos.USER, self._root)}
        status, text = self._request(verb, f"auth/{what}", signed)
        if status != 200:
            raise ServiceError(f"{self.service!r} answered {verb} {what} with {status}: {text[:200]!r}")

    def _token(self, user: str, password: str) -> str:
        status, text = self._request("POST", "auth/user/login", {"username": user, "password": password})
        if status != 200:
            raise ServiceError(f"{self.service!r} does not let {user} in: {text[:200]!r}")
        return str(json.loads(text)["accessToken"])

    def _request(self, verb: str, path: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        connection = HTTPConnection(self.service.host, self.service.port, timeout=5)
        try:
            connection.request(verb, f"/nacos/v3/{path}?{urlencode(form)}")
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def accounts_of(name: str) -> Accounts:
    """A server of one's own with a user, of redis, etcd, zookeeper or nacos. Raises `ServiceUnavailable`; `Service.close` ends it."""
    if name == "nacos":
        settings = {
            "nacos.core.auth.plugin.nacos.token.expire.seconds": str(TOKEN_SECONDS),
            "nacos.core.auth.caching.enabled": "false",
        }
        product = nacos.product(password=secrets.token_hex(8), settings=settings)
    elif name == "etcd":
        # A login costs a tenth of a second of processor time otherwise.
        product = etcd.product(options=("--bcrypt-cost=4",))
    else:
        product = PRODUCTS[name]
    service = find_service(product, own=True)
    try:
        return _ACCOUNTS[name](service)
    except BaseException:
        service.close()
        raise


_ACCOUNTS: Mapping[str, type[Accounts]] = {"redis": _Redis, "etcd": _Etcd, "zookeeper": _ZooKeeper, "nacos": _Nacos}
