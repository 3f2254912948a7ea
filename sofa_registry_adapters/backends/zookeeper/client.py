"""kazoo, seen from an event loop: one session, its requests as futures, its changes of state as calls on the loop.

The only module that imports kazoo (untyped). Its thread connects, keeps the session alive and authenticates; what
kazoo 2.11 does not do is added by overriding: bulk reads, persistent watches, bounded waits, a server that came
back empty.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError, ConnectionDropped
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import CloseInstance, Connect
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import ForceRetryError, KazooRetry

from sofa_registry_adapters.backends.zookeeper import wire
from sofa_registry_adapters.backends.zookeeper.access import Access
from sofa_registry_adapters.errors import RegistryError

REFUSALS = 3
"""Connections that every server closes on seeing our last change, before the session gives up that change."""
READ_AHEAD = 64 * 1024
"""Bytes that are taken from the system at a time."""


class Journal(logging.Logger):
    """kazoo's messages at DEBUG, without those below INFO: they show credentials and the session's password."""

    def __init__(self) -> None:
        super().__init__("sofa_registry_adapters.zookeeper", logging.INFO)

    def handle(self, record: logging.LogRecord) -> None:
        target = logging.getLogger(self.name)
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        if target.isEnabledFor(logging.DEBUG):
            target.handle(record)


class Events:
    """What the connection tells, each on the connection's own thread."""

    def connected(self, session_id: int, timeout: float) -> None:
        """There is a session: a new one, or the one before over a new connection."""

    def cut(self, reason: str) -> None:
        """The connection is gone, and every watch with it."""

    def unreachable(self, reason: str) -> None:
        """Every server was tried once."""

    def changed(self, kind: int, path: str) -> None:
        """A watch event. More may follow at once: see `idle`."""

    def idle(self) -> None:
        """All that has come is told; the thread is about to wait."""

    def ended(self, *, denied: bool) -> None:
        """The thread ends: it was told to, or the credentials were refused."""


class Result:
    """Where the answer to a request goes."""

    def answer(self, zxid: int, replies: Any) -> None:
        """It was done."""
        raise NotImplementedError

    def fail(self, code: int) -> None:
        """It was refused, or nobody knows."""
        raise NotImplementedError

    def set_exception(self, error: Exception) -> None:
        """Kazoo's own way to say that the connection is gone."""
        self.fail(getattr(error, "code", None) or wire.CONNECTION_LOSS)


