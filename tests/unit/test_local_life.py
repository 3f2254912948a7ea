"""The life of a local store: made, opened, cancelled, closed; and what its module imports."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
from local_folder import HERE, Folder, folder, lock_files, run

from sofa_registry_adapters.backends.local import records as records_module
from sofa_registry_adapters.backends.local.place import Place
from sofa_registry_adapters.backends.local.store import LocalStore
from sofa_registry_adapters.errors import Closed, Unsupported
from sofa_registry_adapters.spi.clock import SystemClock
from sofa_registry_adapters.spi.options import Target
from sofa_registry_adapters.testing.faults import eventually_async

# The fixtures of the module beside this one that the tests ask for.
__all__ = ["folder"]


def test_a_store_that_is_not_open_says_so(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        store = folder.new()
        with pytest.raises(Closed):
            await store.read(HERE)
        with pytest.raises(Closed):
            await anext(store.watch(HERE))

    run(main, folder)


def test_an_open_that_is_cancelled_leaves_no_owner(folder: Folder) -> None:
    async def main(folder: Folder) -> None:
        before = set(_threads())
        for delay in (0, 0.001, 0.003, 0.01):
            opening = asyncio.create_task(folder.new().open())
            await asyncio.sleep(delay)
            opening.cancel()
            await asyncio.wait((opening,))
            await folder.made.pop().close()
        store = await folder.open()
        await eventually_async(lambda: len(lock_files(folder)) == 1, 3.0, "one owner is left")
        assert len(store._opening.session._writer.read(records_module.owners)) == 1  # type: ignore[union-attr]
        await store.close()
        await eventually_async(lambda: not set(_threads()) - before, 3.0, "no thread is left")

    run(main, folder)


def test_making_a_store_does_nothing(folder: Folder) -> None:
    folder.new()
    assert not folder.path.exists()
    LocalStore(Target(scheme="local", path=str(folder.path)), SystemClock())


def test_declaring_the_backend_imports_no_client_library() -> None:
    code = (
        "import sys; import sofa_registry_adapters.backends.local;"
        "sys.exit(any(name in sys.modules for name in ('sqlite3', 'asyncio', 'fcntl')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_windows_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(Unsupported, match="Windows"):
        Place("x.db").prepare()


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "sofa-registry" in thread.name]
