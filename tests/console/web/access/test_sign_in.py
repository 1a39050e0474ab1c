"""Sign-in and sign-out on a real server: passwords, links, cookies, and reverse proxies."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path

import orjson
import pytest

from console.web.access.passwords import hash_password
from console.web.access.perimeter import Perimeter
from console.web.access.roles import Role
from console.web.access.users import NO_PASSWORD, User, UserFile
from tests.support.fake_clock import FakeClock
from tests.support.http.guarded import PASSWORD, GuardedServer, make_user, run_guarded
from tests.support.waiting import until

PROXIED = Perimeter(["127.0.0.1"], allowed_hosts=["console.example"], proxies=["127.0.0.0/8"], user_header="X-User")
ELSEWHERE = Perimeter(["127.0.0.1"], allowed_hosts=["console.example"], proxies=["10.0.0.0/8"], user_header="X-User")
TLS = {"Host": "console.example", "X-Forwarded-Proto": "https"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[GuardedServer]:
    async with run_guarded(tmp_path) as running:
        yield running


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[GuardedServer]:
    """A console whose clients all count as a named reverse proxy."""
    async with run_guarded(tmp_path, PROXIED) as running:
        yield running


async def is_in(server: GuardedServer, cookie: str) -> bool:
    """Whether the cookie opens a page."""
    return (await server.send("GET", "/", {"Cookie": cookie})).status == 200


async def test_a_person_signs_in_and_out(server: GuardedServer) -> None:
    """The cookie opens pages until sign-out; a copy of it that somebody took before is worth nothing afterwards."""
    server.access.users.put(make_user("ann", Role.OPERATOR))

    entered = await server.sign_in("ann")
    assert orjson.loads((await server.send("GET", "/", {"Cookie": entered.cookie})).text) == [
        "ann",
        "operator",
        "127.0.0.1",
    ]
    answer = await server.send("POST", "/sign-out", {"Cookie": entered.cookie, "Origin": server.origin})

    assert answer.status == 200
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert not await is_in(server, entered.cookie)
    entries = await server.access.audit.read()
    assert [(entry.who, entry.action) for entry in entries] == [("ann", "session.end"), ("ann", "session.start")]


async def test_the_cookie_is_for_this_host_and_no_script(server: GuardedServer) -> None:
    """On HTTP its name has the port, as several consoles may run on one machine."""
    server.access.users.put(make_user("ann"))

    morsel = SimpleCookie((await server.sign_in("ann")).headers["Set-Cookie"])[f"ackstream-{server.port}"]

    assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["domain"]) == (True, "Lax", "/", "")
    assert morsel["max-age"] == "604800"


async def test_each_sign_in_has_a_new_secret(server: GuardedServer) -> None:
    """An attacker who plants a secret of an own session gains nothing: sign-in replaces and ends it."""
    planted = await server.enter("mallory")
    server.access.users.put(make_user("ann", Role.ADMIN))

    entered = await server.sign_in("ann", headers={"Cookie": planted, "Origin": server.origin})

    assert entered.cookie != planted
    assert not await is_in(server, planted)
    assert await is_in(server, entered.cookie)


async def test_a_second_cookie_of_the_same_name_ends_the_trust(server: GuardedServer) -> None:
    """Another site of this domain can add a cookie of its own session; then nobody is signed in."""
    ann, mallory = await server.enter("ann", Role.ADMIN), await server.enter("mallory")

    for cookies in (f"{mallory}; {ann}", f"{ann}; {mallory}", f"{ann};{ann}x"):
        assert not await is_in(server, cookies)
    assert (await server.send("GET", "/", [("Cookie", mallory), ("Cookie", ann)])).status == 303
    assert await is_in(server, f"theme=dark; {ann}; other=1")


async def test_a_link_signs_in_once(server: GuardedServer) -> None:
    """The page of the link uses nothing up; its form does. The session has the role of the link."""
    secret = await server.access.links.create(Role.ADMIN)
    for _ in range(3):
        assert (await server.send("GET", f"/sign-in?link={secret}")).status == 200

    first = await server.send("POST", "/sign-in", data={"link": secret})
    second = await server.send("POST", "/sign-in", data={"link": secret})

    assert (first.status, second.status) == (200, 401)
    name, role, _ = orjson.loads((await server.send("GET", "/", {"Cookie": first.cookie})).text)
    assert (name[:5], role) == ("link:", "admin")


async def test_a_wrong_password_says_how_many_tries_are_left(tmp_path: Path) -> None:
    """An unknown name gets the same answers. Afterwards the answer is 429 with the seconds to wait."""
    async with run_guarded(tmp_path, clock=FakeClock()) as server:
        server.access.users.put(make_user("ann"))

        for name in ("ann", "nobody"):
            answers = [await server.sign_in(name, "wrong") for _ in range(5)]
            assert [answer.text for answer in answers] == ["4", "3", "2", "1", "0"]
        refused = await server.sign_in("ann")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")


async def test_hundreds_of_attempts_delay_nobody(server: GuardedServer) -> None:
    """All but a few are refused before argon2; the console answers others in the same time."""
    server.access.users.put(User("ann", Role.VIEWER, hash_password(PASSWORD)))
    cookie = await server.enter("bob")
    statuses: dict[int, int] = {}
    started = time.monotonic()

    async def attack(number: int) -> None:
        for _ in range(number):
            answer = await server.sign_in("ann", "wrong")
            statuses[answer.status] = statuses.get(answer.status, 0) + 1

    attackers = asyncio.gather(*(attack(10) for _ in range(20)))
    while not attackers.done():
        asked = time.monotonic()
        assert await is_in(server, cookie)
        assert time.monotonic() - asked < 5
    await attackers

    waited = 2 + int(time.monotonic() - started).bit_length()
    assert sum(statuses.values()) == 200
    assert statuses[401] <= 5 + waited
    assert set(statuses) == {401, 429}


async def test_many_sign_ins_at_once_find_the_console_busy(
    proxied: GuardedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each password check takes 64 MiB, so the console refuses more than it holds, and counts no failure for these."""
    names, release = [f"user-{number}" for number in range(30)], threading.Event()
    monkeypatch.setattr(UserFile, "find", lambda *_: release.wait(30) and None)  # no check ends before that
    sent = [
        asyncio.create_task(proxied.sign_in(name, "wrong", {"X-Forwarded-For": f"192.0.2.{n}"}))
        for n, name in enumerate(names)
    ]

    async def are_refused() -> bool:
        return sum(task.done() for task in sent) == 14

    await until(are_refused)
    release.set()

    statuses = [answer.status for answer in await asyncio.gather(*sent)]
    assert (statuses.count(401), statuses.count(429)) == (16, 14)
    refused = statuses.index(429)
    assert proxied.access.limiter.tries_left(names[refused], f"192.0.2.{refused}") == 5


