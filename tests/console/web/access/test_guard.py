"""The guard on a real server: roles, hosts, origins, headers."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from console.web.access.guard import HEADERS, local_path
from console.web.access.roles import Role
from tests.support.http.guarded import ROLES, GuardedServer, make_user, run_guarded


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[GuardedServer]:
    async with run_guarded(tmp_path) as running:
        yield running


async def test_a_stranger_reaches_public_routes_only(server: GuardedServer) -> None:
    """Without sign-in each page leads to the sign-in page, each API route is answered 401, and nothing else runs."""
    statuses = {route: (await server.send(*route)).status for route in ROLES}

    assert {route: status for route, status in statuses.items() if status == 200} == {
        ("GET", "/sign-in"): 200,
        ("GET", "/static/console.css"): 200,
    }
    assert {path for (_, path), status in statuses.items() if status == 401} == {"/api/v1/groups"}
    assert {path for (_, path), status in statuses.items() if status == 303} == {"/", "/replay", "/drop", "/sign-out"}


async def test_the_sign_in_page_knows_where_the_person_wanted_to_go(server: GuardedServer) -> None:
    """The redirect carries the path and query of a GET."""
    answer = await server.send("GET", "/dead-letters?group=a%26b&page=2")

    assert answer.headers["Location"] == "/sign-in?next=/dead-letters?group%3Da%2526b%26page%3D2"


@pytest.mark.parametrize("role", list(Role), ids=str)
async def test_a_role_reaches_its_routes_and_no_others(server: GuardedServer, role: Role) -> None:
    """Each route runs for its own role and those above it, and is answered 403 for those below."""
    cookie = await server.enter("ann", role)

    for (method, path), needed in ROLES.items():
        if path in ("/sign-in", "/sign-out"):
            continue
        answer = await server.send(method, path, {"Cookie": cookie, "Origin": server.origin})
        assert answer.status == (200 if needed is None or role >= needed else 403), path


async def test_unknown_paths_are_known_to_signed_in_people_only(server: GuardedServer) -> None:
    """An unknown path or method is 404 or 405 after sign-in; before it the answer is the same as for a page."""
    cookie = await server.enter("ann", Role.ADMIN)

    for method, path, status in (
        ("GET", "/nope", 404),
        ("POST", "/nope", 404),
        ("PUT", "/", 405),
        ("GET", "/unlisted", 404),
    ):
        assert (await server.send(method, path)).status == 303
        answer = await server.send(method, path, {"Cookie": cookie, "Origin": server.origin})
        assert answer.status == status, path
    assert (await server.send("GET", "/api/v1/nope")).status == 401


async def test_every_answer_has_the_security_headers(server: GuardedServer) -> None:
    """Success, redirect, 401, 404 and 421 all have them, no answer may be stored, and none names the server."""
    cookie = await server.enter("ann")

    for path, headers in (
        ("/", {"Cookie": cookie}),
        ("/", {}),
        ("/api/v1/groups", {}),
        ("/nope", {"Cookie": cookie}),
        ("/", {"Host": "evil.example"}),
    ):
        answer = await server.send("GET", path, headers)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Server" not in answer.headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example",
        "10.0.0.1:{port}",
        "",
        "localhost:x",
        "[::1",
        "a b",
    ],
)
async def test_a_foreign_host_name_is_misdirected(server: GuardedServer, host: str) -> None:
    """A page that points its own name at this machine gets 421 on each route, even on public ones."""
    cookie = await server.enter("ann")

    for path in ("/", "/sign-in", "/static/x", "/nope"):
        answer = await server.send("GET", path, {"Host": host.format(port=server.port), "Cookie": cookie})
        assert answer.status in (400, 421), (path, answer)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "[0:0:0:0:0:0:0:1]"]
)
async def test_the_own_host_names_are_accepted(server: GuardedServer, host: str) -> None:
    """A console on loopback answers to its address and to localhost, with any port."""
    assert (await server.send("GET", "/sign-in", {"Host": host.format(port=server.port)})).status == 200


@pytest.mark.parametrize(
    ("headers", "is_accepted"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "{own}"}, False),
        ({"Origin": "{own}"}, True),
        ({"Origin": "{own}0"}, False),
        ({"Origin": "http://127.0.0.1"}, False),
        ({"Origin": "https://127.0.0.1:{port}"}, False),
        ({"Origin": "http://localhost:{port}"}, False),
        ({"Origin": "{own}/"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({}, False),
        ([("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")], False),
        ([("Origin", "{own}"), ("Origin", "http://evil.example")], False),
    ],
    ids=str,
)
async def test_only_own_pages_may_act(server: GuardedServer, headers: dict[str, str], is_accepted: bool) -> None:
    """A POST with a session counts only from a page of the console's own origin."""
    cookie = await server.enter("ann", Role.ADMIN)
    pairs = [*(headers.items() if isinstance(headers, dict) else headers), ("Cookie", cookie)]
    sent = [(name, value.format(own=server.origin, port=server.port)) for name, value in pairs]

    for path in ("/drop", "/api/v1/groups"):
        assert (await server.send("POST", path, sent)).status == (200 if is_accepted else 403)