class _Socket(socket.socket):
    """Takes all that has come, however little is asked for: kazoo asks for each message twice, and waits before each time."""

    _ahead = memoryview(b"")

    def pending(self) -> int:
        """Bytes that the system does not announce again; what kazoo asks a socket with TLS."""
        return len(self._ahead)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        ahead = self._ahead or memoryview(super().recv(max(size, READ_AHEAD), flags))
        self._ahead = ahead[size:]
        return bytes(ahead[:size])


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo is untyped
    """One thread in place of three, a select that is not built anew each time, and a connect that can be stopped."""

    def __init__(self, name: str, patience: float, access: Access, events: Events) -> None:
        super().__init__()
        self._name = name
        self._events = events
        self._access = access
        self._patience = patience
        self.leaving = threading.Event()

    def start(self) -> None:
        self._running = True

    def stop(self) -> None:
        self._running = False

    def spawn(self, func: Callable[..., None], *args: object, **kwargs: object) -> threading.Thread:
        thread = threading.Thread(target=func, args=args, kwargs=kwargs, name=self._name, daemon=True)
        thread.start()
        return thread

    def select(self, reading: Any, writing: Any, failing: Any, timeout: float | None = None) -> Any:
        # What was taken in already, the system does not announce again.
        waiting = [one for one in reading if isinstance(one, _Socket | ssl.SSLSocket) and one.pending()]
        if waiting:
            reading, timeout = [one for one in reading if one not in waiting], 0
        else:
            self._events.idle()
        try:
            found, *others = select.select(reading, writing, failing, timeout)
        except ValueError:  # a file descriptor beyond what select can take
            found, *others = super().select(reading, writing, failing, timeout)
        return [*waiting, *found], *others

    def create_connection(self, address: tuple[str, int], hostname: str, **_: object) -> socket.socket:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = _Socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)  # noqa: FBT003
            sock.connect_ex(address)
            deadline = time.monotonic() + self._patience
            self._wait([], [sock], deadline)
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            context = self._access.context()
            return sock if context is None else self._secured(sock, context, hostname, deadline)
        except BaseException:
            sock.close()
            raise

    def _secured(self, sock: socket.socket, context: ssl.SSLContext, host: str, deadline: float) -> ssl.SSLSocket:
        # Raises if the other side has hung up by now: wrap_socket would raise as well, and leave the socket open.
        sock.getpeername()
        secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        try:
            while True:
                try:
                    secured.do_handshake()
                except ssl.SSLWantReadError:
                    self._wait([secured], [], deadline)
                except ssl.SSLWantWriteError:
                    self._wait([], [secured], deadline)
                else:
                    return secured
        except BaseException as error:
            secured.close()
            if isinstance(error, ssl.SSLError):
                hint = ": it seems to speak without TLS" if error.reason == "WRONG_VERSION_NUMBER" else ""
                raise OSError(
                    errno.EPROTO, f"TLS: {getattr(error, 'verify_message', '') or error.reason}{hint}"
                ) from None
            raise

    def _wait(self, reading: list[socket.socket], writing: list[socket.socket], deadline: float) -> None:
        while not self.leaving.is_set():
            if any(self.select(reading, writing, [], 0.1)):
                return
            if time.monotonic() > deadline:
                break
        raise TimeoutError(errno.ETIMEDOUT, "no connection in time")


class _Connection(ConnectionHandler):  # type: ignore[misc]  # kazoo is untyped
    """kazoo's connection with the requests of `wire`."""

    def __init__(self, client: _Client, retry: KazooRetry, events: Events, patience: float, access: Access) -> None:
        super().__init__(client, retry, logger=client.logger)
        self._access = access
        self._events = events
        self._patience = patience
        self._refusals = 0
        self._problem = ""
        self.granted = 0.0

    def abort(self) -> None:
        """Make a wait for the server end at once."""
        with contextlib.suppress(OSError, AttributeError):
            # Not TLS's own way, which belongs to the thread that reads.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def zk_loop(self) -> None:
        try:
            super().zk_loop()
        except Exception:
            self.logger.exception("the connection ended")
        finally:
            # Here, in the thread that used them: the loop that is told may be gone by now.
            with contextlib.suppress(Exception):
                self.close()
            self._events.ended(denied=self.client.refused)

    def _connect_loop(self, retry: KazooRetry) -> Any:
        try:
            return super()._connect_loop(retry)
        except ForceRetryError as error:
            self._events.unreachable(self._problem or str(error))
            raise

    def _connect(self, host: str, hostip: str, port: int) -> Any:
        with self._problems():
            try:
                self.client.auth_data = self._access.credentials()
            except RegistryError as error:
                raise ConnectionDropped(str(error)) from None
            return super()._connect(host, hostip, port)

    @contextlib.contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._problem = str(error) or type(error).__name__
            raise
        self._problem = ""

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        timeout = min(timeout, self._patience)
        if not isinstance(request, Connect):
            return super()._invoke(timeout, request, xid)
        try:
            result = super()._invoke(timeout, request, xid)
        except ConnectionDropped as error:
            # With TLS 1.3 a certificate is refused here, which says nothing about the server's data.
            if not isinstance(error.__context__, ssl.SSLError):
                self._refused()
            raise
        self._refusals = 0
        self.granted = result[0].time_out / 1000
        if self._access.sasl and self.granted > 0:
            # Before anybody is told that there is a session, which kazoo does first.
            self._log_in(timeout)
        return result

    def _log_in(self, timeout: float) -> None:
        """Show user and password by SASL. Raises AuthFailedError if the server says no, ConnectionDropped if it says nothing."""
        try:
            account = self._access.account()
        except RegistryError as error:
            raise ConnectionDropped(str(error)) from None
        self.sasl_options: dict[str, str] | None = {
            "mechanism": self._access.sasl,
            "username": account.username,
            "password": account.password,
        }
        try:
            self._authenticate_with_sasl("", timeout)
        except (ConnectionDropped, self.handler.timeout_exception):
            raise
        except Exception as error:  # noqa: BLE001  kazoo raises what it is told, and what the library that speaks SASL does not understand
            if isinstance(error.__cause__, ConnectionDropped):
                raise ConnectionDropped("the connection was lost during the login by SASL") from None
            # Nobody is told of a state that kazoo had not left yet.
            self.client.refused = True
            raise AuthFailedError(f"the login by SASL: {type(error).__name__}") from None
        finally:
            self.sasl_options = self.client.sasl_cli = None

    def _refused(self) -> None:
        # A server that came back empty closes every connection that has seen a later change than it has. Without that
        # change it says that the session has expired, and kazoo begins a new one; a server that only is not ready yet
        # takes the same session up again.
        self._refusals += 1
        if self._refusals >= REFUSALS * len(self.client.hosts):
            self.client.last_zxid = 0

    def _read_watch_event(self, buffer: bytes, offset: int) -> None:
        self._events.changed(*wire.read_event(buffer, offset))

    def _read_response(self, header: Any, buffer: bytes, offset: int) -> Any:
        request, result, xid = self.client._pending[0]  # noqa: SLF001
        if not isinstance(result, Result):
            return super()._read_response(header, buffer, offset)
        self.client._pending.popleft()  # noqa: SLF001
        if header.zxid > 0:
            self.client.last_zxid = header.zxid
        if header.xid != xid:
            result.fail(wire.CONNECTION_LOSS)
            raise ConnectionDropped("an answer to another request")
        if header.err:
            result.fail(header.err)
            return None
        try:
            replies = request.replies(buffer, offset)
        except Exception:
            result.fail(wire.CONNECTION_LOSS)
            raise
        result.answer(header.zxid, replies)
        return None


