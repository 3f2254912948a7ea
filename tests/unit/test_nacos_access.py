"""Tokens: fetched once, renewed in time, and nobody logs in again and again. Against an HTTP server that answers as Nacos does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sofa_registry_adapters.backends.nacos import BACKEND
from sofa_registry_adapters.backends.nacos.access import AGAIN, MOST_AGAIN, STARTING, Access
from sofa_registry_adapters.backends.nacos.web import Web
from sofa_registry_adapters.errors import Denied, Unavailable
from sofa_registry_adapters.settings import parse_target
from sofa_registry_adapters.testing.clock import ManualClock

TTL = 100.0


class Logins:
    """The server: how it answers, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[str, str]] = []
        logins = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                logins.asked.append((self.path, form))
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