async def test_another_site_cannot_sign_a_person_in(server: GuardedServer) -> None:
    """The sign-in form counts from the console's own page, or from a program without credentials."""
    server.access.users.put(make_user("mallory"))

    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert (await server.sign_in("mallory", headers=headers)).status == 403
    for headers in ({}, {"Origin": server.origin}, {"Sec-Fetch-Site": "none"}):
        assert (await server.sign_in("mallory", headers=headers)).status == 200


async def test_a_token_works_on_the_api_only(server: GuardedServer) -> None:
    """A bearer token needs no cookie and no origin, has its role, and opens no page."""
    secret = await server.access.tokens.add("ci", Role.OPERATOR)
    bearer = {"Authorization": f"Bearer {secret}", "Sec-Fetch-Site": "cross-site"}

    answer = await server.send("POST", "/api/v1/groups", bearer)

    assert (answer.status, orjson.loads(answer.text)[:2]) == (200, ["token:ci", "operator"])
    assert (await server.send("GET", "/", bearer)).status == 303
    assert (await server.send("POST", "/replay", bearer)).status == 403
    await server.access.tokens.remove("ci")
    assert (await server.send("POST", "/api/v1/groups", bearer)).status == 401


async def test_a_wrong_token_is_not_replaced_by_the_cookie(server: GuardedServer) -> None:
    """A request with a token that is not valid is answered 401, even with a valid session."""
    cookie = await server.enter("ann", Role.ADMIN)

    answer = await server.send("GET", "/api/v1/groups", {"Cookie": cookie, "Authorization": "Bearer x"})

    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_a_password_of_a_proxy_does_not_hide_the_session(server: GuardedServer) -> None:
    """A proxy may ask for a password of its own; the browser then sends it with every request, and it means nothing."""
    cookie = await server.enter("ann", Role.OPERATOR)
    basic = {"Cookie": cookie, "Authorization": "Basic YW5uOnNlY3JldA=="}

    assert (await server.send("GET", "/api/v1/groups", basic)).status == 200
    assert (await server.send("POST", "/api/v1/groups", basic)).status == 403
    assert (await server.send("POST", "/api/v1/groups", {**basic, "Origin": server.origin})).status == 200


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/dead-letters?group=a", "/dead-letters?group=a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/sign-in?next=/", "/"),
        ("", "/"),
        ("/" + "a" * 2000, "/"),
    ],
)
def test_the_target_after_sign_in_is_a_page_of_the_console(path: str, target: str) -> None:
    """A link cannot use the sign-in page to lead elsewhere."""
    assert local_path(path) == target