async def test_success_gives_the_tries_back(tmp_path: Path) -> None:
    """At an address from which the person has signed in, only the limit of the address counts."""
    async with run_guarded(tmp_path, clock=FakeClock()) as server:
        server.access.users.put(make_user("ann"))
        tries = [await server.sign_in("ann", password) for password in ("wrong", "wrong", PASSWORD, "wrong")]

    assert [answer.text for answer in tries] == ["4", "3", "signed in", "7"]


async def test_https_behind_a_named_proxy_has_a_host_cookie(proxied: GuardedServer) -> None:
    """The cookie is Secure, and its name keeps other hosts of the domain from setting it."""
    proxied.access.users.put(make_user("ann"))

    entered = await proxied.sign_in("ann", headers={**TLS, "Origin": "https://console.example"})

    assert entered.headers["Set-Cookie"].startswith("__Host-ackstream=")
    assert "Secure" in entered.headers["Set-Cookie"]
    assert "Domain" not in entered.headers["Set-Cookie"]
    secret = entered.cookie.partition("=")[2]
    for name, status in (("__Host-ackstream", 200), ("ackstream-console.example", 303), ("ackstream", 303)):
        assert (await proxied.send("GET", "/", {**TLS, "Cookie": f"{name}={secret}"})).status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://console.example", 200),
        ("https://console.example:443", 200),
        ("http://console.example", 403),
        ("https://console.example.evil.example", 403),
        ("https://evil.example@console.example", 403),
        ("https://CONSOLE.example", 200),
    ],
)
async def test_the_origin_has_scheme_host_and_port(proxied: GuardedServer, origin: str, status: int) -> None:
    """Behind TLS a page of the same host over HTTP is another origin."""
    proxied.access.users.put(make_user("ann"))
    entered = await proxied.sign_in("ann", headers={**TLS, "Origin": "https://console.example"})

    answer = await proxied.send("POST", "/sign-out", {**TLS, "Cookie": entered.cookie, "Origin": origin})

    assert answer.status == status