class _Client(KazooClient):  # type: ignore[misc]  # kazoo is untyped
    """One session. Nothing here blocks."""

    def __init__(self, hosts: str, timeout: float, access: Access, events: Events) -> None:
        patience = min(max(1.0, timeout / 5), timeout)
        handler = _Handler("sofa-registry-zookeeper", patience, access, events)
        super().__init__(
            hosts=hosts,
            timeout=timeout,
            handler=handler,
            connection_retry=KazooRetry(max_tries=-1, delay=0.05, backoff=1.5, max_jitter=0.2, max_delay=0.8),
            logger=Journal(),
        )
        self.refused: bool = False
        self._events = events
        self._connection = _Connection(self, self._conn_retry.copy(), events, patience, access)
        self.add_listener(self._changed)

    def _changed(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._events.connected(self._session_id, self._connection.granted)
            return
        self.refused = self._state == KeeperState.AUTH_FAILED
        expired = self._state == KeeperState.EXPIRED_SESSION
        self._events.cut("the session expired" if expired else "the connection was lost")

    def send(self, request: wire.Request, result: Result) -> None:
        """Queue a request."""
        self._call(request, result)

    def begin_stop(self) -> None:
        """End the session: `Events.ended` tells when that is done."""
        self.handler.leaving.set()
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._queue.append((CloseInstance, None))
        with contextlib.suppress(OSError, AttributeError):
            self._connection._write_sock.send(b"\0")  # noqa: SLF001

    def abort(self) -> None:
        """Do not wait for the server any longer."""
        self._connection.abort()

    def release(self) -> None:
        """Close what is left, after `Events.ended`."""
        with contextlib.suppress(Exception):
            self.close()


def make_client(hosts: str, timeout: float, access: Access, events: Events) -> Any:
    """A client of one session, not yet started. `Any`, as kazoo has no types."""
    return _Client(hosts, timeout, access, events)
