"""The operator of an etcd server."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any

from sofa_registry_adapters.testing.faults.operators.operator import Operator

_SECONDS = 5.0
_EVERYTHING = "AA=="  # a zero byte: as the key and as the end of the range it means all keys
_METRICS = {"watches": "etcd_debugging_mvcc_watcher_total", "records": "etcd_debugging_mvcc_keys_total"}


class EtcdOperator(Operator):
    """Speaks to the HTTP gateway that every etcd has."""

    abilities = frozenset({"forget", "expire", "compact"})

    def forget(self) -> None:
        self.ask("kv/deleterange", key=_EVERYTHING, range_end=_EVERYTHING)

    def expire(self) -> None:
        for lease in self._leases():
            self.ask("lease/revoke", ID=lease)

    def compact(self) -> None:
        found = self.ask("kv/range", key=_EVERYTHING, range_end=_EVERYTHING, limit=1)
        self.ask("kv/compaction", revision=found["header"]["revision"], physical=True)

    def version(self) -> str:
        return str(json.loads(self._request("GET", "/version"))["etcdserver"])

    def counts(self) -> Mapping[str, int]:
        text = self._request("GET", "/metrics").decode()
        counted = {name: _metric(text, metric) for name, metric in _METRICS.items()}
        return {**counted, "leases": len(self._leases())}

    def ask(self, path: str, **body: object) -> Any:
        """The answer to a request of the gateway. Raises `OSError`, also if the server says no."""
        return json.loads(self._request("POST", f"/v3/{path}", json.dumps(body)))

    def _leases(self) -> list[str]:
        return [lease["ID"] for lease in self.ask("lease/leases").get("leases", ())]

    def _request(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = HTTPConnection(self.host, self.port, timeout=_SECONDS)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
        except HTTPException as error:
            raise OSError(f"etcd at {self.host}:{self.port}: {error}") from error
        finally:
            connection.close()
        # What ran out meanwhile is gone as well.
        if answer.status != 200 and b"lease not found" not in text and b"has been compacted" not in text:
            raise OSError(f"etcd at {self.host}:{self.port} answered {path} with {answer.status}: {text[:200]!r}")
        return text


def _metric(text: str, name: str) -> int:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return round(float(found[1])) if found else 0
