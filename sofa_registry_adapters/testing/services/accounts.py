"""A ZooKeeper of our own whose accounts are in a JAAS file, and log in by SASL (DIGEST-MD5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sofa_registry_adapters.testing.services.local import LocalService
from sofa_registry_adapters.testing.services.products import PRODUCTS
from sofa_registry_adapters.testing.services.service import ServiceUnavailable


def zookeeper_with_accounts(accounts: Mapping[str, str], *, demanding: bool = False) -> LocalService:
    """A server that knows these users and passwords, which are read at each start; to be closed by the caller.

    With ``demanding`` nobody else may do anything. Raises `ServiceUnavailable`.
    """
    product = PRODUCTS["zookeeper"]
    found = product.local()
    if isinstance(found, str):
        raise ServiceUnavailable("zookeeper", found, product.remedy)
    prepare = found

    def prepare_with_accounts(directory: Path, port: int, persistent: bool) -> Sequence[str]:  # noqa: FBT001
        java, *words = prepare(directory, port, persistent)
        jaas = directory / "jaas.conf"
        jaas.touch(0o600)
        jaas.write_text(
            _JAAS.format(users="\n".join(f'  user_{name}="{_quoted(accounts[name])}"' for name in accounts))
        )
        with Path(words[-1]).open("a") as configuration:
            configuration.write(_PROVIDER)
            configuration.write("sessionRequireClientSASLAuth=true\n" if demanding else "")
        return [java, f"-Djava.security.auth.login.config={jaas}", *words]

    return LocalService(product, prepare_with_accounts, persistent=True)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


_PROVIDER = "authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n"
_JAAS = """\
Server {{
  org.apache.zookeeper.server.auth.DigestLoginModule required
{users};
}};
"""
