"""Starting from the disk: a registry that refuses connections is not waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sofa_registry_adapters import Instance, Registry, ServiceKey
from sofa_registry_adapters.engine import followers
from sofa_registry_adapters.engine.disk import Disk, disk_of
from sofa_registry_adapters.testing.faults import free_port


def test_what_is_on_disk_is_there_as_soon_as_a_connection_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "SNAPSHOT_GRACE", 60.0)
    options = {"snapshot": str(tmp_path / "disk")}
    with Registry(f"redis://127.0.0.1:{free_port()}", options=options) as registry:
        disk = disk_of(registry.target, Disk)
        assert disk is not None
        disk.save(ServiceKey("echo"), [Instance(host="10.0.0.1", port=80, instance_id="a")], 1)
        views = []
        registry.subscribe("echo", lambda change: views.append(change.instances), timeout=10)
        assert [len(view) for view in views] == [1]
        assert views[0].stale
