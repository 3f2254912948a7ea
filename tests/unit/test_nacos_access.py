"""Tokens: fetched once, renewed in time, and nobody logs in again and again. Against an HTTP server that answers as Nacos does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sofa_registry_adapters.backends.nacos import BACKEND
from sofa_registry_adapters.backends.nacos.access import AGAIN, LATER, MOST_AGAIN, STARTING, Access
from sofa_registry_adapters.backends.nacos.web import Web
from sofa_registry_adapters.errors import Denied, Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.testing.clock import ManualClock

TTL = 100.0


class Logins:
    """The server: how it answers, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.closed = False
        self.asked: list[tuple[str, str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        logins = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                logins.asked.append((self.path, form))
                if not logins.may_answer.wait(30) or logins.closed:
                    return
                body = json.dumps({"accessToken": f"token {len(logins.asked)}", "tokenTtl": TTL}).encode()
                self.send_response(logins.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"nacos://ann:pass%2Fword@127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.closed = True
        self.may_answer.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


@pytest.fixture
def logins() -> Iterator[Logins]:
    logins = Logins()
    yield logins
    logins.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def access(logins: Logins, clock: ManualClock) -> Iterator[Access]:
    target = parse_target(logins.url, BACKEND)
    web = Web(target, None)
    yield Access(target, clock, web)
    web.close()


def token(access: Access) -> str:
    return asyncio.run(access.token())


def test_one_login_serves_many_requests_and_the_password_is_in_no_path(access: Access, logins: Logins) -> None:
    assert {token(access) for _ in range(5)} == {"token 1"}
    assert [form for _, form in logins.asked] == ["username=ann&password=pass%2Fword"]
    assert "pass" not in logins.asked[0][0]


def test_a_token_is_renewed_before_its_end(access: Access, clock: ManualClock) -> None:
    assert token(access) == "token 1"
    clock.advance(TTL * 0.75)
    assert token(access) == "token 1"
    clock.advance(TTL * 0.1)
    assert token(access) == "token 2"
    assert access.logins == 2


def test_a_server_that_is_away_costs_no_token_that_is_still_good(
    access: Access, logins: Logins, clock: ManualClock
) -> None:
    assert token(access) == "token 1"
    logins.status = 503
    clock.advance(TTL * 0.9)
    assert token(access) == "token 1"
    clock.advance(TTL * 0.2)
    with pytest.raises(Unavailable):
        token(access)


@pytest.mark.parametrize("status", (401, 403, 500, 503))
def test_a_token_that_is_good_outlives_a_login_that_is_refused(
    status: int, access: Access, logins: Logins, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and the login tried again now and then, and at the end of the token."""
    assert token(access) == "token 1"
    clock.advance(TTL * 0.8)
    logins.status = status
    for _ in range(39):
        assert token(access) == "token 1"
        clock.advance(TTL * 0.005)
    assert 2 <= len(logins.asked) - 1 <= TTL * 0.2 / LATER
    (warning,) = (one.getMessage() for one in caplog.records if one.name == "sofa_registry_adapters.nacos")
    assert "the token that there is goes on for 20 s" in warning
    assert "pass" not in warning.replace("check the user and the password", "")
    clock.advance(TTL * 0.005)
    with pytest.raises(Unavailable if status == 503 else Denied):
        token(access)
    logins.status = 200
    clock.advance(MOST_AGAIN)
    assert token(access) == f"token {len(logins.asked)}"


def test_a_token_that_is_refused_is_not_kept(access: Access, logins: Logins, clock: ManualClock) -> None:
    refused = token(access)
    clock.advance(TTL * 0.5)
    logins.status = 403
    with pytest.raises(Unavailable, match="refuses the user"):
        asyncio.run(access.other(refused))


def test_a_token_that_is_refused_is_fetched_anew_once(access: Access, logins: Logins, clock: ManualClock) -> None:
    """Twice as long a pause after each: what is refused then is not the token's fault."""
    first = token(access)
    clock.advance(10)
    second = asyncio.run(access.other(first))
    assert second == "token 2"
    assert not asyncio.run(access.other(second)), "it is too young"
    assert asyncio.run(access.other(first)) == second, "somebody else had it refused, and has the new one now"
    before = len(logins.asked)
    for _ in range(100):
        clock.advance(1)
        asyncio.run(access.other(token(access)))
    assert len(logins.asked) - before <= 7


def test_a_login_that_is_refused_is_tried_ever_less_often(access: Access, logins: Logins, clock: ManualClock) -> None:
    for status in (401, 403, 500):
        logins.status = status
        clock.advance(MOST_AGAIN)
        with pytest.raises(Denied, match="'ann'"):
            token(access)
    logins.status, before = 403, len(logins.asked)
    for _ in range(600):
        clock.advance(0.5)
        with pytest.raises(Denied):
            token(access)
    assert len(logins.asked) - before <= 300 / MOST_AGAIN + 10
    logins.status = 200
    clock.advance(MOST_AGAIN)
    assert token(access).startswith("token")


def test_a_login_that_works_a_moment_later_is_there_in_a_moment(
    access: Access, logins: Logins, clock: ManualClock
) -> None:
    logins.status = 403
    with pytest.raises(Denied):
        token(access)
    logins.status = 200
    clock.advance(AGAIN)
    assert token(access)


def test_a_server_without_accounts_wants_no_token(access: Access, logins: Logins, clock: ManualClock) -> None:
    logins.status = 404
    assert not token(access)
    asked = len(logins.asked)
    clock.advance(60)
    assert not token(access)
    assert len(logins.asked) == asked


@pytest.mark.parametrize("before", ("away", "known"))
def test_a_server_that_has_just_started_may_refuse_everybody(
    before: str, access: Access, logins: Logins, clock: ManualClock
) -> None:
    """For some seconds that is no refusal of the password: the login is tried again soon, and then believed."""
    logins.status = 503 if before == "away" else 200
    with pytest.raises(Unavailable) if before == "away" else contextlib.nullcontext():
        token(access)
    for _ in range(3):
        clock.advance(TTL)
        logins.status = 403
        for _ in range(round(STARTING / AGAIN) - 1):
            clock.advance(AGAIN)
            with pytest.raises(Unavailable, match="just started"):
                token(access)
        logins.status = 200
        clock.advance(MOST_AGAIN)
        assert token(access)
    clock.advance(TTL)
    logins.status = 403
    with pytest.raises(Unavailable, match="just started"):
        token(access)
    clock.advance(STARTING)
    for _ in range(3):
        clock.advance(MOST_AGAIN)
        with pytest.raises(Denied, match="check the user and the password"):
            token(access)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def connections(server: socket.socket) -> int:
    """How many have arrived since the last call."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


@contextlib.contextmanager
def first_of_three(silent: socket.socket, logins: Logins, clock: ManualClock, seconds: float) -> Iterator[Access]:
    """The access where the server that is silent comes first, and then one that is not there."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        before = ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in (silent, nobody))
        target = parse_target(logins.url.replace("@", f"@{before},"), BACKEND, {"call_timeout": seconds})
        web = Web(target, None)
        yield Access(target, clock, web)
        web.close()


async def within(seconds: float, access: Access) -> str:
    async with asyncio.timeout(seconds):
        return await access.token()


def test_a_server_that_is_silent_costs_no_login(silent: socket.socket, logins: Logins, clock: ManualClock) -> None:
    """The next one is asked within the same call, and comes first from then on."""
    with first_of_three(silent, logins, clock, 3.0) as access:
        assert asyncio.run(within(3.0, access)) == "token 1"
        assert connections(silent) == 1
        clock.advance(TTL)
        assert asyncio.run(within(3.0, access)) == "token 2"
        assert connections(silent) == 0


def test_whoever_gave_up_waiting_asks_another_server(silent: socket.socket, logins: Logins, clock: ManualClock) -> None:
    with first_of_three(silent, logins, clock, 30.0) as access:
        with pytest.raises(TimeoutError):
            asyncio.run(within(0.2, access))
        assert asyncio.run(within(5.0, access)) == "token 1"


def test_a_login_that_hangs_costs_no_token_that_is_still_good(logins: Logins, clock: ManualClock) -> None:
    """Nor does it hold up requests more than once in a while."""

    async def main() -> None:
        access = Access(target, clock, web)
        assert await access.token() == "token 1"
        logins.may_answer.clear()
        clock.advance(TTL * 0.85)
        for asked in (2, 3):
            for _ in range(3):
                assert set(await asyncio.gather(*(within(1.5, access) for _ in range(20)))) == {"token 1"}
            assert len(logins.asked) == asked
            clock.advance(LATER)
        clock.advance(TTL)
        with pytest.raises(TimeoutError):
            await within(0.2, access)
        logins.may_answer.set()
        assert await within(5.0, access) == "token 5"

    target = parse_target(logins.url, BACKEND, {"call_timeout": 1.5})
    with contextlib.closing(Web(target, None)) as web:
        asyncio.run(main())


def test_a_token_that_is_good_is_tried_again_at_its_end(logins: Logins, clock: ManualClock, access: Access) -> None:
    """However soon that is after a login that failed."""
    assert token(access) == "token 1"
    logins.status = 503
    clock.advance(TTL - LATER / 2)
    assert token(access) == "token 1"
    logins.status = 200
    assert token(access) == "token 1"
    clock.advance(LATER / 2)
    assert token(access) == "token 3"
