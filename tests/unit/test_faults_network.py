"""The faults of the network in the test kit, each seen to do what it says; ports, and waiting."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sofa_registry_adapters.testing.faults import NetProxy, eventually, eventually_async, free_port


class EchoServer:
    """Answers every chunk with itself, and remembers what it saw."""

    def __init__(self, port: int = 0) -> None:
        self.received = bytearray()
        self.ended: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(65536):
                    self.received += chunk
                    connection.sendall(chunk)
            except OSError:
                self.ended.append("reset")
            else:
                self.ended.append("end")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with closing(EchoServer()) as echo:
        yield echo


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[NetProxy]:
    with NetProxy(server.address) as made:
        yield made


@pytest.fixture
def client(proxy: NetProxy) -> Iterator[socket.socket]:
    with connect(proxy) as made:
        yield made


def connect(proxy: NetProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=5)


def ask(client: socket.socket, question: bytes) -> bytes:
    client.sendall(question)
    return read(client, len(question))


def read(client: socket.socket, count: int) -> bytes:
    answer = b""
    while len(answer) < count and (chunk := client.recv(count - len(answer))):
        answer += chunk
    return answer


def assert_silent(client: socket.socket, seconds: float = 0.15) -> None:
    client.settimeout(seconds)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(5)


def test_it_passes_bytes_both_ways_and_counts_them(proxy: NetProxy, client: socket.socket) -> None:
    assert ask(client, b"hello") == b"hello"
    assert (proxy.accepted, proxy.bytes_up, proxy.bytes_down, proxy.cuts) == (1, 5, 5, 0)
    assert proxy.connections == 1


def test_it_passes_a_lot_of_bytes_unchanged(client: socket.socket) -> None:
    payload = os.urandom(3_000_000)
    sender = threading.Thread(target=client.sendall, args=(payload,))
    sender.start()
    assert read(client, len(payload)) == payload
    sender.join(5)


def test_a_clean_end_is_passed_on(server: EchoServer, proxy: NetProxy, client: socket.socket) -> None:
    ask(client, b"x")
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    eventually(lambda: server.ended == ["end"], message="the server saw no clean end")
    eventually(lambda: proxy.connections == 0, message="the proxy kept the connection")


def test_a_black_hole_holds_everything_until_it_ends(
    server: EchoServer, proxy: NetProxy, client: socket.socket
) -> None:
    ask(client, b"a")
    proxy.black_hole()
    client.sendall(b"b")
    assert_silent(client)
    assert server.received == b"a"
    proxy.pass_through()
    assert read(client, 1) == b"b"


def test_a_black_hole_accepts_connections_that_reach_nobody(server: EchoServer, proxy: NetProxy) -> None:
    proxy.black_hole()
    with connect(proxy) as late:
        late.sendall(b"late")
        assert_silent(late)
        assert server.received == b""
        proxy.pass_through()
        assert read(late, 4) == b"late"


def test_a_black_hole_hides_the_end_of_a_connection(server: EchoServer, proxy: NetProxy) -> None:
    with connect(proxy) as leaving:
        ask(leaving, b"a")
        proxy.black_hole()
    with pytest.raises(AssertionError):
        eventually(lambda: server.ended, 0.2)
    proxy.pass_through()
    eventually(lambda: server.ended, message="the end never came through")


def test_a_hole_up_loses_the_request(server: EchoServer, proxy: NetProxy, client: socket.socket) -> None:
    ask(client, b"a")
    proxy.black_hole("up")
    client.sendall(b"b")
    assert_silent(client)
    assert server.received == b"a"


def test_a_hole_down_loses_the_answer_to_a_request_carried_out(
    server: EchoServer, proxy: NetProxy, client: socket.socket
) -> None:
    ask(client, b"a")
    proxy.black_hole("down")
    client.sendall(b"b")
    eventually(lambda: server.received == b"ab", message="the request did not reach the server")
    assert_silent(client)
    assert (proxy.bytes_up, proxy.bytes_down) == (2, 1)


def test_a_cut_resets_both_sides_and_lets_new_connections_in(
    server: EchoServer, proxy: NetProxy, client: socket.socket
) -> None:
    ask(client, b"a")
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    eventually(lambda: server.ended == ["reset"], message="the server saw no reset")
    assert proxy.cuts == 1
    with connect(proxy) as again:
        assert ask(again, b"b") == b"b"


def test_refusing_resets_and_refuses_and_comes_back_on_the_same_port(proxy: NetProxy, client: socket.socket) -> None:
    ask(client, b"a")
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.pass_through()
    assert proxy.port == port
    with connect(proxy) as again:
        assert ask(again, b"b") == b"b"


def test_an_upstream_that_is_down_looks_like_a_reset() -> None:
    # The reset may come while the connection is still being made.
    with (
        NetProxy(("127.0.0.1", free_port())) as proxy,
        pytest.raises(ConnectionResetError),
        connect(proxy) as client,
    ):
        client.recv(1)


def test_latency_delays_each_way(proxy: NetProxy, client: socket.socket) -> None:
    proxy.latency(0.1, jitter=0.01)
    began = time.monotonic()
    assert ask(client, b"a") == b"a"
    assert time.monotonic() - began >= 0.2


def test_latency_does_not_limit_what_is_under_way(proxy: NetProxy, client: socket.socket) -> None:
    proxy.latency(0.2)
    began = time.monotonic()
    for _ in range(20):
        client.sendall(b"x")
        time.sleep(0.005)  # twenty chunks, not one
    assert read(client, 20) == b"x" * 20
    assert time.monotonic() - began < 2.0


def test_a_rate_limits_the_throughput(proxy: NetProxy, client: socket.socket) -> None:
    proxy.rate(10_000)
    began = time.monotonic()
    assert ask(client, b"x" * 3_000) == b"x" * 3_000
    assert time.monotonic() - began >= 0.25


def test_cut_after_passes_exactly_that_much_then_cuts_once(
    server: EchoServer, proxy: NetProxy, client: socket.socket
) -> None:
    proxy.cut_after(3)
    client.sendall(b"hello")
    eventually(lambda: proxy.cuts == 1 and proxy.connections == 0, message="no cut")
    assert b"hel".startswith(server.received)
    assert proxy.bytes_up + proxy.bytes_down == 3
    with pytest.raises(ConnectionResetError):
        read(client, 10)
    with connect(proxy) as again:
        assert ask(again, b"more than three") == b"more than three"


def test_pass_through_ends_delays_and_limits(proxy: NetProxy, client: socket.socket) -> None:
    proxy.latency(30)
    proxy.rate(1)
    proxy.cut_after(1)
    proxy.pass_through()
    assert ask(client, b"quick") == b"quick"


def test_a_closed_proxy_is_gone_and_says_so(server: EchoServer) -> None:
    proxy = NetProxy(server.address)
    client = connect(proxy)
    with client:
        ask(client, b"a")
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    with pytest.raises(RuntimeError, match="was closed"):
        proxy.cut()


def test_a_taken_port_is_an_error(server: EchoServer) -> None:
    with pytest.raises(OSError, match="in use"):
        NetProxy(server.address, port=server.address[1])


def test_a_free_port_is_outside_the_range_of_outgoing_connections() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    port = free_port()
    assert not first <= port <= last
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_free_port_has_free_neighbours_at_the_distances_asked_for() -> None:
    port = free_port(offsets=(-1000, 0, 1000))
    with (
        socket.create_server(("127.0.0.1", port - 1000)),
        socket.create_server(("127.0.0.1", port)),
        socket.create_server(("127.0.0.1", port + 1000)),
    ):
        pass


def test_distances_that_no_port_has_are_an_error() -> None:
    with pytest.raises(OSError, match="no free ports at the distances 0, 66000"):
        free_port(offsets=(0, 66_000))


def test_a_proxy_listens_at_the_distances_of_its_upstream_and_breaks_all_of_them() -> None:
    main = free_port(offsets=(0, 3))
    with (
        closing(EchoServer(main)) as first,
        closing(EchoServer(main + 3)) as second,
        NetProxy(first.address, offsets=(0, 3)) as proxy,
    ):
        places = [(proxy.host, proxy.port), (proxy.host, proxy.port + 3)]
        with socket.create_connection(places[0], 5) as near, socket.create_connection(places[1], 5) as far:
            assert ask(near, b"near") == b"near"
            assert ask(far, b"far") == b"far"
            assert (first.received, second.received) == (b"near", b"far")
            proxy.refuse()
            for link in (near, far):
                with pytest.raises(ConnectionResetError):
                    link.recv(1)
        for place in places:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(place, 5)
        proxy.pass_through()
        with socket.create_connection(places[1], 5) as far:
            assert ask(far, b"again") == b"again"


def test_eventually_gives_the_first_true_value() -> None:
    values = iter([0, None, "there"])
    assert eventually(lambda: next(values), 5) == "there"


def test_eventually_tells_the_message_and_the_last_value() -> None:
    with pytest.raises(AssertionError, match=r"two providers \(waited 0.05 s, last value: \[\]\)"):
        eventually(list, 0.05, "two providers")


def test_eventually_async_takes_both_kinds_of_predicates_and_leaves_the_loop_free() -> None:
    async def scene() -> None:
        ready = asyncio.Event()
        asyncio.get_running_loop().call_later(0.03, ready.set)
        assert await eventually_async(ready.is_set, 5)

        async def look() -> str:
            return "seen"

        assert await eventually_async(look, 5) == "seen"
        with pytest.raises(AssertionError, match="did not end within"):
            await eventually_async(asyncio.Event().wait, 0.05)
        with pytest.raises(AssertionError, match="last value: 0"):
            await eventually_async(lambda: 0, 0.05)

    asyncio.run(scene())