async def test_a_stranger_cannot_claim_a_name_address_or_scheme(tmp_path: Path) -> None:
    """Headers of a proxy that the settings do not name have no effect."""
    async with run_guarded(tmp_path, ELSEWHERE) as server:
        server.access.users.put(make_user("ann", Role.ADMIN))
        forged = {**TLS, "X-User": "ann", "X-Forwarded-For": "10.0.0.1"}

        answers = [await server.send("GET", path, forged) for path in ("/", "/api/v1/groups")]
        entered = await server.sign_in("ann", headers=forged)

        assert [answer.status for answer in answers] == [303, 401]
        assert entered.headers["Set-Cookie"].startswith("ackstream=")
        assert [entry.address for entry in await server.access.audit.read()] == ["127.0.0.1"]


async def test_a_named_proxy_names_the_person(proxied: GuardedServer) -> None:
    """The role comes from the file of users. A person who has no line there is refused, even as a viewer."""
    proxied.access.users.put(User("ann", Role.OPERATOR, NO_PASSWORD))
    headers = {**TLS, "X-User": "ann", "X-Forwarded-For": "203.0.113.7, 198.51.100.2, 127.0.0.9"}

    assert orjson.loads((await proxied.send("GET", "/", headers)).text) == ["ann", "operator", "198.51.100.2"]
    assert (await proxied.send("POST", "/replay", {**headers, "Origin": "https://console.example"})).status == 200
    assert (await proxied.send("POST", "/replay", headers)).status == 403
    assert (await proxied.send("POST", "/replay", {**headers, "Sec-Fetch-Site": "cross-site"})).status == 403
    assert (await proxied.send("GET", "/", {**headers, "X-User": "eve"})).status == 403
    assert (await proxied.send("GET", "/api/v1/groups", {**headers, "X-User": "eve"})).status == 401
    assert (await proxied.send("GET", "/", [*TLS.items(), ("X-User", "ann"), ("X-User", "eve")])).status == 403


async def test_the_name_of_the_proxy_comes_before_the_cookie(proxied: GuardedServer) -> None:
    """A session of another person has no effect next to the proxy's word."""
    cookie = f"__Host-ackstream={await proxied.access.sessions.start_for_link('link:1', Role.ADMIN)}"

    assert (await proxied.send("GET", "/", {**TLS, "Cookie": cookie})).status == 200
    assert (await proxied.send("GET", "/", {**TLS, "Cookie": cookie, "X-User": "eve"})).status == 403


@pytest.mark.parametrize("hops", ["evil", "203.0.113.7, evil", "", ",", "203.0.113.7:99999, [::1", "\u00e9"])
async def test_a_malformed_list_of_hops_gives_an_address_that_is_known(proxied: GuardedServer, hops: str) -> None:
    """The last address that can be read counts; without one it is the proxy."""
    proxied.access.users.put(make_user("ann"))

    await proxied.sign_in("ann", headers={**TLS, "X-Forwarded-For": hops})

    assert [entry.address for entry in await proxied.access.audit.read()] == ["127.0.0.1"]


async def test_a_new_password_ends_the_session(server: GuardedServer) -> None:
    """A request right after the change leads to the sign-in page."""
    cookie = await server.enter("ann", Role.ADMIN)
    assert await is_in(server, cookie)

    server.access.users.put(User("ann", Role.ADMIN, NO_PASSWORD))

    assert not await is_in(server, cookie)


async def test_no_secret_is_logged(server: GuardedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """No log line has a password, right or wrong, a name that was tried, or the secret of a session."""
    server.access.users.put(make_user("ann"))

    cookie = (await server.sign_in("ann")).cookie
    await server.sign_in("my password, typed into the wrong field", "wrong")

    printed = "".join(capsys.readouterr())
    assert "sign_in.failed" in printed
    assert not any(text in printed for text in (PASSWORD, "wrong", cookie.partition("=")[2]))
